"""Retention: whole old runs' observations go, and an entry of the ledger says which and when.

What stays: the run, its coverage by lane, its blocks' digests, and every version. Only sealed runs
whose rows still are what was sealed are pruned, so that pruning hides nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import delete, select

from collector.store.engine import Database
from collector.store.evidence import blocks, plain
from collector.store.ledger import PRUNE, append, lock_head, stored_blocks
from collector.store.schema import ledger, observation_rows, runs

__all__ = ["Pruned", "prune"]

_ROWS: Final = 250_000
"""Observations deleted in one transaction, but always whole runs; about a quarter of a second."""

_OBSERVATIONS: Final = "observations"


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning did.

    Attributes:
        runs: ids of the runs whose observations were deleted.
        rows: how many observations that were.
        refused: ids of the runs whose rows are not what was sealed; nothing of theirs was deleted.
    """

    runs: tuple[int, ...]
    rows: int
    refused: tuple[int, ...]


async def prune(
    database: Database, before: datetime, *, progress: Callable[[str], None] = lambda _: None
) -> Pruned:
    """Delete the observations of sealed runs that finished before a time.

    Every transaction deletes those of some whole runs, as soon as they were checked, and appends
    the entry that names them, so that it can be stopped at any moment. A run is never cut: of one
    that an entry names, `verify` takes what is there for added, and of any other what is not there
    for removed. Of all runs it is the large ones that take long: a million rows some seconds.

    Raises:
        UnavailableError: the database cannot be reached or written.
    """
    pruned: list[int] = []
    refused: list[int] = []
    rows, batch = 0, list[Any]()
    due = await _due(database, before)
    for number, run in enumerate(due, 1):
        progress(f"run {run.id} ({number:,} of {len(due):,})")
        if await _intact(database, run.id):
            batch.append(run)
        else:
            refused.append(run.id)
        if batch and (number == len(due) or sum(one.planned for one in batch) >= _ROWS):
            rows += await _delete(database, batch, before)
            pruned += [one.id for one in batch]
            batch = []
    return Pruned(tuple(pruned), rows, tuple(refused))


async def _due(database: Database, before: datetime) -> Sequence[Any]:
    some = select(observation_rows.c.run_id).where(observation_rows.c.run_id == runs.c.id)
    query = (
        select(runs.c.id, runs.c.digest, runs.c.planned)
        .join(ledger, ledger.c.run_id == runs.c.id)
        .where(runs.c.finished_at < before, runs.c.digest == ledger.c.digest, some.exists())
        .order_by(ledger.c.seq)
    )
    async with database.read() as connection:
        return (await connection.execute(query)).all()


async def _intact(database: Database, run_id: int) -> bool:
    async with database.read() as connection:
        sealed = await stored_blocks(connection, run_id)
        found = await blocks(connection, run_id, _OBSERVATIONS)
    return [block for block in sealed if block.kind == _OBSERVATIONS] == found


async def _delete(database: Database, batch: Sequence[Any], before: datetime) -> int:
    content: dict[str, Any] = {"before": plain(before), "runs": [run.digest for run in batch]}
    rows = 0
    async with database.write() as connection:
        for run in batch:
            statement = delete(observation_rows).where(observation_rows.c.run_id == run.id)
            rows += (await connection.execute(statement)).rowcount
        # The chain's end comes last: nobody who seals waits while rows are deleted.
        head = await lock_head(connection)
        await append(connection, head, PRUNE, msgspec.json.encode(content).decode())
    return rows
