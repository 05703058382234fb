"""Moves everything into an empty database of another kind; every id and every digest is kept."""

from collections.abc import Callable

from sqlalchemy import Table, bindparam, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.errors import CollectorError, Exit, HeldError, UsageError
from collector.store import migrate
from collector.store.engine import Database
from collector.store.schema import leases, ledger_head, metadata
from collector.store.stream import pages
from collector.store.types import UtcDateTime
from collector.store.verify import examine, verify

__all__ = ["CopyError", "copy"]


class CopyError(CollectorError):
    """The rows that arrived are not those of the source."""

    exit_code = Exit.FINDINGS


async def copy(
    source: Database, target: Database, *, progress: Callable[[str], None] = lambda _: None
) -> dict[str, int]:
    """Copy every table in one snapshot and one transaction, and verify the copy before it counts.

    What differs in the source already differs in the copy: nothing is mended on the way. The source
    is opened read-only, so that its reads are one snapshot on every kind; the target is absent,
    empty, or migrated and without a row. `progress` is told which table comes next.

    Returns:
        Rows by table.

    Raises:
        UsageError: the target has rows.
        HeldError: an account of the source is held: what its holder writes would be left behind.
        CopyError: something differs that does not differ in the source; nothing was copied.
        SchemaError: a database is not at this program's revision.
        UnavailableError: a database cannot be reached or written.
    """
    await migrate.require_head(source)
    await migrate.create_if_empty(target)
    counts: dict[str, int] = {}
    async with target.write() as there:
        async with source.read() as here:
            await _refuse_live(source, here)
            await _refuse_rows(target, there)
            await there.execute(delete(ledger_head))
            for table in metadata.sorted_tables:
                progress(table.name)
                counts[table.name] = await _copy_table(target, here, there, table)
        await _continue_keys(target, there)
        arrived = [finding async for finding in examine(target, there, {}, progress)]
        # Sorted: each database finds what its indexes do not order in an order of its own.
        if arrived and sorted(arrived) != sorted([finding async for finding in verify(source)]):
            raise CopyError(
                "the copy is not what was sealed, and nothing was copied: "
                f"{arrived[0].where}: {arrived[0].what}"
            )
    return counts


async def _refuse_live(source: Database, connection: AsyncConnection) -> None:
    query = select(leases.c.account, leases.c.holder).where(leases.c.expires > source.now())
    row = (await connection.execute(query.limit(1))).first()
    if row is not None:
        raise HeldError(f"account {row.account} is being served by {row.holder}: stop it first")


async def _refuse_rows(target: Database, connection: AsyncConnection) -> None:
    for table in metadata.sorted_tables:
        query = select(table).limit(1)
        if table is ledger_head:
            query = query.where(table.c.seq != 0)
        if (await connection.execute(query)).first() is not None:
            raise UsageError(f"database {target} is not empty: it has rows in {table.name}")


async def _copy_table(
    target: Database, here: AsyncConnection, there: AsyncConnection, table: Table
) -> int:
    names = [column.name for column in table.c]
    times = [place for place, c in enumerate(table.c) if isinstance(c.type, UtcDateTime)]
    statement = insert(table).values({name: bindparam(name) for name in names})
    prepared, count = target.prepare(statement, names), 0
    async for page in pages(here, select(table).order_by(*table.primary_key)):
        rows = [list(row) for row in page]
        for row in rows:
            for place in times:
                row[place] = target.time(row[place])
        await prepared.run(there, [tuple(row) for row in rows])
        count += len(rows)
    return count


async def _continue_keys(target: Database, connection: AsyncConnection) -> None:
    """Let PostgreSQL number new rows behind those that came with their numbers."""
    if target.kind != "postgresql":
        return
    for table in metadata.sorted_tables:
        key = table.autoincrement_column
        if key is not None:
            sequence = func.pg_get_serial_sequence(table.name, key.name)
            last = select(func.max(key)).scalar_subquery()
            value = func.setval(sequence, func.coalesce(last, 1), last.is_not(None))
            await connection.execute(select(value))
