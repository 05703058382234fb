"""A proxy in front of a database that cuts the connection at a COMMIT, on a thread of its own."""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from typing_extensions import override

from tests.support.proxy import Proxy

__all__ = ["CommitProxy", "commit_proxy"]

_COMMIT = re.compile(rb"COMMIT(?!TED)")


class CommitProxy(Proxy):
    """Forwards; armed, it cuts every connection at the next COMMIT.

    Attributes:
        armed: None, or whether the COMMIT is to reach the server before.
        cuts: how often it cut.
    """

    def __init__(self, host: str, port: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(host, port)
        self.armed: str | None = None
        self.cuts = 0
        self._loop = loop
        self._committing = False

    def call(self, action: str) -> None:
        """`cut`, `restore`, `stall` or `flow`, from another thread."""
        asyncio.run_coroutine_threadsafe(getattr(self, action)(), self._loop).result(10)

    @override
    async def _cuts(self, data: bytes, writer: asyncio.StreamWriter) -> bool:
        peer = writer.get_extra_info("peername")
        upstream = peer is not None and peer[1] == self._target[1]
        answered = self._committing and not upstream
        if self.armed and upstream and _COMMIT.search(data):
            self._committing = True
            answered = self.armed == "before"
        if answered:
            self.armed, self._committing = None, False
            self.cuts += 1
            await self.cut()
            await self.restore()
        return answered


@contextmanager
def commit_proxy(host: str, port: int) -> Iterator[CommitProxy]:
    """A proxy that works as long as the block lasts."""
    loop = asyncio.new_event_loop()
    proxy = CommitProxy(host, port, loop)
    stop = asyncio.Event()

    async def serve() -> None:
        await proxy.restore()
        ready.set()
        await stop.wait()
        await proxy.cut()
        await asyncio.sleep(0.05)

    ready = threading.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
