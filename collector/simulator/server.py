"""A local stand-in for JD Cloud's VM endpoint, after the API's pages and its gateway's words."""

import asyncio
import re
import ssl
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from random import Random
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
from aiohttp import web

from collector.errors import UnavailableError
from collector.ids import PUBLISHED_REGIONS
from collector.simulator.faults import ERRORS, JSON, Faults, envelope, inject
from collector.simulator.images import SOURCES, Inventory, matches
from collector.simulator.signatures import Claim, Verifier, read_claim
from collector.text import os_reason

__all__ = ["Simulator", "SimulatorOptions", "running"]

HOST = "127.0.0.1"
SHUTDOWN_S = 0.2
"""How long a handler may go on when the server stops (seconds)."""

MAX_IDS = 100

ADMIN = "/_simulator"
NO_REGION = "?"
_PATH = re.compile("/v1/regions/([^/]+)/images(?:/([^/]+)(/members)?)?")
_FILTERS = (
    *("imageSource", "platform", "imageName", "rootDeviceType", "launchPermission", "status"),
    *("architecture", "bootMode"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """How a simulator behaves; without options it answers at once, without limit and fault.

    Attributes:
        port: 0 picks a free one.
        rate_limit: requests a second of one access key in one region; 0: no limit.
        latency: seconds that every answer takes.
        faults: see `collector.simulator.faults.Faults`.
        security_token: required in every request, raw or in base64; None: any is tolerated.
        verify: whether signatures are checked; off for benchmarks only.
        tls: serves https with this context.
    """

    port: int = 0
    images: int = 500
    seed: int = 0
    regions: tuple[str, ...] = PUBLISHED_REGIONS
    rate_limit: float = 0.0
    latency: float = 0.0
    faults: str | Faults = ""
    access_key: str = "simulator"
    secret_key: str = "simulator"  # noqa: S105 - public by design
    security_token: str | None = None
    verify: bool = True
    tls: ssl.SSLContext | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], **options: Any) -> "SimulatorOptions":
        """Options whose credentials are those that `collector` itself would read from `environ`."""
        return cls(
            access_key=environ.get("JDCLOUD_ACCESS_KEY") or "simulator",
            secret_key=environ.get("JDCLOUD_SECRET_KEY") or "simulator",
            security_token=environ.get("JDCLOUD_SECURITY_TOKEN") or None,
            **options,
        )


class Simulator(Inventory):
    """An inventory and the endpoint that shows it.

    Raises:
        UsageError: the faults are none.

    Attributes:
        url: where it listens.
        faults: may be replaced at any time; its shares of images were read at the start.
        requests: requests by call; what has no route is `other`.
        injected: faults by name.
        credentials: secret key by access key; may be changed at any time.
        clock: gives arrivals their time (seconds).
    """

    def __init__(self, options: SimulatorOptions) -> None:
        chosen = options.faults
        self.faults = Faults.parse(chosen) if isinstance(chosen, str) else chosen
        super().__init__(
            images=options.images,
            seed=options.seed,
            regions=options.regions,
            delete=self.faults.delete,
            change=self.faults.change,
            epoch=self.faults.epoch,
        )
        self.url = ""
        self.requests: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.clock: Callable[[], float] = time.monotonic
        self.options = options
        keys = {options.access_key: options.secret_key}
        self._verifier = Verifier(keys, options.security_token)
        self.credentials = self._verifier.credentials
        self._random = Random(options.seed)  # noqa: S311 - repeatable faults, no secret
        self._admitted: dict[tuple[str, str], deque[float]] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request."""
        arrived = self.clock()
        path, _, query = request.raw_path.partition("?")
        if path.startswith(ADMIN):
            return self._administer(request.method, path)
        call, region, image_id = self._route(request.method, path)
        self.requests[call] += 1
        claim = read_claim(request.headers.get("Authorization"))
        access_key = claim.access_key if claim and claim.access_key in self.credentials else "?"
        if self.options.latency:
            await asyncio.sleep(self.options.latency)
        request_id, fault = f"{self._random.getrandbits(128):032x}", None
        try:
            await self._check(request, claim, region)
            self._throttle(access_key, region, arrived)
            fault = self.faults.draw(self._random, region)
            result = await self._result(fault or "", call, region, image_id, query)
            status, body = 200, b'{"requestId":"%b","result":%b}' % (request_id.encode(), result)
        except _Refusal as refusal:
            status, body = refusal.args[0], envelope(request_id, *refusal.args)
        response = self._response(status, body, request_id)
        if fault is None:
            return response
        self.injected[fault] += 1
        return await inject(fault, self.faults, request, response, body)

    def _response(self, status: int, body: bytes, request_id: str) -> web.Response:
        headers = {"Content-Type": JSON, "x-jdcloud-request-id": request_id}
        if self.faults.clock_skew:
            headers["Date"] = formatdate(time.time() + self.faults.clock_skew, usegmt=True)
        if self.faults.retry_after is not None and status in (429, 503):
            headers["Retry-After"] = f"{self.faults.retry_after:g}"
        return web.Response(status=status, body=body, headers=headers)

    def _route(self, method: str, path: str) -> tuple[str, str, str]:
        match = _PATH.fullmatch(path)
        if method != "GET" or match is None or match[1] not in self.regions:
            return "other", NO_REGION, ""
        call = "describeImages" if match[2] is None else "describeImage"
        return call + ("Members" if match[3] else ""), match[1], unquote(match[2] or "")

    async def _check(self, request: web.BaseRequest, claim: Claim | None, region: str) -> None:
        if region == NO_REGION:
            raise _Refusal(*ERRORS["404"])
        if self.options.verify:
            message = self._verifier.refusal(
                claim,
                request.method,
                request.raw_path,
                request.headers,
                await request.read() if request.can_read_body else b"",
                region=region,
                now=time.time() + self.faults.clock_skew,
            )
            if message is not None:
                raise _Refusal(401, "ACCESS_ERROR", message)

    def _throttle(self, access_key: str, region: str, now: float) -> None:
        """Counts the request in its sliding window, unless that is full."""
        if limit := self.options.rate_limit:
            size = max(1, int(limit))
            window = self._admitted.setdefault((access_key, region), deque(maxlen=size))
            if len(window) == size and now - window[0] < size / limit:
                raise _Refusal(*ERRORS["429"])
            window.append(now)

    async def _result(self, fault: str, call: str, region: str, image_id: str, query: str) -> bytes:
        if fault in ERRORS:
            raise _Refusal(*ERRORS[fault])
        if call == "describeImages":
            return await self._list(region, parse_qsl(query))
        body = self.body(region, image_id)
        if body is None:
            raise _Refusal(404, "NOT_FOUND", f"Image '{image_id}' not found")
        if call == "describeImage":
            return b'{"image":%b}' % body
        if (self.image(region, image_id) or {}).get("imageSource") != "private":
            raise _Refusal(400, "INVALID_ARGUMENT", f"Image '{image_id}' is not private")
        pins = self.members(region, image_id)
        return msgspec.json.encode({"pins": pins, "loginNames": pins})

    async def _list(self, region: str, parameters: list[tuple[str, str]]) -> bytes:
        given = dict(parameters)
        ids = dict.fromkeys(value for name, value in parameters if name.startswith("ids."))
        page = _integer(given, "PageNumber", 1, range(1, 10**9))
        size = _integer(given, "PageSize", 20, range(10, 101))
        filters = {name: given[name] for name in _FILTERS if given.get(name)}
        if len(ids) > MAX_IDS:
            raise _Refusal(400, "OUT_OF_RANGE", f"ids out of range, {MAX_IDS} at most")
        if ids:
            asked = ((image_id, self.image(region, image_id)) for image_id in ids)
            found = [image_id for image_id, image in asked if image and matches(image, filters)]
        elif "imageSource" not in filters:
            raise _Refusal(400, "FAILED_PRECONDITION", "Parameter ImageSource missing")
        elif filters["imageSource"] not in SOURCES:
            raise _Refusal(400, "INVALID_ARGUMENT", "Parameter ImageSource invalid")
        else:
            # Images taken out of service are listed only for those who ask for them.
            offline = {"offline": given.get("offline", "false").lower()}
            sold = filters["imageSource"] in ("public", "thirdparty")
            found = await self.select(region, filters | offline if sold else filters)
        # Whether paging cuts a call by ids too is not documented; this is the stricter reading.
        bodies = [self.body(region, image_id) for image_id in found[(page - 1) * size :][:size]]
        listed = b",".join(body for body in bodies if body is not None)
        return b'{"images":[%b],"totalCount":%d}' % (listed, len(found))

    def _administer(self, method: str, path: str) -> web.Response:
        """The simulator's own calls: `GET` shows the counts, `POST …/epoch` begins an epoch."""
        if (method, path) == ("POST", f"{ADMIN}/epoch"):
            self.advance()
        elif (method, path) != ("GET", ADMIN):
            return web.json_response({}, status=404)
        return web.json_response(body=msgspec.json.encode(self.counts()))

    def counts(self) -> dict[str, Any]:
        """What `GET` shows."""
        return {"epoch": self.epoch, "requests": self.requests, "injected": self.injected}


S = TypeVar("S", bound=Simulator)


class _Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """HTTP status, `status` and message of the envelope that answers."""


def _integer(given: Mapping[str, str], name: str, usual: int, allowed: range) -> int:
    text = given.get(name[0].lower() + name[1:], str(usual))
    if re.fullmatch("[0-9]{1,9}", text) is None:
        raise _Refusal(400, "INVALID_ARGUMENT", f"{name} invalid")
    if int(text) not in allowed:
        raise _Refusal(400, "OUT_OF_RANGE", f"{name} out of range")
    return int(text)


@asynccontextmanager
async def running(simulator: S) -> AsyncIterator[S]:
    """Let a simulator listen as long as the context lasts.

    Raises:
        UnavailableError: the port is taken.
    """
    options = simulator.options
    server = web.Server(simulator.handle, access_log=None, handler_cancellation=True)
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, options.port, ssl_context=options.tls)
        try:
            await site.start()
        except OSError as error:
            where = f"{HOST}:{options.port}"
            raise UnavailableError(f"cannot listen on {where}: {os_reason(error)}") from None
        scheme = "https" if options.tls else "http"
        simulator.url = f"{scheme}://{HOST}:{runner.addresses[0][1]}"
        yield simulator
    finally:
        await runner.cleanup()
