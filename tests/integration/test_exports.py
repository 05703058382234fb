"""Exports: equal bytes on every database, and memory that does not grow with the rows."""

import io
import tracemalloc

import pytest
from sqlalchemy import insert

from collector import export as export_module
from collector.export import NAMES, export
from collector.models import LaneKey, Members, Outcome
from collector.normalize import members
from collector.store.engine import Database
from collector.store.schema import lanes
from tests.support.inventory import disk, image, inventory

NORTH, OTHER = LaneKey("main", "cn-north-1"), LaneKey("other", "cn-east-2")
BY_THE_CLOCK = {"leases"}
"""Has times of the database's own clock."""


async def fill(url):
    """Two runs with hostile and unusual content."""
    shared = Members(Outcome.PRESENT, *members({"pins": ["Zoe", "adam", "_x"], "x": 1}))
    odd = image(
        "img-2", name="=1+1", desc='a "b",\n位\0', offline=False, sizeMB="7", dataDisks=[disk("v")]
    )
    async with inventory(url) as made:
        await made.run(
            {
                NORTH: {"img-10": image("img-10"), "img-2": odd, "IMG-2": Outcome.TIMEOUT},
                OTHER: {"img_1": (image("img_1", launchPermission="specifiedUsers"), shared)},
            }
        )
        await made.run({NORTH: {"img-10": Outcome.NOT_FOUND, "img-2": image("img-2")}})
        await made.run({}, at=None, finish=False)


async def exported(url, name, kind):
    stream = io.BytesIO()
    async with Database(url, read_only=True) as database:
        rows = await export(database, name, kind, stream)
    return rows, stream.getvalue()


@pytest.fixture
async def urls(new_database):
    made = [new_database(kind) for kind in ("sqlite", "postgresql", "mysql")]
    for url in made:
        await fill(url)
    return made


async def test_the_three_databases_give_equal_bytes(urls):
    """Every table and view, in every format, is the same wherever it was kept."""
    counts = {}
    for name in sorted({*NAMES} - BY_THE_CLOCK):
        for kind in ("csv", "jsonl", "parquet"):
            first, *others = [await exported(url, name, kind) for url in urls]
            assert others == [first, first], f"{name} as {kind}"
            counts[name] = first[0]
    assert counts["observations"] == 6
    assert counts["image_history"] == 4
    assert counts["disk_history"] == 5
    assert counts["current_members"] == 3
    assert counts["schema_drift"]
    assert counts["unread_images"] == 1


async def test_memory_does_not_grow_with_the_rows(sqlite_url, monkeypatch):
    """An export holds a batch of rows, not all of them."""
    monkeypatch.setattr(export_module, "BATCH", 500)
    total = 40_000
    rows = [{"account": f"account-{n:055}", "region": "cn-north-1"} for n in range(total)]
    async with Database(sqlite_url) as database, database.write() as connection:
        await connection.execute(insert(lanes), rows)
    del rows

    class Sink(io.RawIOBase):
        size = 0

        def write(self, data):
            self.size += len(data)
            return len(data)

    sink = Sink()
    async with Database(sqlite_url, read_only=True) as database:
        await export(database, "leases", "jsonl", sink)  # imports and caches
        tracemalloc.start()
        try:
            await export(database, "lanes", "jsonl", sink)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert sink.size > 4_000_000
    assert peak < 2_000_000
