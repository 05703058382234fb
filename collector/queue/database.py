"""The durable queue in the database: a row is an item, and leaves it with the commit of its result.

Items have no lease of their own. Those that carry a token are in flight under the account's lease;
whoever takes that lease makes them wait again. Deliveries are counted when an item is begun, so
that one which kills its process ends among the dead letters.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.errors import UnavailableError
from collector.models import Item, LaneKey, Result
from collector.queue.letters import Depth, depths
from collector.store.engine import Database, is_deadlock
from collector.store.leases import Leases
from collector.store.look import shared
from collector.store.plan import Plan, lane_id
from collector.store.schema import lanes, queue_items

__all__ = ["CHUNK", "FREE", "DatabaseQueue", "Flight"]

CHUNK: Final = 1_000
"""Ids added in one transaction."""

TRIES: Final = 5
"""How often a chunk is added that a deadlock undoes."""

RETRY_S: Final = 30.0
"""A failed delivery is tried again after this, doubled with each further one (seconds)."""

MAX_RETRY_S: Final = 86_400.0
"""But not later than this (seconds)."""

_q = queue_items.c
_WAITS: Final = (_q.dead_at.is_(None), _q.token.is_(None))
FREE: Final[dict[str, Any]] = {"token": None, "started_at": None, "again": sa.false()}
"""Of an item that waits."""


@dataclass(frozen=True, slots=True)
class Flight:
    """An item that was begun and is not settled.

    Attributes:
        deliveries: which delivery this is, from 1.
    """

    run_id: int
    key: LaneKey
    lane_id: int
    image_id: str
    token: int
    deliveries: int


@dataclass(slots=True)
class _Had:
    """What a run had already, and which rows of it wait again: they are for the next run."""

    run_id: int
    items: set[tuple[LaneKey, str]] = field(default_factory=set)
    back: set[int] = field(default_factory=set)


class DatabaseQueue:
    """The queue as `serve` works on it, and as `queue add` fills it.

    After `max_deliveries` an item goes to the dead letters.
    """

    def __init__(self, database: Database, *, max_deliveries: int) -> None:
        self._database = database
        self._max_deliveries = max_deliveries
        self._leases = Leases(database, {})
        self._flying: dict[tuple[int, str], Flight] = {}
        self._had: dict[str, _Had] = {}
        self._cut: list[Flight] = []
        self._accounts = shared(self._look)
        keys, times = (
            ("lane_id", "image_id"),
            {"added_at": database.now(), "ready_at": database.now()},
        )
        dead = _q.dead_at.is_not(None)
        change = {  # in the order of the columns: MariaDB looks at what it assigned already
            "deliveries": sa.case((dead, sa.literal_column("0")), else_=_q.deliveries),
            "ready_at": sa.case((dead, database.now()), else_=_q.ready_at),
            "again": _q.token.is_not(None),
            "dead_at": sa.null(),
        }
        insert = database.upsert(queue_items, keys, change).values(times)
        self._insert = database.prepare_insert(insert, keys)

    async def add(self, key: LaneKey, ids: Sequence[str]) -> int:
        """Add ids; one that waits stays, one in flight comes again, a dead one gets a new life.

        Returns:
            How many did not wait already.
        """
        # Sorted, so that two that add cannot wait for each other in a ring.
        chunks = (sorted(set(ids[n : n + CHUNK])) for n in range(0, len(ids), CHUNK))
        return sum([await self._add(key, chunk) for chunk in chunks])

    async def _add(self, key: LaneKey, ids: Sequence[str], tries: int = TRIES) -> int:
        try:
            async with self._database.within(), self._database.write() as connection:
                lane = await lane_id(self._database, connection, key)
                waiting = _q.dead_at.is_(None) & (_q.token.is_(None) | _q.again)
                known = (_q.lane_id == lane) & _q.image_id.in_(ids) & waiting
                count = sa.select(sa.func.count()).select_from(queue_items).where(known)
                added = len(ids) - (await connection.execute(count)).scalar_one()
                await self._insert.run(connection, [(lane, image_id) for image_id in ids])
        except UnavailableError as error:
            if tries > 1 and is_deadlock(error):  # a worker settles the same ids in another order
                return await self._add(key, ids, tries - 1)
            raise
        return added

    async def reach(self) -> None:
        """Raise `UnavailableError` when what holds the items, beside the database, is not there."""

    async def connect(self, leases: Leases) -> None:
        """A session begins: its leases guard what is taken."""
        self._leases = leases

    async def watch(self) -> None:
        """Return, or raise `UnavailableError`, when the session must end."""

    async def close(self) -> None:
        """The session ended; what it left in flight did not fail by itself."""
        self._cut += self._flying.values()
        self._flying.clear()
        self._had.clear()

    async def begin(self, account: str) -> None:
        """The account's lease was just taken: what is in flight was cut.

        It waits again, or is dead when that happened to it in the last of its deliveries.
        """
        of_account = sa.select(lanes.c.id).where(lanes.c.account == account)
        async with self._leases.write([account]) as connection:
            for cut in self._cut:
                if cut.key.account == account:
                    where = self._where(cut.lane_id, cut.token, [cut.image_id])
                    less = {"deliveries": _q.deliveries - 1}
                    await connection.execute(sa.update(queue_items).where(*where).values(less))
            flying = (_q.lane_id.in_(of_account), _q.token.is_not(None))
            await connection.execute(sa.update(queue_items).where(*flying).values(self._freed()))
            text = f"its process ended in the last of {self._max_deliveries} deliveries"
            dead = {
                "dead_at": self._database.now(),
                "last_error": sa.func.coalesce(_q.last_error, text),
            }
            spent = (_q.lane_id.in_(of_account), *_WAITS, _q.deliveries >= self._max_deliveries)
            await connection.execute(sa.update(queue_items).where(*spent).values(dead))
        self._cut = [cut for cut in self._cut if cut.key.account != account]

    async def due(self, account: str, run_id: int = 0) -> list[LaneKey]:
        """The lanes that have something to take, leaving out what the run had already."""
        if not run_id and account not in await self._accounts():
            return []
        back = self._had_of(account, run_id).back
        some = sa.select(_q.id).where(_q.lane_id == lanes.c.id, *self._takable(back))
        query = sa.select(lanes.c.region).where(
            lanes.c.account == account, some.correlate(lanes).exists()
        )
        rows = await self._database.select(query.order_by(lanes.c.region))
        return [LaneKey(account, row.region) for row in rows]

    async def _look(self) -> frozenset[str]:
        """The accounts that have something to take."""
        some = sa.select(_q.id).where(_q.lane_id == lanes.c.id, *self._takable(()))
        query = sa.select(lanes.c.account).where(some.correlate(lanes).exists())
        return frozenset(row.account for row in await self._database.select(query))

    async def take(self, plan: Plan, key: LaneKey, limit: int) -> list[Item]:
        """Begin up to `limit` items of a lane in a run; they are planned there and in flight."""
        async with self._leases.write([key.account]) as connection:
            lane = await lane_id(self._database, connection, key)
            rows = await self._choose(connection, plan.run_id, key, lane, limit)
            begun = {image_id: deliveries + 1 for image_id, deliveries in rows}
            token, now = self._leases.token(key.account), self._database.now()
            if begun:
                more = {"token": token, "started_at": now, "deliveries": _q.deliveries + 1}
                where = (_q.lane_id == lane) & _q.image_id.in_(list(begun))
                await connection.execute(sa.update(queue_items).where(where).values(more))
            # Told before the commit: what is not committed has no such token, and is left alone.
            self._had_of(key.account, plan.run_id).items.update((key, one) for one in begun)
            for image_id, deliveries in begun.items():
                flight = Flight(plan.run_id, key, lane, image_id, token, deliveries)
                self._flying[lane, image_id] = flight
        if not begun:
            return []
        await plan.add(key, list(begun), datetime.now(UTC))
        return await plan.items(key, list(begun))

    async def _choose(
        self, connection: AsyncConnection, run_id: int, key: LaneKey, lane: int, limit: int
    ) -> list[tuple[str, int]]:
        """What to begin: image ids, each with its deliveries so far."""
        had, chosen = self._had_of(key.account, run_id), list[tuple[str, int]]()
        rows_seen: set[int] = set()
        while len(chosen) < limit:
            query = (
                sa.select(_q.id, _q.image_id, _q.deliveries)
                .where(_q.lane_id == lane, *self._takable(had.back | rows_seen))
                .order_by(_q.ready_at, _q.id)
                .limit(limit - len(chosen))
            )
            rows = (await connection.execute(query)).all()
            rows_seen |= {row.id for row in rows}
            back = {row.id for row in rows if (key, row.image_id) in had.items}
            had.back |= back
            chosen += [(row.image_id, row.deliveries) for row in rows if row.id not in back]
            if not back:
                break
        return chosen

    def _takable(self, skip: Collection[int]) -> tuple[sa.ColumnElement[bool], ...]:
        ready = (*_WAITS, _q.ready_at <= self._database.now())
        return (*ready, _q.id.not_in(sorted(skip))) if skip else ready

    def _had_of(self, account: str, run_id: int) -> "_Had":
        """What the account's run had; kept here, for a query over it would grow with the run."""
        had = self._had.get(account)
        if had is None or had.run_id != run_id:
            had = self._had[account] = _Had(run_id)
        return had

    async def settle(self, connection: AsyncConnection, results: Sequence[Result]) -> None:
        """Acknowledge what is read and send back what failed, in the transaction of the results."""
        read: dict[tuple[int, int], list[str]] = defaultdict(list)
        failed: dict[tuple[int, int, int], list[dict[str, str]]] = defaultdict(list)
        for result in results:
            item, flight = result.item, self._flight(result.item)
            if flight is None:
                continue
            if result.outcome.is_reading:
                read[item.lane_id, flight.token].append(item.image_id)
            else:
                error = result.error_message or result.error_code or f"{result.http_status or ''}"
                row = {"of": item.image_id, "outcome": result.outcome.value, "error": error}
                failed[item.lane_id, flight.token, flight.deliveries].append(row)
        for (lane, token), ids in sorted(read.items()):
            where = self._where(lane, token, ids)
            gone = sa.delete(queue_items).where(*where, _q.again == sa.false())
            await connection.execute(gone)
            await connection.execute(sa.update(queue_items).where(*where).values(self._anew()))
        for (lane, token, deliveries), rows in sorted(failed.items()):
            for statement in self._failed(lane, token, deliveries):
                await connection.execute(statement, rows)

    def _freed(self) -> dict[str, Any]:
        """What becomes of an item that was cut."""
        return FREE

    def _anew(self) -> dict[str, Any]:
        return {**FREE, "deliveries": 0, "ready_at": self._database.now(), "last_outcome": None}

    def _failed(self, lane: int, token: int, deliveries: int) -> list[sa.Update]:
        mine = sa.update(queue_items).where(
            _q.lane_id == lane, _q.token == token, _q.image_id == sa.bindparam("of")
        )
        why: dict[str, Any] = {
            "last_outcome": sa.bindparam("outcome"),
            "last_error": sa.bindparam("error"),
        }
        if deliveries < self._max_deliveries:
            pause = min(RETRY_S * 2.0 ** min(deliveries - 1, 64), MAX_RETRY_S)
            later = {**FREE, **why, "ready_at": self._database.now(pause)}
            return [mine.values(later)]
        asked_again = mine.where(_q.again == sa.true()).values({**self._anew(), **why})
        dead = mine.values({**FREE, **why, "dead_at": self._database.now()})
        return [asked_again, dead]

    def committed(self, results: Sequence[Result]) -> None:
        """The transaction of `settle` is committed."""
        for result in results:
            if self._flight(result.item) is not None:
                del self._flying[result.item.lane_id, result.item.image_id]

    async def give_back(self, run_id: int) -> None:
        """What a run began and did not attempt waits again; it cost nothing."""
        left = [flight for flight in self._flying.values() if flight.run_id == run_id]
        async with self._leases.write({flight.key.account for flight in left}) as connection:
            for flight in left:
                await connection.execute(self._return(flight))
        for flight in left:
            self._flying.pop((flight.lane_id, flight.image_id), None)

    def _return(self, flight: Flight) -> sa.Update | sa.Delete:
        where = self._where(flight.lane_id, flight.token, [flight.image_id])
        values = {**FREE, "deliveries": _q.deliveries - 1}
        return sa.update(queue_items).where(*where).values(values)

    async def depths(self) -> list[Depth]:
        """What each lane holds."""
        return await depths(self._database)

    def in_flight(self, key: LaneKey) -> int:
        """How many items of a lane were begun here and are not settled."""
        return sum(flight.key == key for flight in self._flying.values())

    def _flight(self, item: Item) -> Flight | None:
        flight = self._flying.get((item.lane_id, item.image_id))
        return flight if flight is not None and flight.run_id == item.run_id else None

    @staticmethod
    def _where(lane: int, token: int, ids: Collection[str]) -> tuple[sa.ColumnElement[bool], ...]:
        return (_q.lane_id == lane, _q.token == token, _q.image_id.in_(ids))
