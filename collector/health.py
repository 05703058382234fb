"""Whether a service works, told to systemd (sd_notify) and over HTTP: /healthz, /readyz, /metrics.

The watchdog is answered only while whoever supervises the work says that it moves: an event loop
that turns without doing anything is no sign of health.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from collector import log
from collector.errors import UnavailableError
from collector.text import os_reason

__all__ = ["ALIVE_S", "Health", "serve_http"]

ALIVE_S: Final = 45.0
"""The work is taken for stuck when nothing was heard of it for this long (seconds)."""

_MICROSECONDS: Final = 1_000_000
_SHUTDOWN_S: Final = 1.0


class Health:
    """What is known of the service's state; systemd hears of each change.

    Args:
        env: with `NOTIFY_SOCKET` and `WATCHDOG_USEC` under systemd.

    Attributes:
        status: a line for a person.
        ready: the database is at head and the accounts are served, or waited for.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.status = "starting"
        self.ready = False
        self._address = env.get("NOTIFY_SOCKET", "")
        mine = env.get("WATCHDOG_PID") in (None, str(os.getpid()))
        usec = env.get("WATCHDOG_USEC", "")
        self._watchdog_s = int(usec) / _MICROSECONDS if mine and usec.isdecimal() else None
        self._beaten = time.monotonic()
        self._announced = False

    @property
    def alive(self) -> bool:
        """Whether the work was heard of lately."""
        return time.monotonic() - self._beaten < ALIVE_S

    def beat(self) -> None:
        """The work goes on."""
        self._beaten = time.monotonic()

    def up(self, status: str) -> None:
        """The service works."""
        self.ready = True
        if not self._announced:
            self._announced = True
            self._notify("READY=1")
        self._say(status)

    def down(self, status: str) -> None:
        """The service lacks something and tries again."""
        self.ready = False
        self._say(status)

    def stopping(self) -> None:
        """The service was asked to stop and drains."""
        self.ready = False
        self._notify("STOPPING=1")
        self._say("stopping: waiting for what is in flight")

    async def watch(self) -> None:
        """Answer systemd's watchdog, if there is one, as long as the work moves."""
        while self._watchdog_s:
            if self.alive:
                self._notify("WATCHDOG=1")
            await asyncio.sleep(min(self._watchdog_s / 3, ALIVE_S))

    def _say(self, status: str) -> None:
        if status != self.status:
            self.status = status
            self._notify(f"STATUS={status}")

    def _notify(self, line: str) -> None:
        """Send one line; nobody who listens is no reason to stop."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(" ".join(line.splitlines()).encode(), address)
        except OSError as error:
            log.get_logger().warning("notify_failed", reason=str(error))


@asynccontextmanager
async def serve_http(
    address: tuple[str, int] | None, health: Health, metrics: Callable[[], bytes]
) -> AsyncIterator[str]:
    """Answer on `address` as long as the block lasts; yields the URL, empty without an address.

    Raises:
        UnavailableError: the address is taken, or not this machine's.
    """
    if address is None:
        yield ""
        return

    async def answer(request: web.BaseRequest) -> web.Response:
        match request.path:
            case "/metrics":
                kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
                return web.Response(body=metrics(), headers=kind)
            case "/healthz":
                return _plain(health.alive, "nothing was heard of the work for too long")
            case "/readyz":
                return _plain(health.ready, health.status)
            case _:
                return web.Response(status=404, text="/healthz, /readyz or /metrics\n")

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    host, port = address
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            where = f"{host}:{port}"
            reason = os_reason(error)
            raise UnavailableError(f"serve.listen: cannot listen on {where}: {reason}") from None
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _plain(good: bool, why: str) -> web.Response:
    return web.Response(status=200 if good else 503, text="ok\n" if good else f"{why}\n")
