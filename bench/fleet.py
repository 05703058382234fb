"""The fleet experiment in its long form: python bench/fleet.py [IDS] [SEED] → JSON.

Three workers, three accounts of two regions, RabbitMQ and a fresh PostgreSQL database; workers are
killed, frozen for 42 s and terminated, the broker and the database are cut off, at random moments.
"""

import asyncio
import json
import os
import random
import sys
import tempfile
import uuid
from functools import partial
from pathlib import Path

import psycopg
from sqlalchemy import make_url

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collector.store import migrate
from collector.store.engine import Database
from tests.support.fleet import Fleet, disturb

SERVER = os.environ.get("COLLECTOR_TEST_POSTGRESQL", "postgresql://root@127.0.0.1")


async def main(ids: int) -> None:
    name = f"collector_fleet_{uuid.uuid4().hex[:12]}"
    server = make_url(SERVER).set(database="postgres").render_as_string(hide_password=False)
    url = make_url(SERVER).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        async with Database(url) as database:
            await migrate.upgrade(database)
        with tempfile.TemporaryDirectory() as directory:
            async with Fleet(Path(directory), url, ids) as fleet:
                disturbances = [
                    fleet.kill,
                    fleet.kill,
                    partial(fleet.freeze, 42),
                    fleet.terminate,
                    partial(fleet.cut, fleet.broker_proxy, 5, "broker"),
                    partial(fleet.cut, fleet.database_proxy, 6, "database"),
                ]
                random.shuffle(disturbances)
                await disturb(fleet, disturbances, pause_s=8)
                await fleet.finish(600)
                await asyncio.sleep(5)
                print(json.dumps(await fleet.report(), indent=2))
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


if __name__ == "__main__":
    random.seed(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 260))
