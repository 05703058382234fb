"""Whether the inventory is fresh and whole, judged by the runs of the whole configuration.

A run without an account counts for every account in its lanes, a run of `serve` for its own. An
account that the newest run without an account left out, and that has no newer run of its own, is
no longer configured and is not judged.
"""

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.models import LaneKey
from collector.store.engine import Database
from collector.store.leases import Holder, holders
from collector.store.reads import Record, plain, rows
from collector.store.schema import images, lanes, queue_items, run_lanes, runs
from collector.store.views import VIEWS

__all__ = ["PLACE", "AccountState", "Status", "lane_figures", "read_status", "unread_images"]

EXAMPLES: Final = 5
"""Unread images that are named."""

_FACTS: Final = ("id", "trigger", "status", "started_at", "finished_at", "planned")
_RUN: Final = (*_FACTS, "present", "not_found", "failed", "listings_failed", "digest")

PLACE: Final = (
    func.row_number()
    .over(
        partition_by=run_lanes.c.lane_id,
        order_by=(runs.c.finished_at.desc(), run_lanes.c.run_id.desc()),
    )
    .label("place")
)
"""Of a run among those of a lane: 1 is the one that was finished last."""


class AccountState(NamedTuple):
    """One account's last runs of the whole configuration.

    Attributes:
        last: columns of the one that was finished last.
        complete: those of the complete one that was finished last.
    """

    account: str
    last: Record | None
    complete: Record | None
    stale: bool


class Status(NamedTuple):
    """What `collector status` tells, as its JSON has it, but for `uncounted`.

    Attributes:
        stale: there is no complete run, or not of every account, within the age allowed.
        last_run: of the whole configuration, or an account's part, that was finished last.
        lanes: rows of `run_coverage`, each of its account's run that was finished last.
        oldest_reading: the image that is present and was read longest ago, and when.
        unread: number of unread `images`, also `by_outcome`; `examples`, the longest unread first.
        queue: items of the durable queue that wait or are in flight, `queued`; and `dead` letters.
        uncounted: number of narrowed and queue runs that were finished after `last_run`.
    """

    stale: bool
    at: datetime
    max_age_s: float
    last_run: Record | None
    accounts: list[AccountState]
    lanes: list[Record]
    oldest_reading: Record | None
    unread: dict[str, Any]
    queue: dict[str, int]
    holders: list[Holder]
    uncounted: int

    def document(self) -> Record:
        """One JSON document."""
        return {name: plain(told) for name, told in self._asdict().items() if name != "uncounted"}


async def read_status(database: Database, at: datetime, max_age: timedelta) -> Status:
    """Read everything that `collector status` tells, as of one moment of the database."""
    held = await holders(database)
    async with database.read() as connection:
        accounts = await _accounts(connection, at - max_age)
        ended = [state.last for state in accounts if state.last is not None]
        last = max(ended, key=lambda run: (run["finished_at"], run["id"]), default=None)
        since = runs.c.finished_at > (last["finished_at"] if last is not None else at)
        others = select(func.count()).select_from(runs).where(runs.c.scope != "whole", since)
        uncounted = (await connection.execute(others)).scalar_one()
        coverage: list[Record] = []
        view = VIEWS["run_coverage"]
        for state in accounts:
            if state.last is not None:
                of = (view.c.run_id == state.last["id"]) & (view.c.account == state.account)
                coverage += await rows(connection, select(view).where(of).order_by(view.c.region))
        unread, examples = await unread_images(connection, EXAMPLES)
        dead = func.count(queue_items.c.dead_at)
        counted = select(func.count(), dead).select_from(queue_items)
        queue = (await connection.execute(counted)).one()
        i = images.c
        where = (i.account, i.region, i.image_id)
        read = select(*where, i.last_checked_at).where(i.state == "present")
        oldest = await rows(connection, read.order_by(i.last_checked_at, *where).limit(1))
    return Status(
        stale=not accounts or any(account.stale for account in accounts),
        at=at,
        max_age_s=max_age.total_seconds(),
        last_run=last,
        accounts=accounts,
        lanes=coverage,
        oldest_reading=next(iter(oldest), None),
        unread={"images": sum(unread.values()), "by_outcome": unread, "examples": examples},
        queue={"queued": queue[0] - queue[1], "dead": queue[1]},
        holders=held,
        uncounted=uncounted,
    )


async def unread_images(
    connection: AsyncConnection, limit: int
) -> tuple[dict[str, int], list[Record]]:
    """Number of unread images by outcome, and a few of them, the longest unread first."""
    view = VIEWS["unread_images"]
    kinds = select(view.c.outcome, func.count()).group_by(view.c.outcome).order_by(view.c.outcome)
    counts = {row[0]: row[1] for row in await connection.execute(kinds)}
    identity = (view.c.account, view.c.region, view.c.image_id)
    some = select(view).order_by(view.c.since, *identity).limit(limit)
    return counts, await rows(connection, some)


async def _accounts(connection: AsyncConnection, limit: datetime) -> list[AccountState]:
    """The accounts that are judged; stale without a complete run finished since `limit`."""
    account = func.coalesce(runs.c.account, lanes.c.account).label("account")
    shared = case((runs.c.account.is_(None), runs.c.id))
    finished = runs.c.finished_at  # not the highest number: an older run may have been resumed
    complete = case((runs.c.status == "complete", finished))
    source = runs.outerjoin(run_lanes).outerjoin(lanes)
    counted = (runs.c.scope == "whole") & runs.c.planned_at.is_not(None)
    query = (
        select(account, *(func.max(one) for one in (runs.c.id, shared, finished, complete)))
        .select_from(source)
        .where(counted)
        .group_by(account)
    )
    known = [tuple(row) for row in await connection.execute(query) if row[0] is not None]
    newest_shared = max((row[2] or 0 for row in known), default=0)
    judged = {name: ends for name, newest, _, *ends in known if newest >= newest_shared}
    wanted = {at for ends in judged.values() for at in ends if at is not None}
    some = select(account, *(runs.c[name] for name in _RUN)).select_from(source).distinct()
    some = some.where(counted, finished.in_(wanted)).order_by(runs.c.id)
    found = [(row.pop("account"), row) for row in await rows(connection, some)]
    # Of those that ended in one instant, the one with the highest number was the last.
    by_end = {(name, run["finished_at"]): run for name, run in found}
    whole = {(name, run["finished_at"]): run for name, run in found if run["status"] == "complete"}
    states = []
    for name, (last_end, whole_end) in sorted(judged.items()):
        last, run = by_end.get((name, last_end)), whole.get((name, whole_end))
        stale = run is None or run["finished_at"] < limit
        states.append(AccountState(name, last, run, stale))
    return states


async def lane_figures(database: Database) -> dict[LaneKey, tuple[datetime | None, float]]:
    """What metrics tell of every lane that a finished run over all its targets had.

    Returns:
        When a run that read every item of it was finished last, and what share the last one read.
    """
    c, ended = run_lanes.c, runs.c.finished_at
    success = func.max(case((c.failed == 0, ended))).over(partition_by=c.lane_id)
    read = (c.present + c.not_found).label("read")
    last = (
        select(c.lane_id, c.planned, read, success.label("success"), PLACE)
        .join(runs, runs.c.id == c.run_id)
        .where(runs.c.scope == "whole", ended.is_not(None))
        .subquery()
    )
    query = (
        select(lanes.c.account, lanes.c.region, last.c.success, last.c.planned, last.c.read)
        .join(last, last.c.lane_id == lanes.c.id)
        .where(last.c.place == 1)
    )
    return {
        LaneKey(account, region): (ended, read / planned if planned else 1.0)
        for account, region, ended, planned, read in await database.select(query)
    }
