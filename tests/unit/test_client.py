"""One attempt over real sockets: what is sent, what is counted, and what every fault becomes."""

import asyncio
import gzip
import json
import re
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from jdcloud_sdk.core.credential import Credential
from jdcloud_sdk.core.logger import FATAL, Logger
from jdcloud_sdk.core.signer import Signer as SdkSigner

from collector import __version__
from collector.errors import LeaseLostError
from collector.jdcloud import protocol
from collector.jdcloud.client import Client, Signer
from collector.jdcloud.credentials import Credentials
from collector.models import Outcome
from tests.support.simulator import SimulatorOptions, running

PEM = Path(__file__).parent.parent / "data" / "tls" / "localhost.pem"
CALL = protocol.describe_image("cn-north-1", "img-m5s0000029")
ANSWER = json.dumps({"requestId": "r1", "result": {"image": {"imageId": "img-m5s0000029"}}})
KEYS = Credentials("AK", "SK", "tok")
CAP = 1 << 20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def client(**changes: Any) -> Client:
    return Client(**{"timeout_s": 5.0, "max_response_bytes": CAP} | changes)


@asynccontextmanager
async def endpoint(handler: Handler) -> AsyncIterator[Signer]:
    """An aiohttp server on loopback that answers everything by `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server:
        yield Signer(KEYS, str(server.make_url("")))


class Wire:
    """A loopback server without HTTP: `answers` says what each request of a connection gets.

    Bytes are written; `close` and `reset` end the connection, as `hang_up` does after the last of
    them; more requests than answers reset it.
    """

    def __init__(self, *answers: bytes | str, hang_up: bool = False) -> None:
        self.answers = answers
        self.hang_up = hang_up
        self.connections = 0
        self.requests: list[bytes] = []
        self.asked, self.ended = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for answer in (*self.answers, *([] if self.hang_up else ["reset"])):
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                self.asked.set()
                if answer == "close":
                    break
                if answer == "reset":
                    writer.transport.abort()
                    break
                assert isinstance(answer, bytes)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.ended.set()

    @asynccontextmanager
    async def listening(self, **options: Any) -> AsyncIterator[int]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, **options)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()


def http(
    body: bytes | str, *, status: int = 200, length: int | None = None, more: str = ""
) -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    length = len(raw) if length is None else length
    return f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{more}\r\n".encode() + raw


def at(port: int) -> Signer:
    return Signer(KEYS, f"http://127.0.0.1:{port}")


async def test_a_departure_is_told_when_the_bytes_go_out() -> None:
    """Once for each request that leaves; never for one that finds no connection."""
    told: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        assert len(told) == 1
        return web.Response(text=ANSWER)

    async with client() as sender, endpoint(answer) as signer:
        refused = await sender.send(CALL, at(1), lambda: told.append(sender.requests))
        assert refused.outcome is Outcome.NETWORK_ERROR
        reply = await sender.send(CALL, signer, lambda: told.append(sender.requests))
        assert reply.outcome is Outcome.PRESENT
    assert told == [1]


async def test_a_signed_get() -> None:
    """A request is one GET whose signature the official signer, given what arrived, repeats."""
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(text=ANSWER, content_type="application/json")

    async with endpoint(handler) as two, client() as sender:
        three = Signer(KEYS, f"{two._base}/some prefix/", scheme="JDCLOUD3")
        for call in (CALL, protocol.describe_images("cn-north-1", ["a", "b"])):
            reply = await sender.send(call, three)

            assert reply.outcome is Outcome.PRESENT

    for request in seen:
        signed = re.search("SignedHeaders=([^,]+)", request.headers["Authorization"])
        assert signed is not None
        theirs = {name: request.headers[name] for name in signed[1].split(";") if name != "host"}
        SdkSigner(Logger(FATAL)).signV3(
            method=request.method,
            service="vm",
            region="cn-north-1",
            host=request.headers["Host"],
            path=request.rel_url.raw_path,
            query=request.rel_url.raw_query_string,
            headers=theirs,
            data="",
            credential=Credential("AK", "SK"),
            security_token="tok",
        )
        assert request.headers["Authorization"] == theirs["Authorization"]
        assert (request.method, request.can_read_body) == ("GET", False)
        assert request.headers["User-Agent"] == f"collector/{__version__}"
    assert seen[0].rel_url.raw_path == "/some%20prefix" + CALL.path
    assert seen[1].rel_url.raw_query_string == "ids.1=a&ids.2=b&pageSize=100"
    assert sender.requests == 2


async def test_every_attempt_is_its_own() -> None:
    """Nonces differ from attempt to attempt, the date is now, and no cookie is kept."""
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers)
        return web.Response(text=ANSWER, headers={"Set-Cookie": "a=b"})

    async with endpoint(handler) as account, client() as sender:
        for _ in range(20):
            await sender.send(CALL, account)

    assert len({headers["x-jdcloud-nonce"] for headers in seen}) == 20
    assert not any("Cookie" in headers for headers in seen)
    sent = datetime.strptime(seen[0]["x-jdcloud-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - sent) < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://vm.jdcloud-api.com", "vm.jdcloud-api.com"),
        ("https://vm.jdcloud-api.com:443/", "vm.jdcloud-api.com"),
        ("https://vm.jdcloud-api.com:8443", "vm.jdcloud-api.com:8443"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_the_signed_host_is_the_one_sent(address: str, host: str) -> None:
    """The port is part of the host header unless it is the scheme's own."""
    url, headers = Signer(KEYS, address).request(CALL, now=datetime.now(UTC), nonce="n")

    assert headers["host"] == host
    assert url.raw_path == CALL.path


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("ours", [True, False], ids=["client", "bare aiohttp"])
async def test_a_dropped_connection_repeats_nothing(end: str, ours: bool) -> None:
    """Where a kept-alive connection breaks, bare aiohttp sends the request again; we do not."""
    wire = Wire(http(ANSWER), end)

    async with wire.listening() as port:
        if ours:
            async with client() as sender:
                first = await sender.send(CALL, at(port))
                second = await sender.send(CALL, at(port))

            assert (first.outcome, second.outcome) == (Outcome.PRESENT, Outcome.NETWORK_ERROR)
            assert second.retryable
            assert len(wire.requests) == sender.requests == 2
            assert wire.connections == 1
        else:
            async with ClientSession() as session:
                for _ in range(2):
                    async with session.get(f"http://127.0.0.1:{port}/") as response:
                        await response.read()

            assert len(wire.requests) == 3


async def test_a_fresh_attempt_takes_no_kept_connection() -> None:
    """Where kept-alive connections do not live, a repetition closes what it finds and opens one."""
    wire = Wire(http(ANSWER))

    async with wire.listening() as port, client() as sender:
        await asyncio.gather(*(sender.send(CALL, at(port)) for _ in range(3)))
        broken = await sender.send(CALL, at(port))
        healed = await sender.send(CALL, at(port), fresh=True)

        assert broken.outcome is Outcome.NETWORK_ERROR
        assert healed.outcome is Outcome.PRESENT
        assert len(wire.requests) == sender.requests == 5
        assert wire.connections == 4


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_connection_that_breaks_under_the_first_request(end: str) -> None:
    """A request that gets no answer is one request and one retryable network error."""
    wire = Wire(end)

    async with wire.listening() as port, client() as sender:
        reply = await sender.send(CALL, at(port))

    assert (reply.outcome, reply.retryable) == (Outcome.NETWORK_ERROR, True)
    assert reply.error_message
    assert len(wire.requests) == sender.requests == 1


async def test_nobody_listens() -> None:
    """A refused connection is a retryable network error, and no request was sent."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with client() as sender:
            reply = await sender.send(CALL, at(port))

    assert (reply.outcome, reply.http_status, reply.retryable) == (
        Outcome.NETWORK_ERROR,
        None,
        True,
    )
    assert reply.error_message == f"cannot connect to 127.0.0.1:{port}: Connection refused"
    assert sender.requests == 0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            socket.gaierror(-2, "Name or service not known"),
            "cannot connect to vm.example:443: Name or service not known",
        ),
        (UnicodeError("label too long"), "label too long"),
    ],
)
async def test_names_that_do_not_resolve(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that the resolver does not know, or cannot even encode, is a network error."""

    def getaddrinfo(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with client() as sender:
        reply = await sender.send(CALL, Signer(KEYS, "https://vm.example"))

    assert (reply.outcome, reply.retryable) == (Outcome.NETWORK_ERROR, True)
    assert reply.error_message == message
    assert sender.requests == 0


async def test_redirects_are_not_followed() -> None:
    """A redirect, to this host or another, is reported and nothing more is sent."""
    elsewhere = Wire(http(ANSWER))

    async with elsewhere.listening() as port:

        async def handler(request: web.Request) -> web.Response:
            raise web.HTTPFound(f"http://127.0.0.1:{port}{request.path}")

        async with endpoint(handler) as account, client() as sender:
            reply = await sender.send(CALL, account)

    assert (reply.outcome, reply.http_status) == (Outcome.INVALID_RESPONSE, 302)
    assert not reply.retryable
    assert (elsewhere.connections, sender.requests) == (0, 1)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize(("over", "outcome"), [(0, "present"), (1, "invalid_response")])
async def test_the_size_limit_is_exact(gzipped: bool, over: int, outcome: str) -> None:
    """A body of just the allowed size is read, one byte more is refused for good."""
    body = ANSWER.encode().ljust(CAP + over)

    async def handler(_: web.Request) -> web.Response:
        response = web.Response(body=body)
        if gzipped:
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async with endpoint(handler) as account, client() as sender:
        reply = await sender.send(CALL, account)
        again = await sender.send(CALL, account)

    assert (reply.outcome, reply.retryable) == (Outcome(outcome), False)
    assert again.outcome is reply.outcome
    assert over == 0 or reply.error_message == f"over {CAP} bytes"


async def test_a_gzip_bomb_does_not_expand() -> None:
    """256 MiB of zeros in 256 KiB are refused at the limit, without ever being in memory."""
    bomb = gzip.compress(bytes(1 << 28), 9)

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with endpoint(handler) as account, client() as sender:
        tracemalloc.start()
        try:
            reply = await sender.send(CALL, account)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert (reply.outcome, reply.http_status) == (Outcome.INVALID_RESPONSE, 200)
    assert peak < 8 * CAP


@pytest.mark.parametrize(
    ("status", "outcome", "retryable"),
    [
        (503, Outcome.SERVER_ERROR, True),
        (401, Outcome.DENIED, False),
        (404, Outcome.INVALID_RESPONSE, False),
    ],
)
@pytest.mark.parametrize("fault", ["oversize", "cut"])
async def test_a_failure_with_a_broken_body(
    status: int, outcome: Outcome, retryable: bool, fault: str
) -> None:
    """The status of a failure is taken although its body is cut or too long."""
    body = b"x" * (CAP + 1) if fault == "oversize" else b'{"error"'
    wire = Wire(http(body, status=status, length=CAP + 1), hang_up=True)

    async with wire.listening() as port, client() as sender:
        reply = await sender.send(CALL, at(port))

    assert (reply.outcome, reply.http_status, reply.retryable) == (outcome, status, retryable)


@pytest.mark.parametrize(
    "answer",
    [
        http(ANSWER, length=len(ANSWER) + 10),
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"req\r\n',
        http(b"\x1f\x8bnonsense", more="Content-Encoding: gzip\r\n"),
        http(gzip.compress(ANSWER.encode())[:-12], more="Content-Encoding: gzip\r\n"),
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        http(ANSWER[:-5]),
    ],
    ids=["cut", "cut chunk", "bad gzip", "cut gzip", "not HTTP", "huge header", "cut JSON"],
)
async def test_broken_answers_can_heal(answer: bytes) -> None:
    """A 200 that is cut or garbled is `invalid_response`, worth another attempt."""
    wire = Wire(answer, hang_up=True)

    async with wire.listening() as port, client() as sender:
        reply = await sender.send(CALL, at(port))

    assert (reply.outcome, reply.retryable) == (Outcome.INVALID_RESPONSE, True)
    assert reply.error_message
    assert sender.requests == 1


@pytest.mark.parametrize("start", [b"", http(ANSWER, length=len(ANSWER) + 1)], ids=["mute", "slow"])
async def test_an_attempt_has_a_total_timeout(start: bytes) -> None:
    """Neither silence nor a body that never ends holds an attempt longer than its timeout."""
    wire = Wire(start, b"")

    async with wire.listening() as port, client(timeout_s=0.2) as sender:
        reply = await sender.send(CALL, at(port))

    assert (reply.outcome, reply.retryable) == (Outcome.TIMEOUT, True)
    assert reply.error_message == "no complete answer within 0.2 s"


class Guard:
    """A lease check that can be lost."""

    def __init__(self) -> None:
        self.lost = False
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.lost:
            raise LeaseLostError("the lease of ak:0 is lost")


@pytest.mark.parametrize("kept_alive", [False, True])
async def test_without_the_lease_no_byte_is_sent(kept_alive: bool) -> None:
    """The guard speaks once there is a connection, new or kept; what it raises stops all."""
    wire, guard = Wire(http(ANSWER), http(ANSWER)), Guard()

    async with wire.listening() as port, client(guard=guard) as sender:
        if kept_alive:
            await sender.send(CALL, at(port))
        guard.lost = True
        with pytest.raises(LeaseLostError, match="ak:0"):
            await sender.send(CALL, at(port))
        await wire.ended.wait()

    assert wire.connections == 1
    assert len(wire.requests) == sender.requests == int(kept_alive)
    assert guard.calls == int(kept_alive) + 1


async def test_cancellation_passes() -> None:
    """A cancelled attempt ends as cancelled, and the client still works."""
    wire = Wire(b"")

    async with wire.listening() as port, client() as sender:
        task = asyncio.create_task(sender.send(CALL, at(port)))
        await wire.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        wire.answers = (http(ANSWER),)

        assert (await sender.send(CALL, at(port))).outcome is Outcome.PRESENT


def server_tls(newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = newest
    return context


@pytest.mark.parametrize(
    ("trusted", "name", "outcome", "reason"),
    [
        (True, "localhost", Outcome.PRESENT, None),
        (False, "localhost", Outcome.NETWORK_ERROR, "self-signed certificate"),
        (True, "127.0.0.1", Outcome.NETWORK_ERROR, "IP address mismatch, certificate is not valid"),
    ],
    ids=["sound", "self-signed", "wrong name"],
)
async def test_certificates_are_verified(
    trusted: bool, name: str, outcome: Outcome, reason: str | None
) -> None:
    """A certificate that is not trusted, or of another name, gets no request and no retry."""
    wire = Wire(http(ANSWER))
    tls = ssl.create_default_context(cafile=PEM) if trusted else None

    async with wire.listening(ssl=server_tls()) as port, client(tls=tls) as sender:
        reply = await sender.send(CALL, Signer(KEYS, f"https://{name}:{port}"))

    assert (reply.outcome, reply.retryable) == (outcome, False)
    if reason is None:
        assert reply.error_message is None
    else:
        assert (reply.error_message or "").startswith(f"cannot connect to {name}:{port}: {reason}")
    assert len(wire.requests) == sender.requests == int(outcome is Outcome.PRESENT)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("newest", "accepted"), [("TLSv1_1", False), ("TLSv1_2", True)])
async def test_tls_is_at_least_1_2(newest: str, accepted: bool) -> None:
    """An endpoint that offers at most TLS 1.1 is refused, even with a context that allows it."""
    tls = ssl.create_default_context(cafile=PEM)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    tls.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    wire = Wire(http(ANSWER))

    async with (
        wire.listening(ssl=server_tls(ssl.TLSVersion[newest])) as port,
        client(tls=tls) as sender,
    ):
        reply = await sender.send(CALL, Signer(KEYS, f"https://localhost:{port}"))

    assert (reply.outcome is Outcome.PRESENT) is accepted
    if not accepted:
        assert reply.outcome is Outcome.NETWORK_ERROR
        assert reply.error_message == f"cannot connect to localhost:{port}: ConnectionResetError"


async def test_clock_skew() -> None:
    """The difference to the endpoint's clock is read off its last answer; nonsense is no answer."""
    dates = [format_datetime(datetime.now(UTC) + timedelta(seconds=90)), "soon"]
    dates += ["Mon, 01 Jan 99999999999 00:00:00 GMT"]

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=ANSWER, headers={"Date": dates.pop(0)})

    async with endpoint(handler) as account, client() as sender:
        assert sender.clock_skew_s is None
        await sender.send(CALL, account)
        assert sender.clock_skew_s == pytest.approx(90, abs=10)
        for _ in range(2):
            await sender.send(CALL, account)
            assert sender.clock_skew_s is None


async def test_no_limit_but_the_callers() -> None:
    """Connections are not limited here: 150 requests are in flight at once."""
    waiting, everybody = 0, asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        nonlocal waiting
        waiting += 1
        if waiting == 150:
            everybody.set()
        await everybody.wait()
        return web.Response(text=ANSWER)

    async with endpoint(handler) as account, client() as sender, asyncio.TaskGroup() as group:
        tasks = [group.create_task(sender.send(CALL, account)) for _ in range(150)]
        await everybody.wait()

    assert {task.result().outcome for task in tasks} == {Outcome.PRESENT}


@pytest.mark.parametrize("scheme", ["JDCLOUD2", "JDCLOUD3"])
@pytest.mark.parametrize("encoding", ["raw", "base64"])
async def test_the_simulator_accepts_our_signatures(scheme: Any, encoding: Any) -> None:
    """The simulator, whose verifier is not our code, takes every call; not a wrong secret."""
    options = SimulatorOptions(images=40, access_key="AK", secret_key="SK", security_token="tok")

    async with running(options) as simulator, client() as sender:
        signing: dict[str, Any] = {"scheme": scheme, "token_encoding": encoding}
        right = Signer(KEYS, simulator.url, **signing)
        wrong = Signer(Credentials("AK", "sk", "tok"), simulator.url, **signing)
        listed = await sender.send(protocol.list_images("cn-north-1", "private", 1, 10), right)
        assert listed.result is not None
        ids = [image["imageId"] for image in listed.result["images"]]
        for call in (
            protocol.describe_image("cn-north-1", ids[0]),
            protocol.describe_images("cn-north-1", ids),
            protocol.describe_image_members("cn-north-1", ids[0]),
        ):
            assert (await sender.send(call, right)).outcome is Outcome.PRESENT
            refused = await sender.send(call, wrong)
            assert (refused.outcome, refused.retryable) == (Outcome.DENIED, False)
        absent = await sender.send(protocol.describe_image("cn-north-1", "img-nowhere"), right)

    assert absent.outcome is Outcome.NOT_FOUND
