"""Prints a filled and sealed database as SQL: `python -m tests.support.dump > NNNN.sql`.

Each revision has its own, made once the program works with it, and kept for good:
`tests/integration/test_migrations.py` brings them all to head.
"""

import asyncio
import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from collector.store import ledger, migrate
from collector.store.engine import Database
from collector.store.views import VIEWS
from tests.support.inventory import Inventory, disk, image
from tests.support.sealed import NORTH, history, shared

LOCAL = {"diskType": "hdd", "diskSizeGB": 5}
EVERYTHING = image(
    "img-everything",
    serviceCode="x",
    instanceId="i-1",
    chargeInfo={"formula": [{"key": "cpu", "value": 2.5}]},
    loginName="me",
    imported=True,
    bootMode="uefi",
    offline=False,
    uefiSupport=True,
    expiredTime="2035-01-28 16:49:05",
    sizeMB="2494",
    unknown={"a": "é"},
    dataDisks=[
        disk("vdb", iops=100, throughput=5, snapshotId="s-1", diskId="vol-1", encrypt=True, az="a"),
        {"diskCategory": "local", "deviceName": "vdc", "localDisk": LOCAL, "unknown": [1]},
    ],
)


async def fill(database: Database) -> None:
    """The usual history, and an image with every field there is."""
    await migrate.upgrade(database)
    await history(database)
    answers = {NORTH: {"img-everything": shared(EVERYTHING, "a")}}
    run_id = await Inventory(database).run(answers, at=datetime(2026, 2, 1, tzinfo=UTC))
    await ledger.seal(database, run_id)


async def main(path: Path) -> None:
    async with Database(f"sqlite:///{path}") as database:
        await fill(database)
    with closing(sqlite3.connect(path)) as connection:
        for name in VIEWS:  # a revision never sees them
            connection.execute(f"DROP VIEW {name}")
        connection.execute("DELETE FROM leases")  # they name the machine
        connection.commit()
        sys.stdout.writelines(f"{line}\n" for line in connection.iterdump())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder, "dump.db")))
