"""The endpoint of the benchmarks: answers the image calls as fast as a Python process can.

It is a process of its own, so that what is measured has a core for itself; its first line on
standard output is its URL. The lean one is as fast as nginx: it checks no signature and knows every
id; its images are 256 of the simulator's, each under whatever id is asked for.
"""

import asyncio
import re
from collections.abc import Iterator
from email.utils import formatdate
from time import time
from typing import cast
from zlib import crc32

import msgspec
from typing_extensions import override

from collector.simulator.images import Inventory
from collector.simulator.server import Simulator, SimulatorOptions, running

IMAGES = 20_000
KINDS = 256
REGION = "cn-north-1"
_SINGLE = re.compile(rb"GET /v1/regions/[^/]+/images/([^/? ]+) ")
_IDS = re.compile(rb"[?&]ids\.\d+=([^& ]+)")
_END = b"\r\n\r\n"


def _templates() -> list[tuple[bytes, bytes]]:
    """Images as JSON, cut where their id stands."""
    inventory = Inventory(images=KINDS, regions=(REGION,))
    found = []
    for image_id in inventory.ids(REGION):
        body = msgspec.json.encode(inventory.image(REGION, image_id))
        before, _, after = body.partition(image_id.encode())
        found.append((before, after))
    return found


class Endpoint(asyncio.Protocol):
    """One connection; requests have no body, so that each ends with its headers."""

    templates = _templates()
    served = 0
    date = b""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport
        self._rest = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        *requests, self._rest = (self._rest + data).split(_END)
        for request in requests:
            self._transport.write(self._answer(request))

    def _answer(self, request: bytes) -> bytes:
        request_id, body = self.body(request)
        return (
            b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: %b\r\n"
            b"Content-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n"
            b"x-jdcloud-request-id: %b\r\n\r\n%b" % (Endpoint.date, len(body), request_id, body)
        )

    def body(self, request: bytes) -> tuple[bytes, bytes]:
        """The request's id and the answer's body."""
        Endpoint.served += 1
        if single := _SINGLE.match(request):
            result = b'{"image":%b}' % self._image(single[1])
        else:
            ids = _IDS.findall(request.partition(b"\r\n")[0])
            images = b",".join(map(self._image, ids))
            result = b'{"images":[%b],"totalCount":%d}' % (images, len(ids))
        request_id = b"bench-%020d" % Endpoint.served
        return request_id, b'{"requestId":"%b","result":%b}' % (request_id, result)

    def _image(self, image_id: bytes) -> bytes:
        before, after = self.templates[crc32(image_id) % KINDS]
        return before + image_id + after


async def main() -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Endpoint, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    while True:
        Endpoint.date = formatdate(time(), usegmt=True).encode()
        await asyncio.sleep(0.5)


def run() -> None:
    """Serve, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())


def run_simulator() -> None:
    """The project's own simulator, on aiohttp's server; signatures are not checked."""
    options = SimulatorOptions(images=IMAGES, regions=(REGION,), verify=False)

    async def serve() -> None:
        async with running(Simulator(options)) as simulator:
            print(simulator.url, flush=True)
            await asyncio.Event().wait()

    asyncio.run(serve())


def simulated_ids() -> Iterator[str]:
    """What that one knows."""
    return Inventory(images=IMAGES, regions=(REGION,)).ids(REGION)
