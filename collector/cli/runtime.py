"""Runs a command's coroutine until it ends or a signal asks it to stop."""

import asyncio
import gc
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from collector.cli import early

__all__ = ["Stop", "run", "unless_stopped", "until_stopped"]

P = ParamSpec("P")
T = TypeVar("T")

SWITCH_S: Final = 0.0005
"""How long a thread that has the interpreter keeps a waiting one waiting (seconds).

The thread that writes to SQLite needs it for an instant before every statement.
"""


class Stop(asyncio.Event):
    """Set by SIGINT or SIGTERM; `signal` is the number of the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.signal: int | None = None
        self._work = asyncio.current_task()

    @property
    def code(self) -> int:
        """The exit code of what was stopped; 0 when nothing was."""
        return 128 + self.signal if self.signal is not None else 0

    def by(self, number: int) -> None:
        """Ask to stop; asked again, interrupt at once."""
        if self.signal is None:
            self.signal = number
            self.set()
        elif self._work is not None and self._work.done():  # the loop is about to stop: let it
            self._work = None
        else:
            raise KeyboardInterrupt(self.signal)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop's event loop, which saves a fourteenth of the work, where it is installed."""
    try:
        import uvloop  # an extra
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def run(main: Callable[[Stop], Coroutine[None, None, T]]) -> T:
    """Run `main` in a fresh event loop, with signals turned into its `Stop`."""

    async def supervised() -> T:
        stop, loop = Stop(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.by, int(number))
        if early.signals:
            stop.by(early.signals[0])
        # What is imported by now stays; looking through it again and again finds nothing to free.
        gc.collect()
        gc.freeze()
        gc.set_threshold(30_000, 20, 20)
        sys.setswitchinterval(SWITCH_S)
        # A request in flight is a file; the usual thousand are too few for hundreds of accounts.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        return await main(stop)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(supervised())


def until_stopped(work: Callable[P, Coroutine[Any, Any, int]]) -> Callable[P, int]:
    """A command of a coroutine function, which a signal cuts off wherever it is."""

    @wraps(work)
    def command(*args: P.args, **options: P.kwargs) -> int:
        return run(lambda stop: unless_stopped(stop, work(*args, **options)))

    return command


async def unless_stopped(stop: Stop, work: Coroutine[Any, Any, int]) -> int:
    """Return the work's exit code; cancelled by a signal, return 128 and its number."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped = not working.done()
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
    return stop.code if stopped else working.result()
