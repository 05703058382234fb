"""Moves everything into an empty database of another kind; every id and every digest is kept."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

from sqlalchemy import Table, delete, func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.errors import CollectorError, Exit, HeldError, UsageError
from collector.store import migrate
from collector.store.engine import Database
from collector.store.evidence import raw
from collector.store.prepared import Values
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
            with target.explained():  # else it would be told as the source's
                await _refuse_rows(target, there)
                await there.execute(delete(ledger_head))
                for table in metadata.sorted_tables:
                    rows = _rows(source, here, target, table)
                    counts[table.name] = await _insert(target, there, table, rows, progress)
        if target.kind == "postgresql":
            await _continue_keys(there)
            # What is not committed is nobody's to analyse but ours; of tables that it takes for
            # small, each run's rows would be looked up by reading all images.
            for table in metadata.sorted_tables:
                await there.execute(text(f"ANALYZE {table.name}"))
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


async def _rows(
    source: Database, connection: AsyncConnection, target: Database, table: Table
) -> AsyncGenerator[list[Values]]:
    """A table's rows, some at a time, with times as the target's driver takes them."""
    columns = list[Any](table.c)
    times = [place for place, c in enumerate(columns) if isinstance(c.type, UtcDateTime)]
    if source.kind == "sqlite":
        # Its text means the same to each of them, for the zone of their sessions is UTC.
        columns, times = [raw(c) if n in times else c for n, c in enumerate(columns)], []
    query = select(*columns).order_by(*table.primary_key)
    with source.explained():
        async with aclosing(pages(connection, query)) as found:
            async for page in found:
                rows = [list(row) for row in page]
                for row in rows:
                    for place in times:
                        row[place] = target.time(row[place])
                yield [tuple(row) for row in rows]


async def _insert(
    target: Database,
    connection: AsyncConnection,
    table: Table,
    rows: AsyncGenerator[list[Values]],
    progress: Callable[[str], None],
) -> int:
    count = 0
    progress(table.name)
    async with aclosing(rows), _inserting(target, connection, table) as insert_some:
        async for some in rows:
            await insert_some(some)
            count += len(some)
            progress(f"{table.name} {count:,}")
    return count


@asynccontextmanager
async def _inserting(
    target: Database, connection: AsyncConnection, table: Table
) -> AsyncIterator[Callable[[Sequence[Values]], Awaitable[None]]]:
    """A function that inserts rows; on PostgreSQL by COPY, which takes a tenth of the time."""
    names = [column.name for column in table.c]
    if target.kind != "postgresql":
        yield partial(target.prepare_insert(insert(table), names).run, connection)
        return
    dialect: Any = target.dialect
    quoted = map(dialect.identifier_preparer.quote, (table.name, *names))
    sql = f"COPY {next(quoted)} ({', '.join(quoted)}) FROM STDIN"
    driver: Any = (await connection.get_raw_connection()).driver_connection
    try:
        async with driver.cursor() as cursor, cursor.copy(sql) as stream:

            async def write(rows: Sequence[Values]) -> None:
                for row in rows:
                    await stream.write_row(row)

            yield write
    except dialect.dbapi.Error as error:
        raise DBAPIError.instance(sql, None, error, dialect.dbapi.Error, dialect=dialect) from error


async def _continue_keys(connection: AsyncConnection) -> None:
    """Let PostgreSQL number new rows behind those that came with their numbers."""
    for table in metadata.sorted_tables:
        key = table.autoincrement_column
        if key is not None:
            sequence = func.pg_get_serial_sequence(table.name, key.name)
            last = select(func.max(key)).scalar_subquery()
            value = func.setval(sequence, func.coalesce(last, 1), last.is_not(None))
            await connection.execute(select(value))
