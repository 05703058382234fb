"""Names the blocks of a sealed run that differ, and the row where it is a single one."""

from collections.abc import AsyncIterator, Iterable
from typing import Final
from zlib import crc32

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.store.evidence import Block, OpenBlock, scan
from collector.store.rederive import Finding
from collector.store.schema import images, lanes
from collector.store.stream import pages

__all__ = ["locate"]

_CHANGES: Final = {0: "edited after its seal", 1: "added after its seal", -1: "removed"}


async def _stretches(
    connection: AsyncConnection, run_id: int, kind: str, expected: Iterable[Block]
) -> AsyncIterator[tuple[Block | None, OpenBlock]]:
    """The rows as they are now, in the stretches of the sealed blocks; the rest has none."""
    waiting, here = list(expected), OpenBlock()
    async for rows in scan(connection, kind, run_id):
        for key, line in rows:
            while waiting and key.split("/") > waiting[0].last.split("/"):
                yield waiting.pop(0), here
                here = OpenBlock()
            here.add(key, line)
    yield waiting.pop(0) if waiting else None, here
    for block in waiting:
        yield block, OpenBlock()


async def locate(
    connection: AsyncConnection, run_id: int, kind: str, sealed: Iterable[Block]
) -> AsyncIterator[Finding]:
    """Name the blocks of a kind that differ, and the row where it is a single one."""
    differing, rest = [], OpenBlock()
    expected = [block for block in sealed if block.kind == kind]
    async for block, rows in _stretches(connection, run_id, kind, expected):
        if block is None:
            rest = rows
        elif rows.block(kind, block.number) != block:
            differing.append((block, rows))
    for block, rows in differing:
        where = f"run {run_id}, block {block.number} ({block.first} … {block.last})"
        count, name = len(rows.keys), await _name(connection, block, rows)
        what = f"it has {count:,} rows, {block.row_count:,} were sealed"
        if name is not None:
            where, what = f"{where}, {name}", _CHANGES[count - block.row_count]
        elif count == block.row_count:
            what = f"several of its {count:,} rows were edited after its seal"
        yield Finding(kind, where, what)
    if rest.keys:
        what = f"{len(rest.keys):,} rows were added after its seal"
        yield Finding(kind, f"run {run_id}, {rest.keys[0]} … {rest.keys[-1]}", what)


async def _name(connection: AsyncConnection, block: Block, now: OpenBlock) -> str | None:
    """The key of the only row that differs; None when there are several."""
    sums = now.block(block.kind, block.number).locator
    (sum_now, product_now), (total, weighted) = _sums(sums), _sums(block.locator)
    difference, count = sum_now - total, len(now.keys) - block.row_count
    if not difference or (product_now - weighted) % difference or count not in _CHANGES:
        return None
    checksum = (product_now - weighted) // difference
    for key in now.keys:
        if crc32(key.encode()) == checksum:
            return key
    table, names = (lanes, "") if block.kind == "lanes" else (images, "image_id")
    columns = [table.c[name] for name in ("account", "region", names) if name]
    async for page in pages(connection, select(*columns)):
        for row in page:
            if crc32((key := "/".join(map(str, row))).encode()) == checksum:
                return key
    return None


def _sums(locator: str) -> tuple[int, int]:
    try:
        total, weighted = locator.split(".")
        return int(total, 16), int(weighted, 16)
    except ValueError:
        return 0, 0
