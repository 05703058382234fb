"""What the durable queue holds, for a person: depth and age by lane, and the dead letters."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import case, func, select, update

from collector.store.engine import Database
from collector.store.leases import holders
from collector.store.schema import lanes, queue_items
from collector.store.stream import pages

__all__ = ["INVALID", "Depth", "dead_letters", "depths", "retry"]

CHUNK: Final = 1_000
"""Dead letters that are retried in one transaction: nobody who works waits for all of them."""

INVALID: Final = "invalid_message"
"""Stands as the outcome of a broker's message that is no image id."""

_q = queue_items.c


@dataclass(frozen=True, slots=True)
class Depth:
    """What a lane of the queue holds.

    Attributes:
        ready: may be taken now.
        delayed: failed, and is tried again later.
        oldest_s: age of the oldest that waits (seconds); None when none does.
        flying_s: since when the oldest in flight is (seconds).
    """

    account: str
    region: str
    ready: int = 0
    delayed: int = 0
    in_flight: int = 0
    failed: int = 0
    oldest_s: float | None = None
    flying_s: float | None = None


async def depths(database: Database) -> list[Depth]:
    """What each lane of the queue holds; in flight is what a living holder has begun."""
    held = {holder.account for holder in await holders(database)}
    waits, flies = _q.token.is_(None) & _q.dead_at.is_(None), _q.token.is_not(None)
    ready = waits & (_q.ready_at <= database.now())
    query = (
        select(
            lanes.c.account,
            lanes.c.region,
            func.count(case((ready, 1))),
            func.count(case((waits, 1))),
            func.count(case((flies, 1))),
            func.count(_q.dead_at),
            func.min(case((waits, _q.added_at))),
            func.min(_q.started_at),
            database.now(),
        )
        .join(lanes, lanes.c.id == _q.lane_id)
        .group_by(lanes.c.account, lanes.c.region)
        .order_by(lanes.c.account, lanes.c.region)
    )
    rows = await database.select(query)
    found = []
    for account, region, now_ready, waiting, flying, dead, oldest, started, now in rows:
        alive = account in held
        found.append(
            Depth(
                account,
                region,
                now_ready + (0 if alive else flying),
                waiting - now_ready,
                flying if alive else 0,
                dead,
                None if oldest is None else (now - oldest).total_seconds(),
                None if started is None or not alive else (now - started).total_seconds(),
            )
        )
    return found


async def retry(database: Database, ids: Collection[str] | None, account: str | None) -> list[str]:
    """Take items from the dead letters, and return them as `REGION/ID`.

    All, or those of some ids (`REGION/ID`, or the id alone), and of one account if it is given. A
    message that is no image id stays: asking for it cannot succeed.
    """
    query = select(_q.id, lanes.c.region, _q.image_id).join(lanes, lanes.c.id == _q.lane_id)
    query = query.where(_q.dead_at.is_not(None), func.coalesce(_q.last_outcome, "") != INVALID)
    if account is not None:
        query = query.where(lanes.c.account == account)
    wanted = set(ids or ())
    if ids is not None:
        query = query.where(_q.image_id.in_({one.rpartition("/")[2] for one in wanted}))
    values = {"dead_at": None, "deliveries": 0, "ready_at": database.now()}
    query, last, names = query.order_by(_q.id).limit(CHUNK), 0, list[str]()
    while True:
        async with database.write() as connection:
            page = (await connection.execute(query.where(_q.id > last))).all()
            rows = [
                (row.id, f"{row.region}/{row.image_id}")
                for row in page
                if ids is None or {row.image_id, f"{row.region}/{row.image_id}"} & wanted
            ]
            some = _q.id.in_([key for key, _ in rows])
            await connection.execute(update(queue_items).where(some).values(values))
        names += [name for _, name in rows]
        if len(page) < CHUNK:
            return names
        last = page[-1].id


async def dead_letters(database: Database) -> AsyncIterator[Mapping[str, Any]]:
    """The dead letters, the oldest first; memory is flat."""
    query = (
        select(
            lanes.c.account,
            lanes.c.region,
            *(_q[name] for name in ("image_id", "deliveries", "added_at", "dead_at")),
            *(_q[name] for name in ("last_outcome", "last_error")),
        )
        .join(lanes, lanes.c.id == _q.lane_id)
        .where(_q.dead_at.is_not(None))
        .order_by(_q.dead_at, _q.id)
    )
    async with database.read() as connection:
        async for page in pages(connection, query, CHUNK):
            for row in page:
                yield row._asdict()
