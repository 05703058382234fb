"""Sealing: a finished run's rows, hashed block by block, become one entry of a chain.

`digest = SHA-256(previous digest, kind, content, block lines)`, each on a line of its own. Blocks
are hashed outside of any write transaction; the entry is appended under a lock of the chain's end.
"""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.store.engine import Database
from collector.store.evidence import KINDS, Block, blocks, run_line
from collector.store.schema import ledger, ledger_head, run_blocks, runs

__all__ = [
    "FIRST",
    "PRUNE",
    "RUN",
    "Sealed",
    "append",
    "chain",
    "last",
    "lock_head",
    "seal",
    "stored_blocks",
    "strictly",
]

T = TypeVar("T")

FIRST: Final = "0" * 64
"""The digest before the first entry."""

RUN: Final = "run"
PRUNE: Final = "prune"


@dataclass(frozen=True, slots=True)
class Sealed:
    """The last sealed run: what is worth keeping elsewhere."""

    run_id: int
    digest: str


def chain(previous: str, kind: str, content: str, lines: Iterable[bytes] = ()) -> str:
    """The digest of an entry."""
    text = [previous.encode(), kind.encode(), content.encode(), *lines, b""]
    return hashlib.sha256(b"\n".join(text)).hexdigest()


async def seal(database: Database, run_id: int) -> str:
    """Seal a finished run for good, and return its digest; once only, then it returns the same.

    Memory is flat and the event loop is never held for more than some milliseconds.

    Raises:
        ValueError: there is no such run, it is not finished, or it changed meanwhile.
        UnavailableError: the database cannot be reached or written.
    """
    async with database.read() as connection:
        line, digest = await _finished(connection, run_id)
        if digest is not None:
            return digest
        sealed = await blocks(connection, run_id)
    async with database.write() as connection:
        head = await lock_head(connection)
        await connection.execute(select(runs.c.id).where(runs.c.id == run_id).with_for_update())
        again, digest = await _finished(connection, run_id)
        if digest is not None:
            return digest
        if again != line:
            raise ValueError(f"run {run_id} changed while it was sealed")
        if sealed:
            rows = [{"run_id": run_id, **msgspec.structs.asdict(block)} for block in sealed]
            await connection.execute(insert(run_blocks), rows)
        digest = await append(connection, head, RUN, line, sealed, run_id)
        await connection.execute(update(runs).where(runs.c.id == run_id).values(digest=digest))
    return digest


async def _finished(connection: AsyncConnection, run_id: int) -> tuple[str, str | None]:
    found = await run_line(connection, run_id)
    finished = select(runs.c.finished_at).where(runs.c.id == run_id)
    if found is None or (await connection.execute(finished)).scalar_one() is None:
        raise ValueError(f"run {run_id} is not finished and cannot be sealed")
    return found


async def lock_head(connection: AsyncConnection) -> tuple[int, str]:
    """Lock the chain's end until the transaction ends; its seq and digest."""
    query = select(ledger_head.c.seq, ledger_head.c.digest).where(ledger_head.c.id == 1)
    row = (await connection.execute(query.with_for_update())).one()
    return row.seq, row.digest


async def append(
    connection: AsyncConnection,
    head: tuple[int, str],
    kind: str,
    content: str,
    sealed: Sequence[Block] = (),
    run_id: int | None = None,
) -> str:
    """Append an entry behind the locked head, and return its digest."""
    seq, digest = head[0] + 1, chain(head[1], kind, content, (block.line() for block in sealed))
    entry = {"seq": seq, "kind": kind, "run_id": run_id, "content": content, "digest": digest}
    await connection.execute(insert(ledger).values(entry))
    await connection.execute(
        update(ledger_head).where(ledger_head.c.id == 1).values(seq=seq, digest=digest)
    )
    return digest


def strictly(row: Any, kind: type[T]) -> T:
    """A row as a Struct of strict types; SQLite stores what it is given, forged or not.

    Raises:
        ValueError: a value has another type.
    """
    return msgspec.convert(row, kind, from_attributes=True)


async def stored_blocks(connection: AsyncConnection, run_id: Any) -> list[Block]:
    """A run's blocks as they were sealed, in their order, without any that cannot be read."""
    order = {kind: place for place, kind in enumerate(KINDS)}
    columns = (run_blocks.c[name] for name in Block.__struct_fields__)
    query = select(*columns).where(run_blocks.c.run_id == run_id)
    found: list[Block] = []
    for row in (await connection.execute(query)).all():
        with suppress(ValueError):
            found.append(strictly(row, Block))
    return sorted(found, key=lambda b: (order.get(b.kind, len(order)), b.kind, b.number))


async def last(database: Database) -> Sealed | None:
    """The run that was sealed last."""
    query = select(ledger.c.run_id, ledger.c.digest).where(ledger.c.run_id.is_not(None))
    rows = await database.select(query.order_by(ledger.c.seq.desc()).limit(1))
    return Sealed(*rows[0]) if rows else None
