"""Slots, turns, repetition and the end of a lane, in virtual time against a scripted endpoint."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collector.jdcloud.protocol import Call, Reply, describe_image
from collector.lanes import BEGUN, GIVE_UP_AFTER, AbandonedError, Account, Answer, Lane, unheard
from collector.models import Item, LaneKey, Outcome
from collector.store.writes import Tally
from tests.support.endpoint import REGION, Endpoint, error, items, pages, serving
from tests.support.inventory import image
from tests.support.virtual_time import run_virtual

SILENT = Reply(Outcome.NETWORK_ERROR, error_message="refused", retryable=True)


def ids(count: int) -> list[str]:
    return [f"img-{number:04}" for number in range(count)]


def call(image_id: str) -> Call:
    return describe_image(REGION, image_id)


class Work:
    """Asks for each item by itself and keeps what came of it."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.answers: dict[str, Answer] = {}
        self.abandoned: set[str] = set()
        self.tally = Tally()

    async def process(self, lane: Lane, some: Sequence[Item]) -> None:
        (item,) = some
        try:
            answer = await self.account.request(
                lane, call(item.image_id), self.tally, has_slot=True
            )
        except AbandonedError:
            self.abandoned.add(item.image_id)
            raise
        lane.ended(answer.reply.outcome)
        self.answers[item.image_id] = answer

    def feed(self, lane: Lane, all_items: Sequence[Item]) -> Coroutine[Any, Any, None]:
        return self.account.feed(
            lane, pages(all_items), lambda page: [(i,) for i in page], self.process
        )

    def outcomes(self) -> dict[str, Outcome]:
        return {image_id: answer.reply.outcome for image_id, answer in self.answers.items()}


def idle(lane: Lane, concurrency: int) -> bool:
    """Whether no slot and no room of a lane is taken."""
    return (lane.slots._value, lane.room._value) == (concurrency, BEGUN)


def test_after_silence_an_attempt_has_a_connection_of_its_own() -> None:
    """The connection may be what was wrong; after an answer, whatever it was, the next is kept."""

    def script(_: Call, times: int) -> Any:
        return {1: SILENT, 2: error(503, "UNAVAILABLE")}.get(times)

    async def main() -> None:
        endpoint = Endpoint([image("img-0000")], script)
        async with serving(endpoint) as (account, lane):
            work = Work(account)
            await work.feed(lane, items("img-0000"))
        assert work.outcomes() == {"img-0000": Outcome.PRESENT}
        assert [asked.fresh for asked in endpoint.asked] == [False, True, False]

    run_virtual(main())


def test_a_waiting_retry_holds_neither_slot_nor_turn() -> None:
    """With one slot and a retry 30 s away, everything else is asked for in the meantime."""

    def script(asked: Call, times: int) -> Any:
        first = asked.image_id == "img-0000" and times == 1
        return error(429, "RATE_LIMIT", Retry_After="30") if first else None

    async def main() -> None:
        endpoint = Endpoint([image(one) for one in ids(50)], script)
        async with serving(endpoint, rate=100, concurrency=1) as (account, lane):
            work = Work(account)
            await work.feed(lane, items(*ids(50)))
            assert idle(lane, 1)
        assert endpoint.most_in_flight == 1
        assert [asked.call.image_id for asked in endpoint.asked] == [*ids(50), "img-0000"]
        first, last = endpoint.asked[0].at, endpoint.asked[-1].at
        assert endpoint.asked[-2].at - first < 5
        assert last - first >= 30
        assert set(work.outcomes().values()) == {Outcome.PRESENT}
        assert work.answers["img-0000"].attempts == 2
        assert (work.tally["requests"], work.tally["retries"], work.tally["throttled"]) == (
            51,
            1,
            1,
        )

    run_virtual(main())


@pytest.mark.parametrize(("header", "attempts"), [("60", 5), ("61", 1), ("0", 5)])
def test_retry_after_is_honoured_up_to_a_minute(header: str, attempts: int) -> None:
    """A server's wish is the least wait; one over 60 s ends the item."""

    async def main() -> None:
        endpoint = Endpoint(script=lambda *_: error(503, "UNAVAILABLE", Retry_After=header))
        async with serving(endpoint) as (account, lane):
            answer = await account.request(lane, call("img-1"), Tally())
        assert (answer.reply.outcome, answer.attempts) == (Outcome.SERVER_ERROR, attempts)
        waits = [after.at - before.at for before, after in pairwise(endpoint.asked)]
        assert all(wait >= float(header) for wait in waits)

    run_virtual(main())


@pytest.mark.parametrize(
    "answer",
    [
        error(400, "INVALID_ARGUMENT"),
        error(403, "HTTP_FORBIDDEN"),
        error(404, "NOT_FOUND", "Image 'img-1' not found"),
        error(404, "NOT_FOUND", "no route"),
        error(429, "QUOTA_EXCEEDED"),
        (200, {}, b'{"result": {}}'),
    ],
)
def test_what_cannot_heal_is_asked_once(answer: Any) -> None:
    """Refusals, absences and quotas are never repeated."""

    async def main() -> None:
        endpoint = Endpoint(script=lambda *_: answer)
        async with serving(endpoint) as (account, lane):
            assert (await account.request(lane, call("img-1"), Tally())).attempts == 1
            assert idle(lane, 16)
        assert len(endpoint.asked) == 1

    run_virtual(main())


def test_every_request_passes_the_gate() -> None:
    """Retries included, no second holds more than the lane's rate or the account's."""

    def script(asked: Call, times: int) -> Any:
        return error(500, "INTERNAL") if times < 3 else None

    async def main() -> None:
        endpoint = Endpoint([image(one) for one in ids(60)], script, latency_s=0.2)
        async with serving(endpoint, rate=20, account_rate=30) as (account, lane):
            other, work = account.lane("cn-east-1"), Work(account)
            async with asyncio.TaskGroup() as group:
                group.create_task(work.feed(lane, items(*ids(60)[:30])))
                group.create_task(work.feed(other, items(*ids(60)[30:])))
        assert len(endpoint.asked) == 180
        times = [asked.at for asked in endpoint.asked]
        assert all(later - first > 1 for first, later in zip(times, times[30:], strict=False))
        assert endpoint.most_in_flight <= 32

    run_virtual(main())


def test_a_slow_connection_does_not_bunch_requests() -> None:
    """Requests are counted when they leave; one that never leaves gives its turn back."""

    async def main() -> None:
        class Slow(Endpoint):
            async def send(self, asked: Call, *rest: Any, **how: Any) -> Reply:
                number = int(str(asked.image_id)[4:])
                self.connect_s = 0.4 if number % 3 else 0.0
                if number % 7 == 0:  # refused: nothing leaves
                    await asyncio.sleep(0.2)
                    return SILENT
                return await super().send(asked, *rest, **how)

        endpoint = Slow([image(one) for one in ids(200)])
        async with serving(endpoint, rate=20, max_attempts=1) as (account, lane):
            await Work(account).feed(lane, items(*ids(200)))
        times = [asked.at for asked in endpoint.asked]
        assert len(times) == 200 - len(range(0, 200, 7))
        assert all(later - first > 1 for first, later in zip(times, times[20:], strict=False))

    run_virtual(main())


@pytest.mark.parametrize("answers", [True, False])
def test_only_an_answer_raises_the_rate_again(answers: bool) -> None:
    """After a refusal the lane finds its rate by what is accepted, not by what never arrived."""

    def script(asked: Call, times: int) -> Any:
        if asked.image_id == "img-0030":
            return error(429, "RATE_LIMIT")
        return None if answers or str(asked.image_id) < "img-0030" else SILENT

    async def main() -> None:
        endpoint = Endpoint([image(one) for one in ids(400)], script)
        async with serving(endpoint, rate=50, max_attempts=1, adaptive=True) as (account, lane):
            lane.ended = lambda _: None  # which would give the silent lane up
            await Work(account).feed(lane, items(*ids(400)))
            assert lane.gate.rate < 50
            assert (lane.gate.rate > 30) == answers

    run_virtual(main())


def test_refused_credentials_stop_their_account_alone() -> None:
    """After a 401 an account begins nothing; another account goes on to its end."""

    def script(asked: Call, times: int) -> Any:
        return error(401, "ACCESS_ERROR", "sign") if asked.image_id == "img-0005" else None

    async def main() -> None:
        images = [image(one) for one in ids(200)]
        bad, good = Endpoint(images, script), Endpoint(images)
        async with (
            serving(bad, "bad", rate=50, concurrency=4) as (account, lane),
            serving(good, "good", rate=50, concurrency=4) as (other, other_lane),
        ):
            work, other_work = Work(account), Work(other)
            async with asyncio.TaskGroup() as group:
                group.create_task(work.feed(lane, items(*ids(200))))
                group.create_task(other_work.feed(other_lane, items(*ids(200))))
            assert idle(lane, 4)
        assert account.refused is not None
        assert work.answers["img-0005"].reply.outcome is Outcome.DENIED
        assert len(bad.asked) <= 5 + 4
        assert len(work.answers) == len(bad.asked)
        assert other.refused is None
        assert len(other_work.answers) == 200

    run_virtual(main())


def test_a_403_stops_nothing() -> None:
    """It is about one image; the others are asked for."""

    async def main() -> None:
        endpoint = Endpoint(script=lambda *_: error(403, "HTTP_FORBIDDEN"))
        async with serving(endpoint) as (account, lane):
            work = Work(account)
            await work.feed(lane, items(*ids(100)))
        assert list(work.outcomes().values()) == [Outcome.DENIED] * 100

    run_virtual(main())


@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_lane_that_does_not_answer_is_given_up(concurrency: int) -> None:
    """After 20 items in a row without any answer; what had its attempts ends, the rest stays."""

    def script(asked: Call, times: int) -> Any:
        return SILENT if asked.region == REGION else None

    async def main() -> None:
        endpoint = Endpoint([image(one) for one in ids(500)], script)
        async with serving(endpoint, concurrency=concurrency, max_attempts=2) as (account, lane):
            dead, alive, other = Work(account), Work(account), account.lane("cn-east-1")

            async def ask(lane: Lane, some: Sequence[Item]) -> None:
                call = describe_image("cn-east-1", some[0].image_id)
                answer = await account.request(lane, call, alive.tally, has_slot=True)
                alive.answers[some[0].image_id] = answer

            async with asyncio.TaskGroup() as group:
                group.create_task(dead.feed(lane, items(*ids(500))))
                every = pages(items(*ids(500)))
                group.create_task(account.feed(other, every, lambda p: [(i,) for i in p], ask))
            assert idle(lane, concurrency)
            assert idle(other, concurrency)
        assert (lane.given_up, other.given_up) == (True, False)
        assert GIVE_UP_AFTER <= len(dead.answers) < 500
        assert set(dead.outcomes().values()) == {Outcome.NETWORK_ERROR}
        assert len(alive.answers) == 500

    run_virtual(main())


def test_an_answer_between_keeps_a_lane() -> None:
    """Only a row counts: one answer in twenty, whatever it says, and the lane goes on."""

    def script(asked: Call, times: int) -> Any:
        number = int(str(asked.image_id)[4:])
        return error(403, "HTTP_FORBIDDEN") if number % 20 == 19 else SILENT

    async def main() -> None:
        endpoint = Endpoint(script=script)
        async with serving(endpoint, concurrency=1, max_attempts=1) as (account, lane):
            work = Work(account)
            await work.feed(lane, items(*ids(200)))
        assert not lane.given_up
        assert len(work.answers) == 200

    run_virtual(main())


def test_twenty_in_a_row_close_a_lane_and_reopening_counts_anew() -> None:
    """The twentieth unanswered item in a row is the last; a lane opened again has twenty more."""

    async def main() -> None:
        async with serving(Endpoint()) as (account, lane):
            for again in (False, True):
                if again:
                    lane.reopen()
                for number in range(1, GIVE_UP_AFTER + 1):
                    assert account.is_open(lane)
                    lane.ended((Outcome.TIMEOUT, Outcome.NETWORK_ERROR)[number % 2])
                assert not account.is_open(lane)

    run_virtual(main())


def test_each_answer_is_counted_and_told() -> None:
    """Lane, outcome, which attempt it was, and how long its turn took; requests add up."""
    told: list[tuple[LaneKey, Outcome, int, float]] = []

    def script(asked: Call, times: int) -> Any:
        return error(429, "RATE_LIMIT", Retry_After="0") if times < 3 else None

    async def main() -> None:
        endpoint = Endpoint([image("img-1"), image("img-2")], script)
        async with serving(endpoint, "other", rate=1, on_reply=lambda *all: told.append(all)) as (
            account,
            lane,
        ):
            tally = Tally()
            for image_id in ("img-1", "img-2"):
                answer = await account.request(lane, call(image_id), tally)
                assert answer.attempts == 3
            assert (tally["requests"], tally["retries"], tally["throttled"]) == (6, 4, 4)
        assert {asked.account for asked in endpoint.asked} == {"other"}
        assert [(key.account, key.region) for key, *_ in told] == [("other", REGION)] * 6
        rest = [(outcome, attempt) for _, outcome, attempt, _ in told]
        each = [(Outcome.THROTTLED, 1), (Outcome.THROTTLED, 2), (Outcome.PRESENT, 3)]
        assert rest == each * 2
        waits = [wait_s for *_, wait_s in told]
        assert waits[0] == 0.0
        assert all(0.0 <= wait_s <= 1.02 for wait_s in waits)
        assert sum(waits) > 2.0

    run_virtual(main())


def test_the_deadline_keeps_the_answer_of_what_waits_for_its_turn() -> None:
    """A retry whose turn comes after the deadline ends with the answer it had; a stop drops it."""

    async def main(*, stopped: bool) -> None:
        stop = asyncio.Event()
        endpoint = Endpoint(script=lambda *_: error(500, "INTERNAL", Retry_After="0"))
        async with serving(endpoint, rate=0.1, stop=stop) as (account, lane):
            asking = asyncio.ensure_future(account.request(lane, call("img-1"), Tally()))
            await asyncio.sleep(5.0)  # the second attempt waits for the gate
            if stopped:
                stop.set()
            else:
                account.closing = True
            await asyncio.wait((asking,), timeout=30)
            assert len(endpoint.asked) == 1
            if stopped:
                assert isinstance(asking.exception(), AbandonedError)
            else:
                assert asking.result().reply.outcome is Outcome.SERVER_ERROR

    run_virtual(main(stopped=False))
    run_virtual(main(stopped=True))


@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_deadline_begins_nothing_new_and_ends_what_was_begun(concurrency: int) -> None:
    """What is in flight gets its answer, what waits for a retry keeps the answer it has."""

    def script(asked: Call, times: int) -> Any:
        return error(500, "INTERNAL") if asked.image_id == "img-0000" else None

    async def main() -> None:
        endpoint = Endpoint([image(one) for one in ids(500)], script, latency_s=0.3)
        async with serving(endpoint, rate=100, concurrency=concurrency) as (account, lane):
            work = Work(account)
            working = asyncio.ensure_future(work.feed(lane, items(*ids(500))))
            await asyncio.sleep(1.0)
            account.closing = True
            async with asyncio.timeout(30):
                await working
            assert idle(lane, concurrency)
        assert 0 < len(work.answers) < 500
        assert work.outcomes()["img-0000"] is Outcome.SERVER_ERROR
        assert len(endpoint.asked) == sum(answer.attempts for answer in work.answers.values())
        assert work.answers.keys().isdisjoint(work.abandoned)

    run_virtual(main())


def test_a_stop_abandons_what_waits_and_hears_what_is_in_flight() -> None:
    """A retry 60 s away is dropped at once: a resumed run asks for the image again."""

    def script(asked: Call, times: int) -> Any:
        waits = asked.image_id in ids(3)
        return error(429, "RATE_LIMIT", Retry_After="60") if waits else None

    async def main() -> None:
        endpoint, stop = Endpoint([image(one) for one in ids(500)], script), asyncio.Event()
        async with serving(endpoint, rate=100, concurrency=4, stop=stop) as (account, lane):
            work = Work(account)
            working = asyncio.ensure_future(work.feed(lane, items(*ids(500))))
            await asyncio.sleep(1.0)
            stop.set()
            began = time.monotonic()
            await working
            assert time.monotonic() - began < 1
            assert idle(lane, 4)
        assert set(ids(3)) <= work.abandoned
        assert set(work.outcomes().values()) == {Outcome.PRESENT}
        assert len(endpoint.asked) == len(work.answers) + 3

    run_virtual(main())


def test_what_is_begun_and_not_ended_is_bounded() -> None:
    """When everything fails and waits, no more is read from the plan than slots and parking."""
    read = 0

    async def plan() -> AsyncIterator[Sequence[Item]]:
        nonlocal read
        every = items(*ids(9000))
        for start in range(0, len(every), 100):
            read += 100
            yield every[start : start + 100]

    async def main() -> None:
        endpoint = Endpoint(script=lambda *_: error(429, "RATE_LIMIT", Retry_After="60"))
        async with serving(endpoint, rate=5000) as (account, lane):
            work = Work(account)
            feed = account.feed(lane, plan(), lambda page: [(i,) for i in page], work.process)
            working = asyncio.ensure_future(feed)
            await asyncio.sleep(30)
            assert read <= BEGUN + 100
            working.cancel()
            await asyncio.wait((working,))

    run_virtual(main())


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.06, 0.5, 2.0])
def test_a_cancelled_request_gives_its_slot_back(after_s: float) -> None:
    """Whether it waits for a turn, for the answer or for its retry."""

    def script(asked: Call, times: int) -> Any:
        return error(500, "INTERNAL", Retry_After="1")

    async def main() -> None:
        endpoint = Endpoint(script=script, latency_s=0.3)
        async with serving(endpoint, rate=1, concurrency=2) as (account, lane):
            tasks = [
                asyncio.ensure_future(account.request(lane, call(one), Tally())) for one in ids(4)
            ]
            await asyncio.sleep(after_s)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert idle(lane, 2)
            assert endpoint.in_flight == 0

    run_virtual(main())


def test_what_is_urgent_goes_before_what_has_not_begun() -> None:
    """A feed of another kind begins its page first and then lets the long one go on."""

    async def main() -> None:
        endpoint = Endpoint([image(one) for one in ids(400)])
        async with serving(endpoint, rate=50, concurrency=2) as (account, lane):
            work = Work(account)
            long = asyncio.ensure_future(work.feed(lane, items(*ids(300))))
            await asyncio.sleep(1)
            urgent, before = items(*ids(400)[300:]), len(endpoint.asked)
            await account.feed(
                lane, pages(urgent), lambda page: [(i,) for i in page], work.process, urgent=True
            )
            asked = [a.call.image_id for a in endpoint.asked[before:]]
            late = [one for one in asked if one not in ids(400)[300:]]
            assert len(late) <= 2 * 2  # what had its slot, and what follows the last urgent one
            await long
            assert idle(lane, 2)
        assert len(work.answers) == 400

    run_virtual(main())


@pytest.mark.parametrize(
    ("refused", "unread", "found"),
    [
        ("", {}, (False, False)),
        ("", {"a": "timeout", "b": "network_error"}, (False, True)),
        ("", {"a": "timeout", "b": "server_error"}, (False, False)),
        ("", {"a": "timeout", "b": "not_attempted"}, (False, True)),
        ("", {"a": "not_attempted"}, (False, False)),
        ("a", {"a": "denied"}, (False, False)),
        ("a", {"a": "denied", "b": "timeout"}, (True, True)),
        ("a", {"a": "timeout", "b": "server_error"}, (False, False)),
        ("a", {"a": "timeout", "b": "not_attempted"}, (False, False)),
        ("ab", {"a": "denied", "b": "not_attempted"}, (True, False)),
    ],
)
def test_why_nothing_may_have_been_heard(
    refused: str, unread: dict[str, str], found: tuple[bool, bool]
) -> None:
    """Refused: whoever was heard of; silent: every account that was asked and not refused."""
    accounts = [
        cast("Account", SimpleNamespace(name=name, refused=SILENT if name in refused else None))
        for name in "ab"
    ]
    outcomes = [(name, Outcome(value)) for name, value in unread.items()]
    assert unheard(accounts, outcomes) == found
