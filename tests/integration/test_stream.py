"""Reading page by page is flat in memory on every database, however slow the reader."""

import asyncio
import tracemalloc

from sqlalchemy import literal_column, select

from collector.store.engine import Database
from collector.store.schema import metadata
from collector.store.stream import pages

LANES = metadata.tables["lanes"]
ROWS = 40_000
LIMIT_BYTES = 12_000_000
"""All the rows together are 40 MB."""

WIDE = {
    "sqlite": "hex(zeroblob(500))",
    "postgresql": "repeat('0', 1000)",
    "mysql": "repeat('0', 1000)",
}


def rows(count: int) -> list[dict[str, str]]:
    return [{"account": "a", "region": f"{number}"} for number in range(count)]


async def test_flat_memory(database_url: str) -> None:
    """The server may be as fast as it likes: no more than some pages wait for the reader."""
    async with Database(database_url) as database:
        async with database.write() as connection:
            await connection.execute(LANES.insert(), rows(ROWS))
        query = select(LANES.c.id, literal_column(WIDE[database.kind])).order_by(LANES.c.id)
        seen = 0
        async with database.read() as connection:
            tracemalloc.start()
            try:
                async for page in pages(connection, query, 500):
                    seen += len(page)
                    await asyncio.sleep(0)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()

    assert seen == ROWS
    assert peak < LIMIT_BYTES


async def test_given_up_early(database_url: str) -> None:
    """After a reader that stops in the middle the connection still works."""
    async with Database(database_url) as database:
        async with database.write() as connection:
            await connection.execute(LANES.insert(), rows(5_000))
        async with database.read() as connection:
            reader = pages(connection, select(LANES.c.id).order_by(LANES.c.id), 100)
            assert len(await anext(reader)) == 100
            await reader.aclose()

            assert len((await connection.execute(select(LANES.c.id))).all()) == 5_000
