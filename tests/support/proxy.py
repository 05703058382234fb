"""A TCP proxy that can be cut: stands between a process and a server that others use too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Forwards to `host:port`; `cut` drops every connection and refuses new ones.

    Attributes:
        withheld: set once something came that is not forwarded, after `stall`.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.withheld = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def restore(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def stall(self) -> None:
        """Forward nothing any more, and leave the connections as they are."""
        self._flowing.clear()

    async def flow(self) -> None:
        """Forward again."""
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        both = {writer, far_writer}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
        finally:
            self._writers -= both
            for one in both:
                one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if await self._cuts(data, writer):
                    return
                if not self._flowing.is_set():
                    self.withheld.set()
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _cuts(self, data: bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether everything was cut instead of forwarding what came."""
        return False


@asynccontextmanager
async def proxied(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy that forwards as long as the block lasts."""
    proxy = Proxy(host, port)
    await proxy.restore()
    try:
        yield proxy
    finally:
        await proxy.flow()
        await proxy.cut()
        await asyncio.sleep(0.05)
