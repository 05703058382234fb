"""Writes a table or view as CSV, JSON lines or Parquet: ordered, typed, and in flat memory.

The three databases give equal bytes. Times are `2026-01-01T00:00:00.000000Z`, in Parquet
timestamps in UTC. In CSV a NULL is empty and an empty text is `""`, and a text that a spreadsheet
would run as a formula gets a leading `'`; JSON lines and Parquet are exact.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, BinaryIO, Final

import msgspec
from sqlalchemy import Boolean, Double, Integer, Select, Table, select

from collector.errors import UsageError
from collector.store.engine import Database
from collector.store.reads import plain
from collector.store.schema import metadata
from collector.store.stream import pages
from collector.store.types import UtcDateTime
from collector.store.views import VIEWS
from collector.text import harmless_json, nearest, shown

__all__ = ["FORMATS", "NAMES", "csv_cell", "export", "named", "ordered"]

BATCH: Final = 5_000
"""Rows held in memory, and rows of a Parquet row group."""

NAMES: Final = tuple(sorted({*metadata.tables, *VIEWS}))
"""Every table and view."""

_KEYS: Final = ("account", "region", "image_id", "valid_from", "role", "position")
"""What identifies a row of a view, so far as it has these columns."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_TO_BE_QUOTED: Final = frozenset(',"\r\n')

Write = Callable[[Sequence[Sequence[Any]]], None]


def named(name: str) -> Table:
    """The table or view of a name.

    Raises:
        UsageError: there is none; the text names the nearest, or all.
    """
    table = VIEWS.get(name, metadata.tables.get(name))
    if table is None:
        raise UsageError(f"no table or view {shown(name)}; {nearest(name, NAMES)}")
    return table


def ordered(table: Table) -> Select[Any]:
    """All its rows, in the order of their keys."""
    keys = list(table.primary_key)
    if not keys:
        keys = [table.c[name] for name in _KEYS if name in table.c]
        if "run_id" in table.c and "valid_from" not in table.c:
            keys.insert(0, table.c.run_id)
    return select(table).order_by(*keys)


async def export(database: Database, name: str, kind: str, stream: BinaryIO) -> int:
    """Write a table or view to a stream, and return the number of rows.

    `kind` is one of `FORMATS`; the stream is neither closed nor searched.

    Raises:
        UsageError: there is no such table or view, or the format is not installed.
        UnavailableError: the database cannot be read.
    """
    table = named(name)
    write, close = FORMATS[kind](table, stream)
    rows = 0
    # Not written where it is read: a stream that takes no more is not the database's failure.
    async with aclosing(_batches(database, table)) as batches:
        async for batch in batches:
            write(batch)
            rows += len(batch)
    close()
    return rows


async def _batches(database: Database, table: Table) -> AsyncGenerator[Sequence[Any]]:
    async with (
        database.read() as connection,
        aclosing(pages(connection, ordered(table), BATCH)) as found,
    ):
        async for batch in found:
            yield batch


def _csv(table: Table, stream: BinaryIO) -> tuple[Write, Callable[[], None]]:
    def write(rows: Sequence[Sequence[Any]]) -> None:
        stream.write("".join(",".join(map(csv_cell, row)) + "\n" for row in rows).encode())

    write([table.c.keys()])
    return write, lambda: None


def csv_cell(value: Any) -> str:
    """A CSV cell as RFC 4180 has it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            text = f"'{value}" if value.startswith(_FORMULA) else value
            if not text or not _TO_BE_QUOTED.isdisjoint(text):
                return '"' + text.replace('"', '""') + '"'
            return text
        case _:
            return str(plain(value))


def _jsonl(table: Table, stream: BinaryIO) -> tuple[Write, Callable[[], None]]:
    names, encode = table.c.keys(), msgspec.json.Encoder().encode

    def write(rows: Sequence[Sequence[Any]]) -> None:
        lines = (encode(dict(zip(names, map(plain, row), strict=True))) for row in rows)
        stream.write(harmless_json(b"".join(line + b"\n" for line in lines)))

    return write, lambda: None


def _parquet(table: Table, stream: BinaryIO) -> tuple[Write, Callable[[], None]]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and slow to import
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "Parquet is not installed; pip install 'jdcloud-image-collector[parquet]'"
        ) from error

    def kind(column: Any) -> Any:
        match column.type:
            case Boolean():
                return pa.bool_()
            case Integer():
                return pa.int64()
            case UtcDateTime():
                return pa.timestamp("us", tz="UTC")
            case Double():
                return pa.float64()
            case _:
                return pa.string()

    schema = pa.schema([pa.field(column.name, kind(column)) for column in table.c])
    writer = parquet.ParquetWriter(stream, schema)

    def write(rows: Sequence[Sequence[Any]]) -> None:
        columns = zip(*rows, strict=True)
        arrays = [pa.array(v, field.type) for v, field in zip(columns, schema, strict=True)]
        writer.write_batch(pa.record_batch(arrays, schema=schema))

    return write, writer.close


FORMATS: Final = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
"""Writer of each format, by the name it has on the command line."""
