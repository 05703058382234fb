"""Runs a coroutine until it ends or a signal asks it to stop."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

__all__ = ["Stop", "run"]

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
        import uvloop  # noqa: PLC0415 - an extra
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
        # What is imported by now stays; looking through it again and again finds nothing to free.
        gc.collect()
        gc.freeze()
        gc.set_threshold(30_000, 20, 20)
        sys.setswitchinterval(SWITCH_S)
        return await main(stop)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(supervised())
