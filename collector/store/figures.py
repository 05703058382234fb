"""What metrics tell of the database: each lane's last success and coverage."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select

from collector.models import LaneKey
from collector.store.engine import Database
from collector.store.schema import lanes, run_lanes, runs

__all__ = ["LaneFigures", "lane_figures"]


@dataclass(frozen=True, slots=True)
class LaneFigures:
    """A lane, judged by finished runs over all its targets.

    Attributes:
        last_success: when the newest run that read every item of it was finished.
        planned: items of its newest finished run.
        read: those of them that were read.
    """

    last_success: datetime | None
    planned: int
    read: int


async def lane_figures(database: Database) -> dict[LaneKey, LaneFigures]:
    """The figures of every lane that a finished run over all targets had."""
    whole = (runs.c.scope == "whole") & runs.c.finished_at.is_not(None)
    success = case((run_lanes.c.failed == 0, runs.c.finished_at))
    newest = (
        select(
            run_lanes.c.lane_id,
            func.max(run_lanes.c.run_id).label("run_id"),
            func.max(success).label("success"),
        )
        .join(runs, runs.c.id == run_lanes.c.run_id)
        .where(whole)
        .group_by(run_lanes.c.lane_id)
        .subquery()
    )
    last = (run_lanes.c.lane_id == newest.c.lane_id) & (run_lanes.c.run_id == newest.c.run_id)
    read = run_lanes.c.present + run_lanes.c.not_found
    query = (
        select(lanes.c.account, lanes.c.region, newest.c.success, run_lanes.c.planned, read)
        .select_from(newest)
        .join(run_lanes, last)
        .join(lanes, lanes.c.id == newest.c.lane_id)
    )
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    return {LaneKey(row[0], row[1]): LaneFigures(row[2], row[3], row[4]) for row in rows}
