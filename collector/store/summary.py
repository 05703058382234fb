"""What became of a run, as it is printed, logged and kept elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from collector.models import READINGS
from collector.store.engine import Database
from collector.store.reads import plain, rows
from collector.store.schema import runs
from collector.store.views import VIEWS

__all__ = ["Summary", "summarize"]


@dataclass(frozen=True, slots=True)
class Summary:
    """A run's row, its lanes, and its failures by kind.

    Attributes:
        run: the columns of `runs`.
        lanes: the rows of `run_coverage`.
        failures: items of a lane that failed in the same way, with an example.
    """

    run: Mapping[str, Any]
    lanes: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]

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
        parts = {"coverage": self.coverage, "lanes": self.lanes, "failures": self.failures}
        return plain({**self.run, **parts})  # type: ignore[no-any-return]


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
        select(
            *kind,
            func.count().label("items"),
            func.min(seen.image_id).label("example_image_id"),
            func.min(seen.error_message).label("example_message"),
        )
        .where(seen.run_id == run_id, seen.outcome.not_in(READINGS))
        .group_by(*kind)
        .order_by(*kind)
    )
    async with database.read() as connection:
        (run,) = await rows(connection, select(runs).where(runs.c.id == run_id))
        return Summary(run, await rows(connection, lanes), await rows(connection, failures))
