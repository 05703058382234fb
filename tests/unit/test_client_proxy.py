"""The way through a proxy of the environment: what it sees, and what its refusals become."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from collector.errors import ConfigurationError
from collector.jdcloud import protocol
from collector.jdcloud.client import Client, Signer
from collector.jdcloud.credentials import Credentials
from collector.models import Outcome
from collector.text import scrub
from tests.support.simulator import SimulatorOptions, running

PEM = Path(__file__).parent.parent / "data" / "tls" / "localhost.pem"
KEYS = Credentials("simulator", "simulator")
CALL = protocol.describe_image("cn-north-1", "img-nowhere")
PASSWORD = "pass-0f-the-proxy"


class Connect:
    """A proxy that knows CONNECT, or answers it with `refusal`; it keeps what it was asked."""

    def __init__(self, refusal: str | None = None) -> None:
        self.refusal = refusal
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        if self.refusal is not None:
            writer.write(f"HTTP/1.1 {self.refusal}\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()
            return
        host, _, port = head.split()[1].partition(":")
        there_reader, there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, there), pump(there_reader, writer))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


def client() -> Client:
    trusted = ssl.create_default_context(cafile=PEM)
    return Client(timeout_s=5.0, max_response_bytes=1 << 20, tls=trusted)


def options(*, tls: bool = True) -> SimulatorOptions:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return SimulatorOptions(images=1, tls=context if tls else None)


async def test_a_signed_request_passes_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy learns host and port, and its own password; the endpoint takes the signature."""
    proxy = Connect()
    async with running(options()) as simulator, proxy.listening() as port, client() as sender:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PASSWORD}@127.0.0.1:{port}")
        signer = Signer(KEYS, simulator.url.replace("127.0.0.1", "localhost"))
        replies = [await sender.send(CALL, signer) for _ in range(2)]

    assert [reply.outcome for reply in replies] == [Outcome.NOT_FOUND] * 2
    assert sender.requests == simulator.requests["describeImage"] == 2
    (head,) = proxy.asked
    assert head.startswith("CONNECT localhost:")
    assert b64encode(f"user:{PASSWORD}".encode()).decode() in head
    assert "jdcloud" not in head.lower()


@pytest.mark.parametrize("tls", [True, False])
async def test_who_needs_no_proxy(tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `NO_PROXY` names is reached directly, and `http://`, on loopback, always is."""
    proxy = Connect()
    async with running(options(tls=tls)) as simulator, proxy.listening() as port:
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        if tls:
            monkeypatch.setenv("NO_PROXY", "internal.example,localhost")
        signer = Signer(KEYS, simulator.url.replace("127.0.0.1", "localhost"))
        async with client() as sender:
            reply = await sender.send(CALL, signer)

    assert reply.outcome is Outcome.NOT_FOUND
    assert not proxy.asked


@pytest.mark.parametrize(
    ("refusal", "retryable"),
    [
        ("407 Proxy Authentication Required", False),
        ("403 Forbidden", False),
        ("503 Service Unavailable", True),
    ],
)
async def test_a_proxy_that_refuses(
    refusal: str, retryable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named without its password; nothing was sent, and what it forbids is not repeated."""
    proxy = Connect(refusal)
    async with proxy.listening() as port, client() as sender:
        monkeypatch.setenv("https_proxy", f"user:{PASSWORD}@127.0.0.1:{port}")
        reply = await sender.send(CALL, Signer(KEYS, "https://vm.example"))

    assert (reply.outcome, reply.http_status) == (Outcome.NETWORK_ERROR, None)
    assert reply.retryable is retryable
    assert reply.error_message == f"the proxy 127.0.0.1:{port} made no connection: {refusal}"
    assert sender.requests == 0
    assert PASSWORD not in scrub(f"leaked {PASSWORD}")


async def test_a_proxy_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line tells that it was the proxy, not the endpoint."""
    monkeypatch.setenv("https_proxy", f"http://user:{PASSWORD}@127.0.0.1:1")
    async with client() as sender:
        reply = await sender.send(CALL, Signer(KEYS, "https://vm.example"))

    assert (reply.outcome, reply.retryable) == (Outcome.NETWORK_ERROR, True)
    assert reply.error_message == "cannot connect to the proxy 127.0.0.1:1: Connection refused"


@pytest.mark.parametrize(
    "address", ["socks5://u:{}@h:1", "https://u:{}@h:1", "http://u:{}@h:port", "http://u:{}@"]
)
def test_a_proxy_that_cannot_be_used(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, rather than passed by, and its password is not shown."""
    monkeypatch.setenv("https_proxy", address.format(PASSWORD))
    with pytest.raises(ConfigurationError, match=r"https_proxy: .*http://") as caught:
        Signer(KEYS, "https://vm.example")

    assert PASSWORD not in str(caught.value)
    assert scrub(str(caught.value)) == str(caught.value)
