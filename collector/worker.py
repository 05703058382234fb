"""One account of a service: its lease, its queue runs, its scheduled runs, its pauses.

The rules of the runs are those of the public contract. Queue items go before scheduled ones.
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from typing import Final

from collector import log
from collector.errors import CollectorError
from collector.jdcloud.protocol import MAX_PAGE_SIZE
from collector.lanes import Account, Lane, stopped_within
from collector.models import Item, LaneKey, Outcome
from collector.queue.database import DatabaseQueue
from collector.run import DRAIN_S, Order, close_run, drain_on_stop, seal_abandoned, work
from collector.session import Session
from collector.sources import Selection, Sources, plan_digest
from collector.store import plan
from collector.store.leases import Holder
from collector.store.plan import Plan

__all__ = ["Worker"]

_uniform: Final = random.uniform  # spreads processes; no secret

RUN_ITEMS: Final = 10_000
"""A queue run is finished after so many items."""

RUN_S: Final = 300.0
"""And takes no more after this long (seconds)."""

POLL_S: Final = 1.0
"""How often an idle queue is looked at (seconds)."""

LEASE_POLL_S: Final = 3.0
"""How often an account that another process holds is tried (seconds)."""

PAUSE_S: Final = 60.0
"""After refused credentials, or a lane that gives no answer (seconds); doubled each time."""

MAX_PAUSE_S: Final = 900.0
"""The longest such pause (seconds)."""

RECHECK_S: Final = 60.0
"""How often the time of the last scheduled run is read again (seconds)."""


@dataclass(kw_only=True)
class Worker:
    """One account, from the taking of its lease to the end of the session.

    Attributes:
        session: whose leases, writer and signal to stop it shares.
        name: of the account.
        tried: told of each attempt to take the lease: the account, and who else holds it.
    """

    session: Session
    name: str
    queue: DatabaseQueue
    tried: Callable[[str, Holder | None], None]
    account: Account = field(init=False)
    _pauses: dict[str, float] = field(default_factory=dict)
    _reopening: set[str] = field(default_factory=set)
    _resting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _read: int = 0

    async def work(self) -> None:
        """Wait for the lease, then serve until stopped."""
        session = self.session
        wait_s = await self._take()
        if wait_s is None:
            return
        with log.bound(account=self.name):
            log.get_logger().info("account_taken", first_call_in_s=round(wait_s, 1))
            self.account = session.serve(self.name, wait_s)
            await seal_abandoned(session)
            await self.queue.begin(self.name)
            every_s = session.settings.schedule.every
            has_targets = any(one.account == self.name for one in session.settings.targets)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._serve_queue())
                if every_s and has_targets:
                    group.create_task(self._serve_schedule(every_s))

    async def _take(self) -> float | None:
        while not self.session.stop.is_set():
            leases = self.session.leases
            taken = await leases.look(self.name) or await leases.take(self.name)
            self.tried(self.name, taken if isinstance(taken, Holder) else None)
            if not isinstance(taken, Holder):
                return taken
            await stopped_within(self.session.stop, LEASE_POLL_S * _uniform(0.7, 1.3))
        return None

    async def _serve_queue(self) -> None:
        while not self.session.stop.is_set():
            await self._rest()
            if keys := await self.due():
                await _QueueRun(self).go(keys)
            else:
                await stopped_within(self.session.stop, POLL_S * _uniform(0.8, 1.2))

    async def due(self, run_id: int = 0) -> list[LaneKey]:
        """The lanes that are open and have something that the run did not have."""
        keys = await self.queue.due(self.name, run_id)
        return [key for key in keys if self.account.is_open(self.account.lane(key.region))]

    async def _serve_schedule(self, every_s: float) -> None:
        jitter_s = every_s * _uniform(0.0, 0.1)
        while not self.session.stop.is_set():
            last = await plan.last_whole(self.session.database, self.name)
            wait_s = 0.0
            if last is not None and last[1]:
                wait_s = every_s + jitter_s - (datetime.now(UTC) - last[0]).total_seconds()
            if wait_s > 0:
                await stopped_within(self.session.stop, min(wait_s, RECHECK_S))
                continue
            await self._rest()
            if not self.session.stop.is_set():
                await self._whole_run()
                jitter_s = every_s * _uniform(0.0, 0.1)

    async def _whole_run(self) -> None:
        settings = self.session.settings
        opening = Sources.of(settings, Selection(accounts=(self.name,)), sys.stdin.buffer)
        with ExitStack() as kept:
            try:  # in a thread: files of ids may be long
                sources = await asyncio.to_thread(kept.enter_context, opening)
            except CollectorError as error:
                log.get_logger().error("schedule_failed", reason=str(error))
                await stopped_within(self.session.stop, self._pause("schedule"))
                return
            for lane in self.account.lanes.values():
                lane.reopen()
            await work(self.session, Order(sources, trigger="schedule", account=self.name))

    async def _rest(self) -> None:
        """After refused credentials, wait; let a silent lane be tried again after a while."""
        lanes = list(self.account.lanes.values())
        read = sum(lane.counts[o] for lane in lanes for o in Outcome if o.is_reading)
        if read > self._read:
            self._read = read
            self._pauses.clear()
        for lane in lanes:
            if lane.given_up and lane.key.region not in self._reopening:
                pause_s = self._pause(lane.key.region)
                self._reopening.add(lane.key.region)
                asyncio.get_running_loop().call_later(pause_s, self._reopen, lane)
                log.get_logger().warning("lane_paused", region=lane.key.region, pause_s=pause_s)
        async with self._resting:
            if self.account.refused is not None:
                pause_s, reason = self._pause(""), self.account.refused.error_message
                log.get_logger().error("account_paused", reason=reason, pause_s=pause_s)
                await stopped_within(self.session.stop, pause_s)
                self.account.refused = None

    def _reopen(self, lane: Lane) -> None:
        self._reopening.discard(lane.key.region)
        lane.reopen()

    def _pause(self, why: str) -> float:
        pause_s = self._pauses.get(why, PAUSE_S)
        self._pauses[why] = min(pause_s * 2, MAX_PAUSE_S)
        return pause_s


class _QueueRun:
    """Items of the queue as one run of an account."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._session = worker.session
        self._account = worker.account
        self._began = time.monotonic()
        self._taken = 0
        self._plan: Plan

    async def go(self, keys: Sequence[LaneKey]) -> None:
        worker, session, name = self._worker, self._session, self._account.name
        wanted = plan_digest(session.settings.api, ["queue", name])
        async with session.opening:
            self._plan = await session.open_run("queue", wanted, keys, whole=False, account=name)
        run_id = self._plan.run_id
        with log.bound(run_id=run_id):
            await drain_on_stop(session.stop, self._feed_lanes(keys), DRAIN_S)
            await session.writer.drain()
            await worker.queue.give_back(run_id)
            stopped = session.stop.is_set()
            await self._plan.planned(datetime.now(UTC))
            status, digest = await close_run(session, run_id, interrupted=stopped)
            session.finished(run_id, "queue", status)
            log.get_logger().info(
                "run_finished", status=status, planned=self._taken, digest=digest, trigger="queue"
            )

    @property
    def _room(self) -> int:
        """How many items may still be taken."""
        late = time.monotonic() - self._began > RUN_S
        return 0 if late or self._session.stop.is_set() else RUN_ITEMS - self._taken

    async def _feed_lanes(self, keys: Sequence[LaneKey]) -> None:
        feeding: dict[LaneKey, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while keys or feeding:
                for key in keys:
                    if key not in feeding:
                        feed = self._session.feed(key, self._pages(key), urgent=True)
                        feeding[key] = group.create_task(feed)
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait(feeding.values(), timeout=POLL_S, return_when=first)
                feeding = {key: task for key, task in feeding.items() if not task.done()}
                keys = await self._worker.due(self._plan.run_id) if self._room else ()

    async def _pages(self, key: LaneKey) -> AsyncIterator[Sequence[Item]]:
        """Few at once: what is begun and cut off by a crash counts as delivered."""
        api = self._session.settings.api
        size = min(api.concurrency, ceil(self._account.rate))
        if api.fetch == "batch":
            size = api.concurrency * MAX_PAGE_SIZE
        lane, queue, tried = self._account.lane(key.region), self._worker.queue, False
        while self._room > 0 and self._account.is_open(lane):
            items = await queue.take(self._plan, key, min(size, self._room))
            if items:
                self._taken += len(items)
                self._session.writer.lane(items[0].lane_id, key)
                yield items
            elif tried and not queue.in_flight(key):
                return
            else:
                await stopped_within(self._session.stop, POLL_S)
            tried = not items
