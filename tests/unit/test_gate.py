"""Gates, turns and the adaptive rate, in virtual time: exact windows, shares, cost."""

import asyncio
import random
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.gate import AdaptiveRate, Dispatcher, Gate, LaneGate
from collector.models import LaneKey
from tests.support.virtual_time import START_S, VirtualTimeLoop, run_virtual

LATE_S = 0.001
"""How late timers fire: what epoll's resolution costs a real loop."""


def key(region: str) -> LaneKey:
    return LaneKey("default", region)


async def turn(dispatcher: Dispatcher, lane: LaneGate) -> float:
    """A turn whose request leaves at once."""
    granted_at = await dispatcher.turn(lane)
    dispatcher.left(lane)
    return granted_at


async def acquire(gate: Gate) -> None:
    """Wait until a gate is open and pass it at once."""
    while (wait := gate.wait_s()) > 0:  # noqa: ASYNC110 - nothing but time opens it
        await asyncio.sleep(wait)
    await gate.take()
    gate.left(time.monotonic())


def most(times: Sequence[float], window_s: float = 1.0) -> int:
    """The most of the times within any window, both of its ends included."""
    best = first = 0
    for last, at in enumerate(times):
        while times[first] < at - window_s:
            first += 1
        best = max(best, last - first + 1)
    return best


class Watched(Dispatcher):
    """Tells of each turn, with its time."""

    def __init__(
        self, rate: float, *, on_grant: Callable[[LaneKey, float], None], not_before: float = 0.0
    ) -> None:
        super().__init__(rate, not_before=not_before)
        self._on_grant = on_grant

    async def _grant(self, lane: LaneGate) -> float:
        now = await super()._grant(lane)
        self._on_grant(lane.key, now)
        return now


class Fleet:
    """Lanes of one account whose workers always have a next request."""

    def __init__(self, account_rate: float, *, not_before: float = 0.0) -> None:
        self.grants: list[float] = []
        self.by_lane: dict[str, list[float]] = defaultdict(list)
        self.dispatcher = Watched(account_rate, not_before=not_before, on_grant=self._granted)
        self._work: list[Callable[[], Awaitable[None]]] = []

    def _granted(self, lane: LaneKey, at: float) -> None:
        self.grants.append(at)
        self.by_lane[lane.region].append(at)

    def lane(
        self, region: str, rate: float, *, workers: int = 16, latency_s: float = 0.05
    ) -> LaneGate:
        gate = self.dispatcher.lane(key(region), rate)

        async def work() -> None:
            while True:
                await turn(self.dispatcher, gate)
                await asyncio.sleep(latency_s)

        self._work += [work] * workers
        return gate

    async def serve(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                group.create_task(self.dispatcher.run())
                for work in self._work:
                    group.create_task(work())


def serve(account_rate: float, rates: dict[str, float], seconds: float = 30.0) -> Fleet:
    fleet = Fleet(account_rate)
    for region, rate in rates.items():
        fleet.lane(region, rate)
    run_virtual(fleet.serve(seconds), late_s=LATE_S)
    return fleet


@pytest.mark.parametrize("rate", range(1, 101))
def test_a_lane_s_rate_is_exact_and_used(rate: int):
    """No second ever holds more than the rate, and 97 % of it is used while there is work."""
    grants = serve(0, {"a": rate}).grants

    assert most(grants) <= rate
    assert len(grants) >= 0.97 * rate * 30


@pytest.mark.parametrize("rate", range(1, 101, 3))
def test_an_account_s_rate_is_exact_and_used(rate: int):
    """The same holds of an account, whose lanes could do more."""
    fleet = serve(rate, {"a": rate, "b": rate, "c": rate})

    assert most(fleet.grants) <= rate
    assert len(fleet.grants) >= 0.97 * rate * 30


@pytest.mark.parametrize(
    ("rate", "window_s", "limit"),
    [(0.5, 2.0, 1), (0.1, 10.0, 1), (1.5, 1.0, 1), (2.7, 1.0, 2), (15.9, 1.0, 15)],
)
def test_fractional_rates(rate: float, window_s: float, limit: int):
    """Below 1 it is one request in 1 / rate seconds; above, the whole part in any one second."""
    grants = serve(0, {"a": rate}, seconds=100.0).grants

    assert most(grants, window_s) <= limit
    assert len(grants) >= 0.97 * limit / window_s * 100


def test_requests_are_spread_over_the_second():
    """No tenth of a second carries much more than a tenth of the rate."""
    grants = serve(0, {"a": 100}).grants

    assert most(grants, 0.075) <= 10


def test_lane_and_account_open_together():
    """Four lanes of 10 under an account of 16: all three promises at once, shares within 25 %."""
    fleet = serve(16, dict.fromkeys("abcd", 10.0), seconds=60.0)
    counts = [len(times) for times in fleet.by_lane.values()]

    assert most(fleet.grants) <= 16
    assert all(most(times) <= 10 for times in fleet.by_lane.values())
    assert len(fleet.grants) >= 0.97 * 16 * 60
    assert max(counts) <= 1.25 * min(counts)


@pytest.mark.parametrize(
    ("account", "rates"),
    [
        (16, (10.0, 3.0, 1.0, 0.2)),
        (16, (10.0, 5.0)),
        (16, (5.0, 5.0, 5.0)),
        (50, (10.0,) * 5),
        (100, (30.0,) * 3),
        (0, (10.0, 7.0)),
    ],
)
def test_lanes_that_fit_their_account_are_not_slowed_by_it(account: int, rates: tuple[float, ...]):
    """Where the account allows the sum, each lane has 97 % of its own rate."""
    fleet = serve(account, {str(n): rate for n, rate in enumerate(rates)}, seconds=60.0)

    for n, rate in enumerate(rates):
        assert most(fleet.by_lane[str(n)]) <= max(1, rate)
        assert len(fleet.by_lane[str(n)]) >= 0.97 * rate * 60 - 1


def test_a_lane_gets_what_others_leave():
    """Turns that a slow lane does not use go to the others; its own share is not touched."""
    fleet = serve(16, {"slow": 1, "a": 20, "b": 20}, seconds=60.0)
    slow, a, b = (len(fleet.by_lane[region]) for region in ("slow", "a", "b"))

    assert slow >= 58
    assert abs(a - b) <= 0.05 * a
    assert slow + a + b >= 0.97 * 16 * 60


def test_a_closed_lane_delays_nobody():
    """A lane that waits for minutes, or one whose workers hang, leaves the others their rates."""
    fleet = Fleet(16)
    fleet.lane("open", 10)
    fleet.lane("hanging", 10, latency_s=10_000.0, workers=4)
    fleet.lane("closed", 10).not_before = START_S + 10_000.0
    run_virtual(fleet.serve(60.0), late_s=LATE_S)

    assert len(fleet.by_lane["open"]) >= 0.97 * 10 * 60
    assert len(fleet.by_lane["hanging"]) == 4
    assert "closed" not in fleet.by_lane


def test_one_worker_gets_its_share_beside_many():
    """Turns go by lane, however many of its requests wait."""
    fleet = Fleet(16)
    fleet.lane("one", 10, workers=1, latency_s=0.02)
    fleet.lane("many", 10, workers=64, latency_s=0.02)
    run_virtual(fleet.serve(60.0), late_s=LATE_S)

    assert len(fleet.by_lane["one"]) >= 0.75 * len(fleet.by_lane["many"])


def test_requests_of_a_lane_go_in_order():
    """Who waited first goes first."""
    order: list[int] = []

    async def main() -> None:
        dispatcher = Dispatcher(0)
        lane = dispatcher.lane(key("a"), 5)

        async def request(number: int) -> None:
            await turn(dispatcher, lane)
            order.append(number)

        runner = asyncio.create_task(dispatcher.run())
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(request(number))
        runner.cancel()

    run_virtual(main())

    assert order == list(range(40))


def test_an_open_gate_is_passed_without_suspending():
    """The dispatcher relies on it: several gates are passed as one."""
    gate = Gate(10)
    passing = acquire(gate)

    with pytest.raises(StopIteration):
        passing.send(None)
    assert gate.wait_s() > 0


def test_a_turn_that_is_free_needs_no_dispatcher():
    """When nobody waits and all is open, a turn is given at once."""
    dispatcher = Dispatcher(16)
    passing = turn(dispatcher, dispatcher.lane(key("a"), 10))

    before = time.monotonic()
    with pytest.raises(StopIteration) as given_at:
        passing.send(None)
    assert before <= given_at.value.value <= time.monotonic()


def test_a_gate_alone():
    """`acquire` waits until the gate opens, and wait_s says how long that is."""

    async def main() -> list[float]:
        gate = Gate(2)
        times = []
        for _ in range(5):
            wait = gate.wait_s()
            before = time.monotonic()
            await acquire(gate)
            times.append(time.monotonic())
            assert times[-1] - before == pytest.approx(wait)
        return times

    times = run_virtual(main())

    assert most(times) == 2
    assert times[-1] - times[0] < 2.1


def test_no_limit():
    """A rate of 0 is no limit."""
    assert len(serve(0, {"a": 1000.0}, seconds=5.0).grants) > 1500
    gate = Gate(0)
    for _ in range(100_000):
        with pytest.raises(StopIteration):
            acquire(gate).send(None)


def test_a_successor_waits():
    """Nothing leaves before `not_before`, then everything at its rate."""
    fleet = Fleet(16, not_before=START_S + 1.0)
    fleet.lane("a", 10)
    run_virtual(fleet.serve(11.0))

    assert START_S + 1.0 <= fleet.grants[0] < START_S + 1.01
    assert len(fleet.grants) >= 97


def test_an_unlimited_account_waits_too():
    """`not_before` holds where there is no account rate."""
    fleet = Fleet(0, not_before=START_S + 5.0)
    fleet.lane("a", 10)
    run_virtual(fleet.serve(6.0))

    assert fleet.grants[0] >= START_S + 5.0


def test_a_lowered_rate_holds_at_once():
    """What left before counts against the new rate."""

    async def main() -> list[float]:
        fleet = Fleet(0)
        lane = fleet.lane("a", 20)
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.serve(20.0))
            await asyncio.sleep(5.0)
            lane.set_rate(3)
        return [at for at in fleet.grants if at > START_S + 5.0]

    grants = run_virtual(main(), late_s=LATE_S)

    assert most(grants) <= 3
    assert len(grants) == pytest.approx(45, abs=2)


def test_a_lowered_rate_knows_when_it_opens():
    """After a burst the gate tells the time at which enough of it is forgotten."""

    async def main() -> tuple[float, float]:
        gate = Gate(20)
        for _ in range(20):
            await acquire(gate)
        last = time.monotonic()
        gate.set_rate(1)
        return last + 1.01, time.monotonic() + gate.wait_s()

    due, told = run_virtual(main())

    assert told == pytest.approx(due, abs=0.001)


def test_a_raised_rate_wakes_who_waits():
    """A lane that would have waited for 100 seconds goes on as soon as its rate is raised."""

    async def main() -> float:
        fleet = Fleet(0)
        lane = fleet.lane("a", 10)
        lane.set_rate(0.01)
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.serve(20.0))
            await asyncio.sleep(5.0)
            assert len(fleet.grants) == 1
            lane.set_rate(1000)
            assert lane.rate == 10
        return len(fleet.grants)

    assert run_virtual(main()) == pytest.approx(1 + 150, abs=4)


@pytest.mark.parametrize("longest_s", [0.02, 0.3, 4.0])
@pytest.mark.parametrize(("rate", "account_rate"), [(5.0, 0.0), (10.0, 16.0), (50.0, 60.0)])
def test_what_leaves_late_is_counted_when_it_leaves(
    rate: float, account_rate: float, longest_s: float
) -> None:
    """However long a request needs from its turn to the wire, no window holds too many."""
    chance, left = random.Random(3), defaultdict[str, list[float]](list)

    async def main() -> None:
        dispatcher = Dispatcher(account_rate)

        async def work(lane: LaneGate) -> None:
            while True:
                await dispatcher.turn(lane)
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.uniform(0, longest_s))
                dispatcher.left(lane)
                for name in ("account", lane.key.region):
                    left[name].append(time.monotonic())
                await asyncio.sleep(0.05)

        with suppress(TimeoutError):
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                group.create_task(dispatcher.run())
                for region in "abc":
                    lane = dispatcher.lane(key(region), rate)
                    for _ in range(16):
                        group.create_task(work(lane))

    run_virtual(main(), late_s=LATE_S)

    whole = account_rate or 3 * rate
    assert most(left["account"]) <= whole
    for region in "abc":
        assert most(left[region]) <= rate
        assert len(left[region]) >= 20 * whole / 3 / (1.1 + longest_s)


def test_who_is_cancelled_with_its_turn_has_left() -> None:
    """A turn that was given and cannot be used is spent; it does not stay under way for ever."""

    async def main() -> float:
        doomed: list[asyncio.Task[float]] = []

        def granted(lane: LaneKey, at: float) -> None:
            if doomed:  # the turn is given now, and the task hears of it after its cancellation
                asyncio.get_running_loop().call_soon(doomed.pop().cancel)

        dispatcher = Watched(0, on_grant=granted)
        lane = dispatcher.lane(key("a"), 1)
        runner = asyncio.create_task(dispatcher.run())
        await turn(dispatcher, lane)
        task = asyncio.create_task(dispatcher.turn(lane))
        doomed.append(task)
        await asyncio.wait([task])
        assert task.cancelled()
        before = time.monotonic()
        async with asyncio.timeout(10):
            await turn(dispatcher, lane)
        runner.cancel()
        return time.monotonic() - before

    assert run_virtual(main()) == pytest.approx(1.01, abs=0.02)


def test_who_is_cancelled_while_waiting_costs_nothing():
    """A cancelled request is passed over: the others have the whole rate, and lanes go on."""

    async def main() -> tuple[int, int]:
        grants: list[float] = []
        dispatcher = Watched(10, on_grant=lambda lane, at: grants.append(at))
        lane = dispatcher.lane(key("a"), 10)
        other = dispatcher.lane(key("b"), 10)
        runner = asyncio.create_task(dispatcher.run())
        doomed = [asyncio.create_task(turn(dispatcher, lane)) for _ in range(500)]
        await asyncio.sleep(0)
        for task in doomed[1:]:
            task.cancel()
        kept = [asyncio.create_task(turn(dispatcher, other)) for _ in range(50)]
        await asyncio.wait([*doomed, *kept], timeout=5.2)
        runner.cancel()
        return len(grants), sum(task.done() for task in kept)

    granted, kept = run_virtual(main())

    assert granted == 51
    assert kept == 50


def test_who_comes_late_overtakes_nobody():
    """A gate that has opened belongs to who waited for it, not to who comes just then."""

    async def main() -> list[str]:
        order: list[str] = []
        dispatcher = Watched(1, on_grant=lambda lane, at: order.append(lane.region))
        early, late = dispatcher.lane(key("early"), 10), dispatcher.lane(key("late"), 10)
        await turn(dispatcher, early)
        async with asyncio.TaskGroup() as group:
            group.create_task(turn(dispatcher, early))
            await asyncio.sleep(10.0)
            group.create_task(turn(dispatcher, late))
            await asyncio.sleep(0)
            runner = asyncio.create_task(dispatcher.run())
        runner.cancel()
        return order

    assert run_virtual(main()) == ["early", "early", "late"]


def test_a_lane_whose_waiters_were_all_cancelled_can_be_used_again():
    """Nothing is left behind that would keep a later request from its turn."""

    async def main() -> float:
        dispatcher = Dispatcher(0)
        lane = dispatcher.lane(key("a"), 1)
        runner = asyncio.create_task(dispatcher.run())
        await turn(dispatcher, lane)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await turn(dispatcher, lane)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        wakeups = loop.wakeups
        await asyncio.sleep(3600.0)
        assert loop.wakeups - wakeups < 10
        before = time.monotonic()
        await turn(dispatcher, lane)
        await turn(dispatcher, lane)
        runner.cancel()
        return time.monotonic() - before

    assert run_virtual(main()) == pytest.approx(1.01, abs=0.01)


def test_idle_is_asleep():
    """With nobody waiting, or all for a closed lane or account, an hour costs no polling."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        dispatcher = Dispatcher(0)
        runner = asyncio.create_task(dispatcher.run())
        await asyncio.sleep(3600)
        lane = dispatcher.lane(key("a"), 1 / 3600)
        await turn(dispatcher, lane)
        await asyncio.gather(*(turn(dispatcher, lane) for _ in range(2)))
        dispatcher.account.not_before = time.monotonic() + 3600
        await turn(dispatcher, dispatcher.lane(key("b"), 10))
        runner.cancel()
        return loop.wakeups

    assert run_virtual(main()) < 20


def test_a_cancelled_dispatcher_leaves_no_timer():
    """Stopping it leaves nothing that would wake the loop later."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        dispatcher = Dispatcher(0)
        lane = dispatcher.lane(key("a"), 1 / 3600)
        runner = asyncio.create_task(dispatcher.run())
        await turn(dispatcher, lane)
        waiting = asyncio.create_task(turn(dispatcher, lane))
        await asyncio.sleep(1.0)
        for task in (runner, waiting):
            task.cancel()
        await asyncio.wait([runner, waiting])
        return sum(not timer.cancelled() for timer in loop._scheduled)

    assert run_virtual(main()) == 0


def test_one_wake_up_gives_all_turns_that_are_open():
    """At a high rate turns do not cost a wake-up each, not even beside a lane that is closed."""

    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        dispatcher = Dispatcher(0)
        closed, lane = dispatcher.lane(key("closed"), 0.001), dispatcher.lane(key("a"), 100_000)
        runner = asyncio.create_task(dispatcher.run())
        await turn(dispatcher, closed)
        waiting = asyncio.create_task(turn(dispatcher, closed))
        await asyncio.sleep(0)
        before = loop.wakeups
        await asyncio.gather(*(turn(dispatcher, lane) for _ in range(5000)))
        waiting.cancel()
        runner.cancel()
        return loop.wakeups - before, len(lane.waiters)

    wakeups, waiting = run_virtual(main())

    assert wakeups < 10
    assert waiting == 0


@settings(max_examples=40, deadline=None)
@given(
    account=st.integers(0, 40),
    lanes=st.lists(
        st.tuples(st.integers(1, 40), st.integers(1, 12), st.floats(0, 0.7)), min_size=1, max_size=5
    ),
    changes=st.lists(st.tuples(st.integers(0, 4), st.floats(0.3, 60)), max_size=6),
    late=st.floats(0, 0.02),
)
def test_whatever_happens_no_second_has_too_many(
    account: int,
    lanes: list[tuple[int, int, float]],
    changes: list[tuple[int, float]],
    late: float,
):
    """Any lanes, latencies, late timers and changes of rate: the windows hold exactly."""

    async def main() -> Fleet:
        fleet = Fleet(account)
        gates = [
            fleet.lane(str(n), rate, workers=workers, latency_s=latency)
            for n, (rate, workers, latency) in enumerate(lanes)
        ]
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.serve(8.0))
            for which, rate in changes:
                await asyncio.sleep(1.3)
                gates[which % len(gates)].set_rate(rate)
        return fleet

    fleet = run_virtual(main(), late_s=late)

    assert not account or most(fleet.grants) <= account
    for n, (rate, _, _) in enumerate(lanes):
        assert most(fleet.by_lane[str(n)]) <= rate


# The adaptive rate


def test_the_adaptive_rate_begins_at_its_maximum():
    """Who configured the right rate has all of it from the first request."""
    adaptive = AdaptiveRate(10)

    assert adaptive.rate == 10
    assert adaptive.accepted(1.0) == 10


def accept(adaptive: AdaptiveRate, start: float, seconds: float, rate: float) -> float:
    """Let so many answers a second come; return when the last one came."""
    count = round(seconds * rate)
    for n in range(1, count + 1):
        adaptive.accepted(start + n / rate)
    return start + count / rate


def test_a_refusal_cuts_below_what_was_accepted():
    """The rate falls to what the endpoint took in the last second, less some."""
    adaptive = AdaptiveRate(200)
    now = accept(adaptive, 0.0, 2.0, 20)

    assert adaptive.throttled(now - 0.01, now) == pytest.approx(20 * 0.96 * 0.88)


def test_a_refusal_in_the_first_second_halves():
    """Where a second was not yet seen, what was accepted says nothing about the limit."""
    for accepted in (0, 1, 3):
        adaptive = AdaptiveRate(10)
        now = accept(adaptive, 0.0, accepted / 10, 10)

        assert adaptive.throttled(now, now) == pytest.approx(5 * 0.96 * 0.88)


@pytest.mark.parametrize(("seen_s", "rate"), [(1.0, 1.0), (0.75, 5.0)])
def test_a_whole_second_without_acceptance_leaves_one_a_second(seen_s, rate):
    """From a second on what was accepted tells the limit, even nothing at all."""
    adaptive = AdaptiveRate(10)
    adaptive.accepted(5.0)

    assert adaptive.throttled(5.0 + seen_s, 5.0 + seen_s) == pytest.approx(rate * 0.96 * 0.88)


def test_a_storm_of_refusals_is_one_cut():
    """Refusals of requests that left before the cut, or a second after it, change nothing."""
    adaptive = AdaptiveRate(200)
    now = accept(adaptive, 0.0, 2.0, 20)
    rate = adaptive.throttled(now, now)

    for late in range(100):
        assert adaptive.throttled(now - 0.5 + late / 100, now + late / 50) == rate
    assert adaptive.throttled(now + 1.0, now + 2.0) < rate


def test_the_rate_grows_as_cubic_does():
    """Fast, then hardly, then fast again, never down; doubled after 13.2 s; never over maximum."""
    adaptive = AdaptiveRate(45)
    start = accept(adaptive, 0.0, 2.0, 20)
    rates = [adaptive.throttled(start, start)]
    rates += [adaptive.accepted(start + tenth / 10) for tenth in range(1, 200)]
    growth = [after - before for before, after in pairwise(rates)]
    level = 0.96 * 20

    assert min(growth) >= 0
    assert rates[52] == pytest.approx(level, rel=0.001)
    assert max(growth[40:65]) < 0.02
    assert growth[0] > 0.1
    assert rates[132] == pytest.approx(2 * level, rel=0.02)
    assert rates[-1] == 45


def test_the_rate_has_a_floor():
    """However long everything is refused, one request in two seconds is still tried."""
    adaptive = AdaptiveRate(100)
    for second in range(100):
        adaptive.throttled(second * 2.0, second * 2.0)

    assert adaptive.rate == 0.5
    assert adaptive.accepted(200.0) >= 0.5
    slow = AdaptiveRate(0.2)
    assert slow.throttled(0.0, 0.0) <= 0.2


def test_the_rate_recovers_from_the_floor():
    """When a storm of refusals is over, the whole rate is back within a minute."""
    adaptive = AdaptiveRate(20)
    for second in range(10):
        adaptive.throttled(second * 2.0, second * 2.0)
    assert adaptive.rate == 0.5
    for second in range(60):
        adaptive.accepted(20.0 + second)

    assert adaptive.rate == 20


class SlidingLimiter:
    """An endpoint that counts what it accepted in the last second."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._log: deque[float] = deque()

    def allows(self, now: float) -> bool:
        while self._log and self._log[0] <= now - 1.0:
            self._log.popleft()
        if len(self._log) >= self.limit:
            return False
        self._log.append(now)
        return True


class FixedLimiter:
    """An endpoint that counts what came since the second's beginning."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._second = 0
        self._count = 0

    def allows(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        self._count += 1
        return self._count <= self.limit


Limiter = SlidingLimiter | FixedLimiter


def meet(
    limiter: Limiter,
    seconds: float,
    *,
    latency_s: float,
    triple_at: float | None = None,
) -> list[tuple[float, bool]]:
    """Send through an adaptive lane of 200 a second; return when and whether it was accepted."""
    answers: list[tuple[float, bool]] = []
    jitter = random.Random(1)

    async def main() -> None:
        dispatcher = Dispatcher(0)
        lane = dispatcher.lane(key("a"), 200, adaptive=True)
        limit = limiter.limit

        async def work() -> None:
            while True:
                granted_at = await turn(dispatcher, lane)
                await asyncio.sleep(latency_s / 2 * jitter.uniform(0.9, 1.1))
                now = time.monotonic()
                if triple_at is not None and now - START_S >= triple_at:
                    limiter.limit = 3 * limit
                allowed = limiter.allows(now)
                answers.append((now - START_S, allowed))
                await asyncio.sleep(latency_s / 2)
                if allowed:
                    lane.accepted()
                else:
                    lane.throttled(granted_at)

        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                group.create_task(dispatcher.run())
                for _ in range(16):
                    group.create_task(work())

    run_virtual(main(), late_s=LATE_S)
    return answers


@pytest.mark.parametrize("latency_s", [0.002, 0.05, 0.2])
@pytest.mark.parametrize("limiter", [SlidingLimiter, FixedLimiter])
def test_an_unknown_limit_is_found_and_kept(limiter: type[Limiter], latency_s: float):
    """Of 20 a second, not told: 90 % used over a minute, under 1 % refused after 10 seconds."""
    answers = meet(limiter(20), 60.0, latency_s=latency_s)
    later = [allowed for at, allowed in answers if at > 10]

    assert sum(allowed for _, allowed in answers) >= 0.9 * 20 * 60
    assert later.count(False) < 0.01 * len(later)


@pytest.mark.parametrize("triple_at", [30.0, 32.0, 34.0, 36.0, 38.0, 40.0])
@pytest.mark.parametrize("limiter", [SlidingLimiter, FixedLimiter])
def test_a_limit_that_rises_is_found(limiter: type[Limiter], triple_at: float):
    """Wherever in its cycle the rate is, two thirds of a tripled limit are used within 15 s."""
    answers = meet(limiter(20), triple_at + 15.0, latency_s=0.05, triple_at=triple_at)

    assert most([at for at, allowed in answers if allowed and at > triple_at]) >= 40


def test_a_lane_keeps_its_rate_unless_it_is_adaptive():
    """Who does not ask for an adaptive rate has the one that was configured, whatever comes."""
    lane = Dispatcher(0).lane(key("a"), 10)
    lane.accepted()
    lane.throttled(time.monotonic())
    assert lane.rate == 10


def test_a_right_rate_is_not_touched():
    """Against an endpoint that allows all, an adaptive lane does all that another does."""
    answers = meet(SlidingLimiter(250), 20.0, latency_s=0.05)

    assert all(allowed for _, allowed in answers)
    assert len(answers) >= 0.97 * 200 * 20
