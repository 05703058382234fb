"""The one writer: results become observations, versions, disks and states, a batch a transaction.

A batch is committed at least once a second, under the lease and with everything that belongs
together, so that a crash loses only what was not committed and never splits an item.
"""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.models import LaneKey, Outcome, Result
from collector.store.engine import Database
from collector.store.history import State, follow
from collector.store.leases import Leases
from collector.store.schema import run_lanes, runs
from collector.store.statements import Statements, Write

__all__ = ["Committed", "Tally", "Writer"]

BATCH: Final = 1_000
"""Items of one transaction, at most."""

FLUSH_S: Final = 0.4
"""How long a result waits for company before it is committed, at most (seconds)."""

COMMITTED_S: Final = 0.6
"""Within which it is to be committed: where commits are slow, it waits the less (seconds).

While one is older nothing new is asked for, so that a kill loses little, however slow a commit is.
"""

SLOW_S: Final = 0.2
"""No transaction is to take longer (seconds)."""

FIRST: Final = 250
"""Items of the first transaction, before it is known how fast they are."""

LEAST: Final = 50
"""Items of one transaction, however slow."""
Committed = Callable[[Sequence[LaneKey], Sequence[Result], float], None]
"""Told of each commit: the results' lanes, the results, and how long it took (seconds)."""

Tally = Counter[str]
"""Requests of a run that were sent and not yet counted in its row, by the columns that count."""


class Writer:
    """Takes results from every lane through a bounded buffer and commits them in batches.

    Args:
        settle: called in each batch's transaction with its results; the queue acknowledges there.
        committed: called after each commit with its results, their lanes, and the seconds it took.
    """

    def __init__(
        self,
        database: Database,
        leases: Leases,
        *,
        settle: Callable[[AsyncConnection, Sequence[Result]], Awaitable[None]] | None = None,
        committed: Committed | None = None,
    ) -> None:
        self._database = database
        self._leases = leases
        self._settle = settle
        self._committed = committed
        self._statements = Statements(database)
        self._waiting: deque[Result] = deque()
        self._since: deque[float] = deque()  # of what waits and what is being committed
        self._limit, self._took_s = FIRST, 0.0
        self._lanes: dict[int, LaneKey] = {}
        self._tallies: dict[int, Tally] = {}
        self._some, self._full = asyncio.Event(), asyncio.Event()
        self._room, self._calm = asyncio.Event(), asyncio.Event()
        self._progress, self._one_at_a_time = asyncio.Event(), asyncio.Lock()
        self._handed = self._done = 0
        self._closed = False

    def lane(self, lane_id: int, key: LaneKey) -> None:
        """Tell which lane a number stands for: its account's lease guards its results."""
        self._lanes[lane_id] = key

    def tally(self, run_id: int) -> Tally:
        """Where the requests of a run are counted."""
        return self._tallies.setdefault(run_id, Tally())

    def forget(self, run_id: int) -> None:
        """A run is finished; its requests are counted."""
        self._tallies.pop(run_id, None)

    async def room(self) -> None:
        """Wait while the buffer is full, or the oldest result is not committed for too long.

        Whoever asks the endpoint waits here first, so that few answers are ever uncommitted.
        """
        while self._is_behind:
            await self._wait(self._calm)

    async def put(self, result: Result) -> None:
        """Hand over a result; waits while the buffer is full."""
        while self._is_full:
            await self._wait(self._room)
        self._waiting.append(result)
        self._since.append(time.monotonic())
        self._handed += 1
        self._some.set()
        if len(self._waiting) >= self._limit:
            self._full.set()

    @property
    def _is_full(self) -> bool:
        """Whether results wait for more than the next two transactions."""
        return len(self._waiting) >= 2 * self._limit

    @property
    def _is_behind(self) -> bool:
        """Whether nothing more should be asked for."""
        late = self._since and time.monotonic() - self._since[0] > COMMITTED_S
        return self._is_full or bool(late)

    @staticmethod
    async def _wait(event: asyncio.Event) -> None:
        event.clear()
        await event.wait()

    def _wake(self) -> None:
        """Wake nobody for nothing: with hundreds of lanes, thousands wait."""
        if not self._is_full:
            self._room.set()
        if not self._is_behind:
            self._calm.set()

    async def drain(self) -> None:
        """Wait until everything that was handed over by now is committed, counted requests too."""
        goal = self._handed
        while self._done < goal:
            self._progress.clear()
            self._full.set()
            await self._progress.wait()
        await self.commit([])

    def close(self) -> None:
        """No more results come; `work` commits what there is and ends."""
        self._closed = True
        self._some.set()
        self._full.set()

    async def work(self) -> None:
        """Commit batches until closed.

        Raises:
            LeaseLostError: the account passed to another process; nothing was written.
            UnavailableError: the database cannot be written.
        """
        while True:
            await self._some.wait()
            if not self._closed:
                patience_s = min(FLUSH_S, COMMITTED_S - self._took_s)
                left_s = self._since[0] + patience_s - time.monotonic()
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await self._full.wait()
            batch = self._take()
            if batch:
                began = time.perf_counter()
                await self.commit(batch)
                self._pace(len(batch), time.perf_counter() - began)
                for _ in batch:
                    self._since.popleft()
                self._done += len(batch)
                self._progress.set()
                self._wake()
                if self._committed is not None:
                    keys = [self._lanes[result.item.lane_id] for result in batch]
                    self._committed(keys, batch, time.perf_counter() - began)
            elif self._closed:
                return

    def _pace(self, items: int, took_s: float) -> None:
        """Learn from a transaction how many items the next one may have."""
        self._took_s = took_s
        fitting = int(items * SLOW_S / took_s)
        if took_s > SLOW_S:
            self._limit = max(LEAST, fitting)
        else:
            self._limit = min(BATCH, max(self._limit, min(2 * items, fitting)))

    def _take(self) -> list[Result]:
        """The next results, each image once: a second answer builds on the first one's commit."""
        batch: list[Result] = []
        seen: set[int] = set()
        room = self._limit
        while self._waiting and len(batch) < room and self._waiting[0].item.image_pk not in seen:
            batch.append(self._waiting.popleft())
            seen.add(batch[-1].item.image_pk)
        self._wake()
        if not self._waiting and not self._closed:
            self._some.clear()
        if len(self._waiting) < self._limit and not self._closed:
            self._full.clear()
        return batch

    async def commit(self, batch: Sequence[Result]) -> None:
        """Write results, of distinct images, and the counted requests in one transaction."""
        async with self._one_at_a_time:
            tallies = {run_id: tally.copy() for run_id, tally in self._tallies.items()}
            for tally in self._tallies.values():
                tally.clear()
            if not batch and not any(tallies.values()):
                return
            keys = [self._lanes[result.item.lane_id] for result in batch]
            async with self._database.write(urgent=True) as connection:
                accounts = self._leases.held.union(key.account for key in keys)
                await self._leases.confirm(connection, accounts)
                writes: list[Write] = []
                if batch:
                    states = await self._statements.read_states(connection, batch)
                    writes = [
                        self._follow(states[result.item.image_pk], key, result)
                        for key, result in zip(keys, batch, strict=True)
                    ]
                    await self._statements.write(connection, writes)
                await _count(connection, writes, tallies)
                if self._settle is not None:
                    await self._settle(connection, batch)

    def _follow(self, state: State, key: LaneKey, result: Result) -> Write:
        at = self._database.time(result.observed_at)
        members = result.members.fingerprint if result.members is not None else None
        fingerprint = result.image.fingerprint if result.image is not None else None
        return Write(key, result, follow(state, result.outcome, at, fingerprint, members), at)


async def _count(
    connection: AsyncConnection, writes: Sequence[Write], tallies: dict[int, Tally]
) -> None:
    by_lane: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    by_run: defaultdict[int, Counter[str]] = defaultdict(Counter)
    every = Counter(
        (result.item.run_id, result.item.lane_id, result.outcome, change.opens)
        for _, result, change, _ in writes
    )
    for (run_id, lane_id, outcome, opens), n in every.items():
        kind: str = outcome if outcome.is_reading else "failed"
        by_lane[run_id, lane_id][kind] += n
        by_run[run_id][kind] += n
        if outcome is Outcome.PRESENT:
            by_run[run_id]["new_versions" if opens else "unchanged"] += n
    for run_id, tally in tallies.items():
        by_run[run_id].update(tally)
    for run_id, counts in sorted(by_run.items()):
        more = {kind: runs.c[kind] + n for kind, n in counts.items() if n}
        if more:
            await connection.execute(update(runs).where(runs.c.id == run_id).values(more))
    same: defaultdict[tuple[int, tuple[tuple[str, int], ...]], list[int]] = defaultdict(list)
    for (run_id, lane_id), counts in by_lane.items():
        same[run_id, tuple(sorted(counts.items()))].append(lane_id)
    for (run_id, each), lane_ids in sorted(same.items()):
        where = (run_lanes.c.run_id == run_id) & run_lanes.c.lane_id.in_(lane_ids)
        more = {kind: run_lanes.c[kind] + n for kind, n in each}
        await connection.execute(update(run_lanes).where(where).values(more))
