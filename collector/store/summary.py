"""What became of a run, as it is printed, logged and kept elsewhere."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from collector.store.engine import Database
from collector.store.schema import runs
from collector.store.views import VIEWS

__all__ = ["Failure", "Summary", "summarize"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Items of a lane that failed in the same way."""

    account: str
    region: str
    outcome: str
    error_code: str | None
    items: int
    example_image_id: str
    example_message: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A run's row, its lanes, and its failures by kind.

    Attributes:
        run: the columns of `runs`.
        lanes: the rows of `run_coverage`.
    """

    run: Mapping[str, Any]
    lanes: tuple[Mapping[str, Any], ...]
    failures: tuple[Failure, ...]

    @property
    def read(self) -> int:
        """Items that were read: present or not found."""
        return int(self.run["present"] + self.run["not_found"])

    @property
    def coverage(self) -> float:
        """Share of the planned items that were read; 1 when nothing was planned."""
        return self.read / self.run["planned"] if self.run["planned"] else 1.0

    def document(self) -> dict[str, Any]:
        """One JSON document: the run's columns, `lanes` and `failures`."""
        run = {name: _plain(value) for name, value in self.run.items()}
        lanes = [dict(lane) for lane in self.lanes]
        return {
            **run,
            "coverage": self.coverage,
            "lanes": lanes,
            "failures": [asdict(failure) for failure in self.failures],
        }


async def summarize(database: Database, run_id: int) -> Summary:
    """Read a run's summary."""
    coverage, seen = VIEWS["run_coverage"].c, VIEWS["observations"].c
    lanes = (
        select(*(column for column in coverage if column.name != "run_id"))
        .where(coverage.run_id == run_id)
        .order_by(coverage.account, coverage.region)
    )
    kind = (seen.account, seen.region, seen.outcome, seen.error_code)
    failures = (
        select(*kind, func.count(), func.min(seen.image_id), func.min(seen.error_message))
        .where(seen.run_id == run_id, seen.outcome.not_in(("present", "not_found")))
        .group_by(*kind)
        .order_by(*kind)
    )
    async with database.read() as connection:
        run = (await connection.execute(select(runs).where(runs.c.id == run_id))).mappings().one()
        rows = (await connection.execute(lanes)).mappings().all()
        found = (await connection.execute(failures)).all()
    return Summary(dict(run), tuple(dict(r) for r in rows), tuple(Failure(*row) for row in found))


def _plain(value: Any) -> Any:
    return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}" if isinstance(value, datetime) else value
