"""What is sealed of a run: its rows as lines of JSON, in blocks of about 4,096, each with a digest.

A line has natural keys and UTC times, never a surrogate id, so that every database gives the same.
It is a JSON object with the columns' names in alphabetical order, without those that are NULL: a
nullable column may be added later and changes no line. Renaming a column changes every line.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final
from zlib import crc32

import msgspec
from sqlalchemy import Column, Select, bindparam, func, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NULLTYPE

from collector.store.schema import (
    image_versions,
    images,
    lanes,
    member_versions,
    observation_rows,
    run_lanes,
    runs,
)
from collector.store.stream import pages

__all__ = ["KINDS", "Block", "Lines", "OpenBlock", "blocks", "plain", "raw", "run_line", "scan"]

BLOCK: Final = 4_096
"""Rows of a block; a few more when the last key has several."""


def raw(column: ColumnElement[Any], name: str | None = None) -> ColumnElement[Any]:
    """The column as the driver gives it, so that no conversion hides or refuses what was forged."""
    return type_coerce(column, NULLTYPE).label(name or getattr(column, "name", None))


def plain(value: Any) -> Any:
    """A value as a line has it: times in UTC as SQLite stores them, and no bytes pass for text."""
    if isinstance(value, datetime):
        value = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return value.isoformat(" ", "microseconds")
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


class Lines:
    """Turns rows of a query into lines; the names of its columns must be in alphabetical order."""

    def __init__(self, names: Sequence[str]) -> None:
        fields = [(str(name), Any, None) for name in names]
        assert fields == sorted(fields, key=itemgetter(0))  # noqa: S101 - see the class
        self._line = msgspec.defstruct("Line", fields, omit_defaults=True)
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, row: Sequence[Any]) -> bytes:
        """Return the line, without its end."""
        if not _ODD.isdisjoint(map(type, row)):
            row = [plain(value) for value in row]
        return self._encode(self._line(*row))


_ODD: Final = frozenset({datetime, bytes})


class _Kind:
    """One kind of a run's rows: the query, its lines, and where the key stands in a row."""

    def __init__(
        self,
        of: ColumnElement[Any],
        source: Any,
        identity: Sequence[Column[Any]],
        columns: Sequence[Column[Any]],
    ) -> None:
        key = [column.name for column in identity]
        named: dict[str, ColumnElement[Any]] = {column.name: column for column in columns}
        # What is dangling sorts first and stands out; NULL would sort differently everywhere.
        named |= {column.name: func.coalesce(column, "") for column in identity}
        names = sorted(named)
        order = [name for name in (*key, "valid_from") if name in named]
        self.query: Select[Any] = (
            select(*(raw(named[name], name) for name in names))
            .select_from(source)
            .where(of == bindparam("run"))
            .order_by(*order)
        )
        self.line = Lines(names)
        self.places = tuple(names.index(name) for name in key)


def _of_versions(table: Any, of: Any, *names: str) -> _Kind:
    same, lane = images.c.id == table.c.image_pk, images.c
    if "region" in table.c:  # copied there, and the copy is what views show
        lane = table.c
        same &= (images.c.account == lane.account) & (images.c.region == lane.region)
    identity = (lane.account, lane.region, images.c.image_id)
    return _Kind(of, table.outerjoin(images, same), identity, [table.c[name] for name in names])


def _of_observations() -> _Kind:
    rows, in_lane = observation_rows.c, images.c.account == lanes.c.account
    source = observation_rows.outerjoin(lanes, lanes.c.id == rows.lane_id).outerjoin(
        images, (images.c.id == rows.image_pk) & in_lane & (images.c.region == lanes.c.region)
    )
    identity = (lanes.c.account, lanes.c.region, images.c.image_id)
    return _Kind(rows.run_id, source, identity, [c for c in rows if not c.primary_key])


def _of_lanes() -> _Kind:
    source = run_lanes.outerjoin(lanes, lanes.c.id == run_lanes.c.lane_id)
    counts = [c for c in run_lanes.c if not c.primary_key]
    return _Kind(run_lanes.c.run_id, source, (lanes.c.account, lanes.c.region), counts)


_OPENED: Final = ("valid_from", "fingerprint")
_CLOSED: Final = ("valid_from", "valid_to", "last_confirmed_at", "fingerprint")

KINDS: Final[dict[str, _Kind]] = {
    "lanes": _of_lanes(),
    "observations": _of_observations(),
    "opened": _of_versions(image_versions, image_versions.c.run_id, *_OPENED),
    "closed": _of_versions(image_versions, image_versions.c.closed_run_id, *_CLOSED),
    "members_opened": _of_versions(member_versions, member_versions.c.run_id, *_OPENED),
    "members_closed": _of_versions(member_versions, member_versions.c.closed_run_id, *_CLOSED),
}
"""The kinds of rows that belong to a run, in the order in which they are sealed."""


class Block(msgspec.Struct, frozen=True):
    """A sealed stretch of a run's rows; the columns of `run_blocks` of the same names.

    Attributes:
        digest: SHA-256 of its lines, each with its end.
        locator: Σ crc32(line) and Σ crc32(line) · crc32(key), in hexadecimal. When one row was
            changed, added or removed, the quotient of the differences is its key's crc32. It only
            helps to name the row; what proves is the digest.
    """

    kind: str
    number: int
    first: str
    last: str
    row_count: int
    digest: str
    locator: str

    def line(self) -> bytes:
        """The line that goes into the run's digest."""
        return msgspec.json.encode(self)


class OpenBlock:
    """Takes lines in order, until it is made a block."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._lines: list[bytes] = []
        self._sums = [0, 0]

    def add(self, key: str, line: bytes) -> None:
        """Take one row."""
        self.keys.append(key)
        self._lines.append(line)
        checksum = crc32(line)
        self._sums[0] += checksum
        self._sums[1] += checksum * crc32(key.encode())

    def block(self, kind: str, number: int) -> Block:
        """The block of what was taken."""
        first, last = (self.keys[0], self.keys[-1]) if self.keys else ("", "")
        digest = hashlib.sha256(b"\n".join([*self._lines, b""])).hexdigest()
        locator = f"{self._sums[0]:x}.{self._sums[1]:x}"
        return Block(kind, number, first, last, len(self.keys), digest, locator)


async def scan(
    connection: AsyncConnection, kind: str, run_id: int
) -> AsyncIterator[list[tuple[str, bytes]]]:
    """A run's rows of a kind in order, as (account/region/id, line)."""
    of = KINDS[kind]
    line, key = of.line, itemgetter(*of.places)
    async for page in pages(connection, of.query, run=run_id):
        yield [("/".join(map(str, key(row))), line(row)) for row in page]


async def blocks(connection: AsyncConnection, run_id: int, *kinds: str) -> list[Block]:
    """Compute a run's blocks from its rows; of every kind when none is named."""
    found: list[Block] = []
    for kind in kinds or KINDS:
        number, block = 0, OpenBlock()
        async for rows in scan(connection, kind, run_id):
            for key, line in rows:
                if len(block.keys) >= BLOCK and key != block.keys[-1]:
                    found.append(block.block(kind, number))
                    number, block = number + 1, OpenBlock()
                block.add(key, line)
        if block.keys:
            found.append(block.block(kind, number))
    return found


_RUN: Final = sorted(str(c.name) for c in runs.c if c.name not in {"id", "digest"})
_RUN_LINE: Final = Lines(_RUN)


async def run_line(connection: AsyncConnection, run_id: int) -> tuple[str, Any] | None:
    """A run's row as a line, and its digest; None when there is no such run."""
    query = select(raw(runs.c.digest), *(raw(runs.c[name]) for name in _RUN))
    row = (await connection.execute(query.where(runs.c.id == run_id))).one_or_none()
    return None if row is None else (_RUN_LINE(row[1:]).decode(), row[0])
