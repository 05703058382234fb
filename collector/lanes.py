"""The lanes of an account: slots, turns, attempts and their repetition.

A request takes a slot of its lane, then a turn at both gates, and is sent. A retry waits outside,
holding neither; it comes back through both and is signed anew. A lane that does not answer is given
up by itself; refused credentials stop their account and no other.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from collector.gate import Dispatcher, LaneGate
from collector.jdcloud.client import Client, Signer
from collector.jdcloud.protocol import UNAUTHORIZED, Call, Reply
from collector.models import Item, LaneKey, Outcome
from collector.retry import delay, should_retry
from collector.settings import Api
from collector.store.writes import Tally

__all__ = ["AbandonedError", "Account", "Answer", "Lane", "OnReply", "stopped_within", "unheard"]

OnReply = Callable[[LaneKey, Outcome, int, float], None]
"""Told of each answer: lane, outcome, which attempt it was, how long its turn took (seconds)."""

GIVE_UP_AFTER: Final = 20
"""A lane is given up after so many items in a row that ended without any answer."""

BEGUN: Final = 2_000
"""Items of a lane that are begun and not ended, those that wait for a retry included, at most."""


class AbandonedError(Exception):
    """The lane was closed before the item was answered: it stays `not_attempted`."""


class Answer(NamedTuple):
    """The reply that decides, how many requests were sent for it, and when.

    Attributes:
        began: when the first of them left (`time.monotonic`).
        ended: when the reply arrived (`time.monotonic`).
        arrived_at: the same on the calendar (UTC).
    """

    reply: Reply
    attempts: int
    began: float
    ended: float
    arrived_at: datetime

    def after(self, before: "Answer | None") -> "Answer":
        """The same, when it was asked for because of another answer."""
        if before is None:
            return self
        return self._replace(attempts=before.attempts + self.attempts, began=before.began)


class Lane:
    """One (account, region) at work.

    Attributes:
        counts: items that ended, by outcome.
        given_up: nothing is sent any more, because nothing is answered.
        calm: cleared while something urgent waits to be begun; what is not urgent lets it pass.
    """

    def __init__(self, gate: LaneGate, concurrency: int) -> None:
        self.key: LaneKey = gate.key
        self.gate = gate
        self.slots = asyncio.Semaphore(concurrency)
        self.room = asyncio.Semaphore(BEGUN)
        self.counts: Counter[Outcome] = Counter()
        self.given_up = False
        self.calm = asyncio.Event()
        self.calm.set()
        self._silent = 0

    def ended(self, outcome: Outcome) -> None:
        """Count an item's outcome; a row of unanswered ones closes the lane."""
        self.counts[outcome] += 1
        self._silent = self._silent + 1 if outcome.is_silence else 0
        self.given_up = self.given_up or self._silent >= GIVE_UP_AFTER

    def leave(self, items: Sequence[Item]) -> None:
        """Make room for as many others."""
        for _ in items:
            self.room.release()

    def reopen(self) -> None:
        """Try again what was given up."""
        self.given_up, self._silent = False, 0


@dataclass(eq=False)
class Account:
    """One account at work: its lanes share a dispatcher, credentials and fate.

    Attributes:
        rate: of each lane (requests a second).
        stop: once set, nothing more is begun and waiting retries are abandoned.
        on_reply: told of each answer; it must not block.
        refused: the reply that refused the credentials; nothing more is sent for the account.
        closing: nothing is begun or repeated any more: the deadline passed.
    """

    name: str
    _: KW_ONLY
    client: Client
    signer: Signer
    dispatcher: Dispatcher
    rate: float
    api: Api
    stop: asyncio.Event
    on_reply: OnReply | None = None
    lanes: dict[str, Lane] = field(default_factory=dict)
    refused: Reply | None = None
    closing: bool = False

    def lane(self, region: str) -> Lane:
        """The lane of a region, made when it is new."""
        if region not in self.lanes:
            key = LaneKey(self.name, region)
            gate = self.dispatcher.lane(key, self.rate, adaptive=self.api.adaptive)
            self.lanes[region] = Lane(gate, self.api.concurrency)
        return self.lanes[region]

    def is_open(self, lane: Lane) -> bool:
        """Whether something new may be begun in a lane."""
        stopped = self.stop.is_set() or self.closing
        return not (stopped or lane.given_up or self.refused is not None)

    async def feed(
        self,
        lane: Lane,
        pages: AsyncIterator[Sequence[Item]],
        split: Callable[[Sequence[Item]], Sequence[Sequence[Item]]],
        process: Callable[[Lane, Sequence[Item]], Awaitable[None]],
        *,
        urgent: bool = False,
    ) -> None:
        """Begin a lane's items as slots get free, until there are no more or the lane closes.

        `split` cuts a page into what one call asks for; `process` works on that, and finds a slot
        taken, which its first `request` gives back. Urgent pages go before what another feed of
        the lane has not begun.
        """

        async def begin(items: Sequence[Item]) -> None:
            try:
                await process(lane, items)
            except AbandonedError:
                pass  # the plan still has the items as `not_attempted`
            finally:
                lane.leave(items)

        async with asyncio.TaskGroup() as group:
            async for page in pages:
                if urgent:
                    lane.calm.clear()
                try:
                    for items in split(page):
                        for _ in items:
                            await lane.room.acquire()
                        if not urgent:
                            await lane.calm.wait()
                        await lane.slots.acquire()
                        if not self.is_open(lane):
                            lane.slots.release()
                            lane.leave(items)
                            return
                        group.create_task(begin(items))
                finally:
                    if urgent:
                        lane.calm.set()

    async def request(
        self, lane: Lane, call: Call, tally: Tally, *, has_slot: bool = False
    ) -> Answer:
        """Send a call until it is answered, cannot heal, or has had its attempts.

        It shares slot, gate and fate of the lane. A slot that the caller took for the first attempt
        (`has_slot`) is given back here; `tally` is where the run counts its requests.

        Raises:
            AbandonedError: the lane was closed before there was any answer, or the run was stopped.
            LeaseLostError: another process may hold the account now.
            UnavailableError: the same, because the database did not answer in time.
        """
        answer: Answer | None = None
        under_way = False

        def depart() -> None:
            """Tell the gates once that the request left, or will not leave."""
            nonlocal under_way
            if under_way:
                under_way = False
                self.dispatcher.left(lane.gate)

        while True:
            if not has_slot:
                await lane.slots.acquire()
            has_slot = False
            try:
                asked = time.monotonic()
                granted = await self.dispatcher.turn(lane.gate)
                under_way = True
                if not self.is_open(lane):
                    if answer is None or self.stop.is_set():
                        raise AbandonedError
                    return answer
                tally["requests"] += 1
                tally["retries"] += bool(answer)
                fresh = answer is not None and answer.reply.outcome.is_silence
                reply = await self.client.send(call, self.signer, depart, fresh=fresh)
            finally:
                depart()
                lane.slots.release()
            answer = Answer(reply, 1, granted, time.monotonic(), datetime.now(UTC)).after(answer)
            if self.on_reply is not None:
                self.on_reply(lane.key, reply.outcome, answer.attempts, granted - asked)
            self._learn(lane, reply, granted, tally)
            if self.closing or not should_retry(reply, answer.attempts, self.api.max_attempts):
                return answer
            wish_s = reply.retry_after_s
            pause = delay(answer.attempts, retry_after_s=wish_s, uniform=random.uniform)
            if await stopped_within(self.stop, pause):
                raise AbandonedError

    def _learn(self, lane: Lane, reply: Reply, granted: float, tally: Tally) -> None:
        if reply.outcome is Outcome.THROTTLED:
            tally["throttled"] += 1
            lane.gate.throttled(granted)
        elif reply.http_status is not None:  # silence says nothing about the rate
            lane.gate.accepted()
        if reply.http_status == UNAUTHORIZED:
            self.refused = reply


async def stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    """Wait, but not longer than until the signal to stop; tell whether it came."""
    try:
        async with asyncio.timeout(seconds):
            return await stop.wait()
    except TimeoutError:
        return False


def unheard(
    accounts: Collection[Account], outcomes: Iterable[tuple[str, Outcome]]
) -> tuple[bool, bool]:
    """Why nothing may have been heard: credentials, or the connection.

    `accounts` were to be served; `outcomes` are of what was not read, each with its account's name.

    Returns:
        Whether the credentials of every account that was heard of were refused; and whether all
        other accounts were silent.
    """
    refused = {account.name for account in accounts if account.refused is not None}
    asked = {outcome for name, outcome in outcomes if name not in refused}
    asked.discard(Outcome.NOT_ATTEMPTED)
    silent = bool(asked) and all(outcome.is_silence for outcome in asked)
    return bool(refused) and (silent or len(refused) == len(accounts)), silent
