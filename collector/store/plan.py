"""The durable plan: a row an item before the first call; a run from opening to finish."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.models import READINGS, Item, LaneKey, Outcome
from collector.store.engine import Database
from collector.store.leases import Leases
from collector.store.schema import (
    image_versions,
    images,
    lanes,
    leases,
    observation_rows,
    run_lanes,
    runs,
)

__all__ = ["Opening", "Plan", "finish", "known_images", "last_whole", "unfinished", "unsealed"]

RESUMABLE: Final = timedelta(hours=24)
"""An unfinished run may be resumed this long after it began."""

CHUNK: Final = 1_000
"""Ids planned with one statement."""

PAGE: Final = 500
"""Items that a lane reads at once."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a run is, before anything is planned; the columns of `runs` of the same names."""

    trigger: str
    plan_digest: str
    config_digest: str
    tool_version: str
    scope: str
    time_zone: str
    account: str | None = None


class Plan:
    """The planned items of one run."""

    def __init__(self, database: Database, leases: Leases, run_id: int) -> None:
        self.run_id = run_id
        self._database = database
        self._leases = leases
        self._lane_ids: dict[LaneKey, int] = {}
        names = ("account", "region", "image_id", "state", "first_planned_at")
        self._insert_images = database.prepare_insert(database.insert_new(images), names)
        self._observe = self._observing()

    @classmethod
    async def open(
        cls,
        database: Database,
        leases: Leases,
        opening: Opening,
        now: datetime,
        keys: Iterable[LaneKey] = (),
    ) -> "Plan":
        """Begin a run; it is `running` and cannot be resumed until `planned` was called.

        Its lanes `keys` are named in the same transaction: by them every other process knows that
        the run is not its own to seal.
        """
        values = {"status": "running", "started_at": now, **asdict(opening)}
        statement = sa.insert(runs).values(values)
        async with leases.write() as connection:
            created: Any = (await connection.execute(statement)).inserted_primary_key
            opened = cls(database, leases, created[0])
            for key in keys:
                await opened._name_lane(connection, key)
        return opened

    async def lane(self, key: LaneKey) -> int:
        """The number of a lane, made when it is new."""
        if key not in self._lane_ids:
            async with self._leases.write() as connection:
                await self._name_lane(connection, key)
        return self._lane_ids[key]

    async def _name_lane(self, connection: AsyncConnection, key: LaneKey) -> None:
        number = await lane_id(self._database, connection, key)
        values = {"run_id": self.run_id, "lane_id": number}
        await connection.execute(self._database.insert_new(run_lanes).values(values))
        self._lane_ids[key] = number

    async def add(self, key: LaneKey, ids: Sequence[str], now: datetime) -> None:
        """Plan ids of a lane; those that are planned already stay as they are."""
        lane = await self.lane(key)
        at = self._database.time(now)
        for start in range(0, len(ids), CHUNK):
            some = ids[start : start + CHUNK]
            rows = [(key.account, key.region, image_id, "unknown", at) for image_id in some]
            async with self._leases.write([key.account]) as connection:
                await self._insert_images.run(connection, rows)
                of = {"of_account": key.account, "of_region": key.region}
                await connection.execute(self._observe, {**of, "of_lane": lane, "of_ids": some})

    def _observing(self) -> Any:
        """Made once: a statement that holds its thousand ids is garbage that stays for long."""
        run, lane = sa.literal(self.run_id), sa.bindparam("of_lane", type_=sa.BigInteger())
        outcome = sa.literal_column(f"'{Outcome.NOT_ATTEMPTED}'", sa.String)
        source = sa.select(run, lane, images.c.id, outcome, sa.literal(0)).where(
            images.c.account == sa.bindparam("of_account"),
            images.c.region == sa.bindparam("of_region"),
            images.c.image_id.in_(sa.bindparam("of_ids", expanding=True)),
        )
        names = ["run_id", "lane_id", "image_pk", "outcome", "attempts"]
        return self._database.insert_new(observation_rows).from_select(names, source)

    async def planned(self, now: datetime) -> None:
        """The plan is whole: from here on the run can be resumed."""
        async with self._leases.write() as connection:
            await _count_planned(connection, self.run_id)
            await connection.execute(self._run().values(planned_at=now))

    async def resume(self) -> None:
        """Take up an unfinished run again; what was never attempted has not failed yet."""
        failed = observation_rows.c.outcome.not_in((*READINGS, Outcome.NOT_ATTEMPTED.value))
        async with self._leases.write() as connection:
            for _, change, number in _counted(self.run_id, failed):
                await connection.execute(change.values(failed=number))
            await connection.execute(self._run().values(status="running", finished_at=None))

    async def listing_failed(self) -> None:
        """Count a discover listing that could not be read whole."""
        async with self._leases.write() as connection:
            more = runs.c.listings_failed + 1
            await connection.execute(self._run().values(listings_failed=more))

    def _run(self) -> sa.Update:
        return sa.update(runs).where(runs.c.id == self.run_id)

    async def lanes(self) -> dict[LaneKey, tuple[int, int]]:
        """The run's lanes, each with its number and how many items still wait."""
        waiting = sa.and_(
            observation_rows.c.run_id == run_lanes.c.run_id,
            observation_rows.c.lane_id == run_lanes.c.lane_id,
            observation_rows.c.outcome == Outcome.NOT_ATTEMPTED.value,
        )
        query = (
            sa.select(lanes, sa.func.count(observation_rows.c.image_pk).label("waiting"))
            .select_from(run_lanes.join(lanes).outerjoin(observation_rows, waiting))
            .where(run_lanes.c.run_id == self.run_id)
            .group_by(lanes.c.id, lanes.c.account, lanes.c.region)
        )
        rows = sorted(await self._database.select(query))
        return {LaneKey(row.account, row.region): (row.id, row.waiting) for row in rows}

    async def items(self, key: LaneKey, ids: Sequence[str]) -> list[Item]:
        """Planned ids of a lane as items, in the order of `ids`."""
        lane = await self.lane(key)
        query = sa.select(images.c.image_id, images.c.id).where(
            images.c.account == key.account,
            images.c.region == key.region,
            images.c.image_id.in_(ids),
        )
        keys = dict(await self._database.select(query))
        return [Item(self.run_id, lane, keys[image_id], image_id) for image_id in ids]

    async def waiting(self, lane: int) -> AsyncIterator[list[Item]]:
        """A lane's items that were not attempted, in pages and in the order of their keys."""
        rows, after = observation_rows.c, sa.bindparam("after", type_=sa.BigInteger())
        some = (
            sa.select(rows.image_pk, images.c.image_id)
            .join(images, images.c.id == rows.image_pk)
            .where(
                rows.run_id == self.run_id,
                rows.lane_id == lane,
                rows.image_pk > after,
                rows.outcome == Outcome.NOT_ATTEMPTED.value,
            )
            .order_by(rows.image_pk)
            .limit(PAGE)
            .subquery()
        )
        query, last = sa.select(*self._database.packed(*some.c)), 0
        while True:
            page = await self._database.select(query, after=last)
            found = sorted(map(tuple, self._database.unpacked(page)))
            if not found:
                return
            yield [Item(self.run_id, lane, pk, image_id) for pk, image_id in found]
            last = found[-1][0]


async def lane_id(database: Database, connection: AsyncConnection, key: LaneKey) -> int:
    """The number of a lane, made in the given transaction when it is new."""
    values = {"account": key.account, "region": key.region}
    await connection.execute(database.insert_new(lanes).values(values))
    same = (lanes.c.account == key.account) & (lanes.c.region == key.region)
    found: int = (await connection.execute(sa.select(lanes.c.id).where(same))).scalar_one()
    return found


async def known_images(
    database: Database, key: LaneKey, sources: Iterable[str]
) -> AsyncIterator[list[str]]:
    """A lane's images that are not gone and were last seen with one of the sources, in pages."""
    every = image_versions.alias("every_version")
    last = sa.select(sa.func.max(every.c.id)).where(every.c.image_pk == images.c.id)
    query = (
        sa.select(images.c.image_id)
        .join(image_versions, image_versions.c.image_pk == images.c.id)
        .where(
            image_versions.c.id == last.scalar_subquery(),
            images.c.account == key.account,
            images.c.region == key.region,
            images.c.image_id > sa.bindparam("after"),
            images.c.state != "gone",
            image_versions.c.image_source.in_(list(sources)),
        )
        .order_by(images.c.image_id)
        .limit(CHUNK)
    )
    last_id = ""
    while True:
        found = [row.image_id for row in await database.select(query, after=last_id)]
        if not found:
            return
        yield found
        last_id = found[-1]


async def unfinished(database: Database, plan_digest: str, now: datetime) -> int | None:
    """The newest run of a plan that can be resumed."""
    query = (
        sa.select(runs.c.id)
        .where(
            runs.c.plan_digest == plan_digest,
            runs.c.status.in_(("running", "interrupted")),
            runs.c.digest.is_(None),
            runs.c.planned_at.is_not(None),
            runs.c.started_at > now - RESUMABLE,
        )
        .order_by(runs.c.id.desc())
        .limit(1)
    )
    return next((row.id for row in await database.select(query)), None)


async def last_whole(database: Database, account: str) -> tuple[datetime, bool] | None:
    """When the newest run over all targets of an account began, and whether it is finished."""
    query = (
        sa.select(runs.c.started_at, runs.c.status.not_in(("running", "interrupted")))
        .where(runs.c.scope == "whole", _has_lane(lanes.c.account == account))
        .order_by(runs.c.id.desc())
        .limit(1)
    )
    return next(((row[0], bool(row[1])) for row in await database.select(query)), None)


async def unsealed(
    database: Database, accounts: Iterable[str], now: datetime, *, keep: Collection[int]
) -> list[int]:
    """Finished and abandoned runs without a digest, all of whose accounts are among those given.

    The caller holds the leases of `accounts` and works on the runs `keep`. Runs that began a day
    before `now` are not resumed any more. An account that nobody held for a day keeps no run of its
    own from its seal that began before that: it was renamed, or is no longer configured, and has no
    next holder.
    """
    held = sa.select(leases.c.name).where(
        leases.c.account == lanes.c.account,
        leases.c.expires > database.now(-RESUMABLE.total_seconds()),
    )
    living = sa.or_(held.exists(), runs.c.started_at > now - RESUMABLE)
    foreign = _has_lane(lanes.c.account.not_in(list(accounts)), living)
    past = sa.or_(
        runs.c.status.not_in(("running", "interrupted")),
        runs.c.planned_at.is_(None),
        runs.c.started_at <= now - RESUMABLE,
        runs.c.trigger == "queue",
    )
    query = (
        sa.select(runs.c.id)
        .where(runs.c.digest.is_(None), past, ~foreign, runs.c.id.not_in(keep))
        .order_by(runs.c.id)
    )
    return [row.id for row in await database.select(query)]


def _has_lane(*such: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Whether a run has such a lane."""
    query = sa.select(run_lanes.c.run_id).join(lanes, lanes.c.id == run_lanes.c.lane_id)
    return query.where(run_lanes.c.run_id == runs.c.id, *such).exists()


async def finish(
    database: Database,
    run_id: int,
    now: datetime,
    *,
    interrupted: bool = False,
    cut: bool = False,
    leases: Leases | None = None,
) -> str:
    """Finish a run, `interrupted` or `cut` by its deadline: what was not read counts as failed.

    A run that is finished stays as it is: whoever comes late, to seal it, read nothing of it. So
    does the run of whoever lost the `leases`, for it is another's now.

    Returns:
        The status: `complete` when everything was read and no listing failed, `failed` when
        nothing could be read, else `partial`.

    Raises:
        LeaseLostError: another process may be at work on the run.
    """
    async with database.write() as connection:
        if leases is not None:
            await leases.confirm(connection, leases.held)
        query = sa.select(runs.c.status, runs.c.finished_at, runs.c.digest)
        query = query.where(runs.c.id == run_id).with_for_update()
        status, ended, digest = (await connection.execute(query)).one()
        if ended is not None or digest is not None:
            return str(status)
        await _count_planned(connection, run_id)  # planning itself may have been cut
        for c, change, _ in _counted(run_id):
            await connection.execute(change.values(failed=c.planned - c.present - c.not_found))
        row = (await connection.execute(sa.select(runs).where(runs.c.id == run_id))).one()
        unread_members = sa.select(observation_rows.c.run_id).where(
            observation_rows.c.run_id == run_id,
            observation_rows.c.members_outcome != Outcome.PRESENT.value,
        )
        whole = row.planned_at is not None and not row.listings_failed
        if whole and row.planned == row.present + row.not_found:
            partial = (await connection.execute(unread_members.limit(1))).first() is not None
            status = "partial" if partial else "complete"
        elif interrupted:
            status = "interrupted"
        else:
            status = "partial" if cut or row.present or row.not_found else "failed"
        await connection.execute(
            sa.update(runs).where(runs.c.id == run_id).values(status=status, finished_at=now)
        )
    return status


def _counted(run_id: int, *such: Any) -> Iterator[tuple[Any, sa.Update, Any]]:
    """A run's row and those of its lanes: the columns, an update, and the number of such items."""
    items = sa.select(sa.func.count()).select_from(observation_rows)
    items = items.where(observation_rows.c.run_id == run_id, *such)
    of_lane = items.where(observation_rows.c.lane_id == run_lanes.c.lane_id).correlate(run_lanes)
    yield runs.c, sa.update(runs).where(runs.c.id == run_id), items.scalar_subquery()
    of_run = sa.update(run_lanes).where(run_lanes.c.run_id == run_id)
    yield run_lanes.c, of_run, of_lane.scalar_subquery()


async def _count_planned(connection: AsyncConnection, run_id: int) -> None:
    for _, change, planned in _counted(run_id):
        await connection.execute(change.values(planned=planned))
