"""What became of a run, as it is printed, logged and kept elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import func, select

from collector.store.engine import Database
from collector.store.reads import plain, rows
from collector.store.schema import runs
from collector.store.views import VIEWS

__all__ = ["Failure", "Summary", "summarize"]


class Failure(NamedTuple):
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
    lanes: Sequence[Mapping[str, Any]]
    failures: Sequence[Failure]

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
        parts = {"lanes": list(self.lanes), "failures": [f._asdict() for f in self.failures]}
        return plain({**self.run, "coverage": self.coverage, **parts})  # type: ignore[no-any-return]


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
        (run,) = await rows(connection, select(runs).where(runs.c.id == run_id))
        found = (await connection.execute(failures)).all()
        return Summary(run, await rows(connection, lanes), [Failure(*row) for row in found])
