"""When a request may leave: within the rates of its lane and its account, in fair turns.

No window of one second ever holds more than a lane's or an account's rate, on the sender's clock,
by the moment at which a request really leaves: making a connection, or a busy loop, may delay it
after its turn. So a turn counts as under way until it is told that the request left, and for a
second after that. Each `Gate` is two throttles of asyncio-throttle: slots of 100 ms, which spread
the requests, and a guard over the whole second, which is the promise. A lane's gate and its
account's open together: waiting for one and then for the other lets requests pile up behind the
second. So one `Dispatcher` an account takes turns over its lanes, and passes over those that are
closed or have nothing to do.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from math import ceil, inf

from asyncio_throttle.throttler import Throttler
from typing_extensions import override

from collector.models import LaneKey

__all__ = ["AdaptiveRate", "Dispatcher", "Gate", "LaneGate"]

GUARD_MARGIN_S = 0.01
"""The guard's window is longer by this (seconds): for clocks, and for what the network jitters."""

SLOTS_PER_S = 10
"""Into how many parts a second is divided to spread its requests."""

HEADROOM = 1.25
"""By how much slots may outrun the rate, so that a lane makes up for waiting for its account."""

CUT = 0.88
"""What a refusal leaves of the level around which the rate then grows slowest."""

LEVEL = 0.96
"""That level, as a share of what was accepted in the last second."""

DOUBLING_S = 8.0
"""From that level to twice it (seconds)."""

POWER = 5
"""Of the curve: CUBIC's shape, but flatter in the middle, which makes refusals rarer."""

SETTLE_S = 1.0
"""After a cut, for how long the endpoint's window may still be full (seconds)."""

MINIMUM_RATE = 0.5
"""The rate is not cut below this (requests a second)."""

_RISE_S = DOUBLING_S * (1 - CUT) ** (1 / POWER)
"""From a cut until the level is reached (seconds)."""

_TICK_S = 0.001
"""Resolution of an event loop's timers (seconds)."""

_OPEN_S = 1e-6
"""How long after the end of its period a throttle is surely open (seconds)."""


class _Window(Throttler):
    """A sliding log of asyncio-throttle that also tells how long it stays closed.

    What is under way stands at its end with a time that never passes.
    """

    def __init__(self) -> None:
        super().__init__(1)
        self._under_way = 0

    def hold(self) -> None:
        """What was acquired last is under way until `left`."""
        self._task_logs[-1] = inf
        self._under_way += 1

    def left(self, now: float) -> None:
        """One of those that were under way left."""
        self._task_logs[len(self._task_logs) - self._under_way] = now
        self._under_way -= 1

    def wait_s(self) -> float:
        """Return the seconds until it opens, 0.0 when it is open: then `acquire` does not wait.

        While too many are under way nobody knows: infinite.
        """
        self.flush()  # type: ignore[no-untyped-call]  # the library is partly typed
        excess = len(self._task_logs) - self.rate_limit
        if excess < 0:
            return 0.0
        opens_at = float(self._task_logs[excess] + self.period + _OPEN_S)
        return max(_OPEN_S, opens_at - time.monotonic())


class Gate:
    """One rate: at most so many requests in any second; below 1, one in 1 / rate seconds.

    Args:
        rate: requests a second; 0 is no limit. Of a fraction over 1 the whole part is allowed in
            any one second.
        not_before: time (of `time.monotonic`) until which it stays closed; may be set later.
    """

    def __init__(self, rate: float, *, not_before: float = -inf) -> None:
        self.not_before = not_before
        self.rate, self.maximum = 0.0, rate
        self._slots, self._guard = _Window(), _Window()
        self._windows = (self._slots, self._guard) if rate else ()
        if rate:
            self.set_rate(rate)

    def set_rate(self, rate: float) -> None:
        """Change the rate of a gate that has one, never above what it was made with."""
        self.rate = min(rate, self.maximum)
        slots = self._slots
        slots.rate_limit = max(1, round(self.rate / SLOTS_PER_S))
        slots.period = slots.rate_limit / self.rate
        if self.rate == self.maximum:  # else it was refused: a burst would be refused sooner
            slots.period /= HEADROOM
        self._guard.rate_limit = max(1, min(ceil(self.rate), int(self.maximum)))
        self._guard.period = max(1.0, self._guard.rate_limit / self.rate) + GUARD_MARGIN_S

    def wait_s(self) -> float:
        """Return the seconds until the gate opens, 0.0 when it is open; infinite: see `_Window`."""
        longest = max(0.0, self.not_before - time.monotonic())
        for window in self._windows:
            longest = max(longest, window.wait_s())
        return longest

    async def take(self) -> None:
        """Pass a gate that is open, without suspending; `left` follows, always."""
        for window in self._windows:
            await window.acquire()  # type: ignore[no-untyped-call]  # as above
        if self._windows:
            self._guard.hold()

    def left(self, now: float) -> None:
        """What passed the gate left, or will not leave any more."""
        if self._windows:
            self._guard.left(now)


class AdaptiveRate:
    """Finds the rate that an endpoint allows, from its answers alone; the times are the caller's.

    A refusal cuts the rate below what was accepted in the last second. Then it grows as CUBIC
    does: fast at first, hardly at all near that level, and fast again beyond it; in the same time
    whatever the rate, so that a limit that was raised is found. After the idea of botocore's
    adaptive mode.

    Args:
        maximum: the rate begins there and never exceeds it (requests a second).
    """

    def __init__(self, maximum: float) -> None:
        self.maximum = self.rate = maximum
        self._level = maximum
        self._cut_at = -inf
        self._first_at = inf
        self._accepted: deque[float] = deque()

    def accepted(self, now: float) -> float:
        """Take note of an answer that was not a refusal; return the rate from now on."""
        self._first_at = min(self._first_at, now)
        self._accepted.append(now)
        self._forget(now)
        if self.rate < self.maximum:
            distance = (now - self._cut_at - _RISE_S) / DOUBLING_S
            self.rate = min(self.maximum, max(self.rate, self._level * (1 + distance**POWER)))
        return self.rate

    def throttled(self, sent_at: float, now: float) -> float:
        """Take note of a refusal (429); return the rate from now on.

        Requests that left before the last cut, or so soon after it that the endpoint still counted
        the burst before, were refused for the same reason: together they are one cut.
        """
        if sent_at >= self._cut_at + SETTLE_S:
            self._forget(now)
            self._first_at = min(self._first_at, now)
            # Before there was a whole second, too little was accepted to tell: halve.
            least = 1.0 if now - self._first_at >= 1.0 else self.rate / 2
            self._level = LEVEL * min(self.rate, max(least, len(self._accepted)))
            self.rate = max(min(MINIMUM_RATE, self.maximum), CUT * self._level)
            self._cut_at = now
        return self.rate

    def _forget(self, now: float) -> None:
        while self._accepted and self._accepted[0] <= now - 1.0:
            self._accepted.popleft()


class LaneGate(Gate):
    """The gate of one lane; made by `Dispatcher.lane`."""

    def __init__(
        self, key: LaneKey, rate: float, *, adaptive: bool, wake: Callable[[], None]
    ) -> None:
        self.key = key
        self.waiters: deque[asyncio.Future[float]] = deque()
        self._adaptive = AdaptiveRate(rate) if adaptive and rate else None
        self._wake = wake
        super().__init__(rate)

    def accepted(self) -> None:
        """An answer came that was not a 429."""
        if self._adaptive:
            self.set_rate(self._adaptive.accepted(time.monotonic()))

    def throttled(self, granted_at: float) -> None:
        """A 429 came to the request whose turn was at that time."""
        if self._adaptive:
            self.set_rate(self._adaptive.throttled(granted_at, time.monotonic()))

    @override
    def set_rate(self, rate: float) -> None:
        if rate != self.rate:
            super().set_rate(rate)
            if self.waiters:  # their turn may be sooner now
                self._wake()


class Dispatcher:
    """Takes turns over the lanes of one account.

    Args:
        account_rate: requests a second over all lanes; 0 is no limit.
        not_before: time (of `time.monotonic`) of the first turn, for the successor of another
            process that may have sent until then.
    """

    def __init__(self, account_rate: float, *, not_before: float = -inf) -> None:
        self.account = Gate(account_rate, not_before=not_before)
        self._queue: list[LaneGate] = []  # those with waiters, the least recently served first
        self._wake = asyncio.Event()
        self._blind = False  # somebody waits for what is under way, not for a time

    def lane(self, key: LaneKey, rate: float, *, adaptive: bool = False) -> LaneGate:
        """Make a lane of this account."""
        return LaneGate(key, rate, adaptive=adaptive, wake=self._wake.set)

    async def turn(self, lane: LaneGate) -> float:
        """Wait until a request of the lane may leave; return the time of its turn.

        The caller holds its concurrency slot, sends at once, and tells `left` exactly once,
        whatever becomes of the request. A caller cancelled before its turn costs nothing.
        """
        if not self._queue and not lane.wait_s() and not self.account.wait_s():
            return await self._grant(lane)
        waiter: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        if not lane.waiters:  # else the dispatcher knows when to look at this lane
            self._queue.append(lane)
            self._wake.set()
        lane.waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # the turn was given, and is spent
                self.left(lane)
            raise

    def left(self, lane: LaneGate) -> None:
        """The request of a turn left just now, or will not leave any more."""
        now = time.monotonic()
        lane.left(now)
        self.account.left(now)
        if self._blind:
            self._wake.set()

    async def run(self) -> None:
        """Give turns until cancelled; belongs beside the lanes in their task group."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            while await self._round():
                pass
            alarm = None
            waits = [lane.wait_s() for lane in self._queue]
            if waits:
                account_s = self.account.wait_s()
                self._blind = inf in (account_s, *waits)
                pause = max(account_s, min(waits))
                if pause != inf:
                    alarm = loop.call_later(max(pause, _TICK_S), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                if alarm:
                    alarm.cancel()

    async def _round(self) -> bool:
        """Give each open lane one turn; return whether there may be more to give."""
        given = False
        for lane in tuple(self._queue):
            while lane.waiters and lane.waiters[0].done():  # cancelled
                del lane.waiters[0]
            if not lane.waiters:
                self._queue.remove(lane)
                continue
            if lane.wait_s():
                continue
            if self.account.wait_s():
                return False
            self._queue.remove(lane)
            waiter = lane.waiters.popleft()
            if lane.waiters:
                self._queue.append(lane)
            waiter.set_result(await self._grant(lane))
            given = True
        return given

    async def _grant(self, lane: LaneGate) -> float:
        """Pass both gates, which were just seen open: nothing suspends in between."""
        await lane.take()
        await self.account.take()
        return time.monotonic()
