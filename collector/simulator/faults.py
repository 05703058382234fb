"""The faults the simulator answers with, and the language that asks for them (`--faults`)."""

import asyncio
import gzip
import math
import re
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import msgspec
from aiohttp import web

from collector.errors import UsageError

__all__ = ["BODIES", "ERRORS", "FAULTS", "Faults", "envelope", "inject"]

HUGE_BYTES = 64 * 2**20
"""Size of the answer of `huge`, and of `gzip_bomb` once it is unpacked."""

HANG_S = 3600.0
DRIP_S = 0.2
"""Seconds between two bytes of `slow_loris`."""

JSON = "application/json; charset=utf-8"

_HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"

ERRORS: Mapping[str, tuple[int, str, str]] = {
    "400": (400, "INVALID_ARGUMENT", "invalid argument"),
    "401": (401, "ACCESS_ERROR", "sign result is not same [gw]"),
    "403": (403, "HTTP_FORBIDDEN", "permission denied"),
    "404": (404, "NOT_FOUND", "no route and no API found with those values"),
    "429": (429, "RATE_LIMIT", "minute rate limit exceeded, role:ak"),
    "quota": (429, "QUOTA_EXCEEDED", "quota exceeded"),
    "500": (500, "INTERNAL", "Internal server error"),
    "503": (503, "UNAVAILABLE", "service unavailable"),
    "504": (504, "HTTP_SERVER_TIMING_OUT", "server timing out"),
}
"""Faults that are an error envelope: HTTP status, `status` and `message`."""


def _replace(pattern: bytes, by: bytes) -> Callable[[bytes], bytes]:
    return lambda body: re.sub(pattern, by, body, count=1)


def _many_disks(body: bytes) -> bytes:
    answer = msgspec.json.decode(body)
    result = answer.get("result", {})
    for image in [result.get("image"), *result.get("images", ())]:
        if image is not None:
            disk = {"diskCategory": "cloud", "deviceName": "vdb", "cloudDisk": {"diskSizeGB": 20}}
            image["dataDisks"] = [disk] * 10_000
    return msgspec.json.encode(answer)


BODIES: Mapping[str, Callable[[bytes], bytes]] = {
    "html": lambda _: _HTML,
    "empty": lambda _: b"",
    "malformed": lambda body: body[:-2],
    "deep": lambda _: b'{"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "huge": lambda body: b" " * HUGE_BYTES + body,
    "no_image": lambda _: b'{"requestId":"simulated","result":{}}',
    "null_image": lambda _: b'{"requestId":"simulated","result":{"image":null}}',
    "wrong_id": _replace(rb'"imageId":"([^"]*)"', rb'"imageId":"\1z"'),
    "duplicate_keys": _replace(rb'"name":', b'"name":"the first of two","name":'),
    "nan": _replace(rb'"sizeMB":\d+', b'"sizeMB":NaN'),
    "big_number": _replace(rb'"sizeMB":\d+', b'"sizeMB":' + b"9" * 30),
    "string_number": _replace(rb'"sizeMB":(\d+)', rb'"sizeMB":"\1"'),
    "surrogate": _replace(rb'"name":"', rb'"name":"\\ud800'),
    "nul": _replace(rb'"name":"', rb'"name":"\\u0000'),
    "many_disks": _many_disks,
}
"""Faults that are another body, made of the right one, under status 200."""

_WIRE = (
    "502",  # a proxy's HTML instead of an envelope
    "no_request_id",  # an error envelope without requestId
    "reset",  # TCP RST instead of an answer
    "disconnect",  # the connection is closed instead of an answer
    "close",  # closed after an answer that promises to keep it alive
    "truncate",  # half of the body, then closed
    "content_length",  # the header promises less than what comes
    "hang",  # no answer at all
    "slow",  # a late answer
    "slow_loris",  # a byte now and then
    "gzip_bomb",  # small on the wire, 64 MiB unpacked
    "redirect",  # to another name of this host
)
FAULTS = (*ERRORS, *BODIES, *_WIRE)
_SETTINGS: Mapping[str, tuple[float, float]] = {
    "delete": (0, 1),
    "change": (0, 1),
    "epoch": (0, 1000),
    "retry_after": (0, 1e6),
    "slow_s": (0, 1e6),
    "clock_skew": (-1e9, 1e9),
}


@dataclass(frozen=True, slots=True)
class Faults:
    """Which faults, how often.

    Attributes:
        shares: fault and its share (0 to 1) of the requests.
        regions: fault of every request to a region.
        delete, change: share of the images that each epoch deletes and changes.
        epoch: the epoch to begin with.
        retry_after: seconds that answers 429 and 503 name in Retry-After; None: no such header.
        slow_s: seconds that the fault `slow` waits.
        clock_skew: seconds that the simulator's clock is ahead.
    """

    shares: tuple[tuple[str, float], ...] = ()
    regions: Mapping[str, str] = field(default_factory=dict)
    delete: float = 0.0
    change: float = 0.0
    epoch: int = 0
    retry_after: float | None = None
    slow_s: float = 2.0
    clock_skew: float = 0.0

    @classmethod
    def parse(cls, spec: str) -> "Faults":
        """Reads `500=0.05,reset=0.01,region:cn-east-1=down,delete=0.01`; raises UsageError."""
        shares: dict[str, float] = {}
        regions: dict[str, str] = {}
        settings: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in spec.split(","))):
            name, _, value = (text.strip() for text in part.partition("="))
            if name.startswith("region:"):
                value = "reset" if value == "down" else value
                if value not in FAULTS:
                    raise UsageError(f"faults: {part!r}: not a fault; down or one of {_list()}")
                regions[name.removeprefix("region:")] = value
            elif name in _SETTINGS:
                settings[name] = _number(part, value, *_SETTINGS[name])
            elif name in FAULTS:
                shares[name] = _number(part, value, 0, 1)
            else:
                raise UsageError(f"faults: {name!r} is not known; known are {_list()}")
        if sum(shares.values()) > 1 + 1e-9:
            raise UsageError(f"faults: the shares add up to {sum(shares.values()):g}, over 1")
        settings["epoch"] = int(settings.get("epoch", 0))
        return cls(tuple(shares.items()), regions, **settings)

    def draw(self, random: Random, region: str) -> str | None:
        """The fault of the next request, if it has one."""
        if region in self.regions:
            return self.regions[region]
        if self.shares:
            point = random.random()
            for name, share in self.shares:
                point -= share
                if point < 0:
                    return name
        return None


def _list() -> str:
    return ", ".join((*FAULTS, *_SETTINGS, "region:REGION"))


def _number(part: str, text: str, low: float, high: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise UsageError(f"faults: {part!r}: a number from {low:g} to {high:g} is allowed")
    return number


def envelope(request_id: str, status: int, name: str, message: str) -> bytes:
    """An error as the API words it."""
    error = {"status": name, "code": status, "message": message.encode(errors="replace").decode()}
    return msgspec.json.encode({"requestId": request_id, "error": error})


async def inject(  # noqa: PLR0911 - one return a fault
    name: str, faults: Faults, request: web.BaseRequest, right: web.Response, body: bytes
) -> web.StreamResponse:
    """Answers with the fault `name` where `right`, with this body, would have been the answer."""
    if name in ERRORS:
        return right  # the envelope is already the fault
    if name in BODIES:
        kind = "text/html" if name == "html" else JSON
        return web.Response(body=BODIES[name](body), headers={"Content-Type": kind})
    match name:
        case "502":
            return web.Response(status=502, body=_HTML, content_type="text/html")
        case "no_request_id":
            error = {"status": "INTERNAL", "code": 500, "message": "Internal server error"}
            return web.json_response({"error": error}, status=500)
        case "redirect":
            location = f"{request.scheme}://localhost:{request.url.port}/v1/redirected"
            return web.Response(status=302, headers={"Location": location})
        case "hang" | "slow":
            await asyncio.sleep(HANG_S if name == "hang" else faults.slow_s)
            return right
        case "slow_loris":
            drip = web.StreamResponse(headers={"Content-Type": JSON})
            drip.content_length = len(body)
            await drip.prepare(request)
            for byte in body:
                await drip.write(bytes((byte,)))
                await asyncio.sleep(DRIP_S)
            return drip
        case "gzip_bomb":
            headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
            return web.Response(body=await asyncio.to_thread(_bomb), headers=headers)
        case _:
            return _break(name, request, body)


def _break(name: str, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
    """Writes past aiohttp, which lets no answer contradict itself, and ends the connection."""
    transport = request.transport
    if transport is not None:
        promised = len(body) - 10 if name == "content_length" else len(body)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nContent-Length: {promised}\r\n\r\n"
        match name:
            case "truncate":
                transport.write(head.encode() + body[: len(body) // 2])
            case "content_length" | "close":
                transport.write(head.encode() + body)
            case "reset":
                plug: socket.socket = transport.get_extra_info("socket")
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
            case _:  # disconnect: not a byte
                pass
        transport.close()
    return web.Response()


@cache
def _bomb() -> bytes:
    return gzip.compress(b" " * HUGE_BYTES + b"{}")
