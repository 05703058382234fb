"""An event loop whose clock jumps to the next timer, so that minutes of waiting take milliseconds.

    def test_it() -> None:
        async def main() -> float:
            await asyncio.sleep(3600)
            return time.monotonic()

        run_virtual(main())  # returns at once; an hour has passed on the loop's clock

While it runs, `time.monotonic()` is the loop's clock everywhere in the process, asyncio-throttle
included; computing takes no time. Sockets and threads still work, but the clock does not wait for
them, so it is for code whose only waits are timers, events and queues.
"""

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest import mock

from typing_extensions import override

__all__ = ["START_S", "VirtualTimeLoop", "run_virtual"]

T = TypeVar("T")

START_S = 1000.0
"""Where the clock begins; not at zero, where a forgotten "never" would look like "long ago"."""

STALL_S = 5.0
"""Real seconds after which a program that waits for nothing is called stuck."""


class _JumpingSelector(selectors.DefaultSelector):
    """Moves the clock on instead of waiting."""

    def __init__(self, late_s: float) -> None:
        super().__init__()
        self.now_s = START_S
        self.wakeups = 0
        self._late_s = late_s
        self._random = random.Random(0)

    @override
    def select(self, timeout: float | None = None) -> list[Any]:
        self.wakeups += 1
        if timeout is None:  # no timer is set: only a thread or a socket can go on
            events = super().select(STALL_S)
            if not events:
                raise RuntimeError("every task waits for something that never comes")
            return events
        events = super().select(0)
        if not events and timeout > 0:
            self.now_s += timeout + self._random.uniform(0, self._late_s)
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop; `late_s` is how late a timer may fire, as epoll rounds up to a millisecond."""

    def __init__(self, late_s: float = 0.0) -> None:
        self._jumping = _JumpingSelector(late_s)
        super().__init__(self._jumping)

    @override
    def time(self) -> float:
        return self._jumping.now_s

    @property
    def wakeups(self) -> int:
        """How often the loop went round: a program that waits without polling stays low."""
        return self._jumping.wakeups


def run_virtual(main: Coroutine[Any, Any, T], *, late_s: float = 0.0) -> T:
    """Run a coroutine to its end on a loop of its own, in virtual time."""
    loop = VirtualTimeLoop(late_s)
    with (
        mock.patch("time.monotonic", loop.time),
        asyncio.Runner(loop_factory=lambda: loop) as runner,
    ):
        return runner.run(main)
