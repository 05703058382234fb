"""Times the documented SQL on a large history: as of a time, changes of a period, one image.

    python bench/asof.py [--images 1000000] [--database URL]...

Each database must be empty; without one, a SQLite file in a temporary folder is filled. It gets
images of four regions, each with three versions of 100 days with a disk; each tenth image is gone
50 days after its last version began. A day then has a hundredth of the images as beginnings, and a
thousandth as ends. The queries are those of docs/querying.md, their literals included.
"""

import argparse
import asyncio
import re
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from sqlalchemy import text

from collector.store import migrate
from collector.store.changes import changes
from collector.store.engine import Database

PAGE = Path(__file__).parents[1] / "docs" / "querying.md"
VERSIONS = 3
REPEAT = 5
PAYLOAD_BYTES = 900
AS_OF = "The inventory as it was"
LIMITS_S = {AS_OF: 0.2, "What changed in a period": 0.5}

NUMBERS = {
    "sqlite": "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n"
    " WHERE i < {last}) SELECT i FROM n)",
    "postgresql": "(SELECT i FROM generate_series(0, {last}) AS series(i))",
}
"""The numbers from 0 to `last`, as a table with a column i."""

TIME = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', '2025-10-01', ({seconds}) || ' seconds')",
    "postgresql": "timestamptz '2025-10-01 00:00:00+00' + ({seconds}) * interval '1 second'",
}
"""A time that many seconds after the beginning of the history."""

REGION = (
    "CASE n.i % 4 WHEN 1 THEN 'cn-north-1' WHEN 0 THEN 'cn-east-1'"
    " WHEN 2 THEN 'cn-east-2' ELSE 'cn-south-1' END"
)
GONE = "n.i % 10 = 7"
SPREAD_DAYS = 100
"""The images' first versions are spread over so many days, and follow each other after as many."""


def queries():
    """The first query under each heading of the page."""
    parts = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {p.splitlines()[0]: re.search(r"```sql\n(.*?);\n```", p, re.DOTALL) for p in parts}
    named = {heading: match[1] for heading, match in found.items() if match}
    through_view = named[AS_OF].replace("FROM image_versions", "FROM image_history")
    return {**named, f"{AS_OF} (through the view)": through_view}


def statements(kind, images):
    """What writes the history: one statement a table and version."""
    numbers = NUMBERS[kind].format(last=images - 1)
    step = SPREAD_DAYS * 86_400 / images

    def at(days, seconds=f"n.i * {step}"):
        return TIME[kind].format(seconds=f"{days} * 86400 + {seconds}")

    begins = [at(SPREAD_DAYS * version) for version in range(VERSIONS)]
    gone_at = at(SPREAD_DAYS * VERSIONS - SPREAD_DAYS // 2)
    seen_at = at(SPREAD_DAYS * VERSIONS - SPREAD_DAYS // 2 - 1)
    yield (
        "INSERT INTO runs (id, trigger, status, started_at, plan_digest, config_digest,"
        f" tool_version, time_zone, scope) SELECT 1, 'run', 'complete', {at(0, '0')}, 'p', 'c',"
        " '0', 'UTC', 'whole'"
    )
    yield (
        "INSERT INTO images (id, account, region, image_id, state, first_planned_at, first_seen_at,"
        f" last_seen_at, last_checked_at, gone_at) SELECT n.i + 1, 'default', {REGION},"
        " 'img-m5s' || substr(cast(10000000 + n.i AS text), 2),"
        f" CASE WHEN {GONE} THEN 'gone' ELSE 'present' END, {begins[0]}, {begins[0]}, {seen_at},"
        f" {gone_at}, CASE WHEN {GONE} THEN {gone_at} END FROM {numbers} n"
    )
    for version in range(VERSIONS):
        last = version == VERSIONS - 1
        until = f"CASE WHEN {GONE} THEN {gone_at} END" if last else begins[version + 1]
        closed = f"CASE WHEN {GONE} THEN 1 END" if last else "1"
        yield (
            "INSERT INTO image_versions (id, image_pk, run_id, closed_run_id, account, region,"
            " valid_from, valid_to, last_confirmed_at, fingerprint, payload, name, platform,"
            f" os_version, image_source, status) SELECT {version * images} + n.i + 1, n.i + 1, 1,"
            f" {closed}, 'default', {REGION}, {begins[version]}, {until}, {until},"
            f" '{version:064}', '{'x' * PAYLOAD_BYTES}', 'image ' || n.i, 'CentOS',"
            f" '8.{version}', 'private', 'ready' FROM {numbers} n"
        )
        yield (
            "INSERT INTO disk_attachments (image_version_id, role, position, disk_category,"
            f" disk_size_gb, encrypted) SELECT {version * images} + n.i + 1, 'system', 0,"
            f" 'cloud', 40 + {version}, false FROM {numbers} n"
        )


async def fill(database, images):
    for statement in statements(database.kind, images):
        async with database.write() as connection:
            await connection.execute(text(statement.replace(":", "\\:")))
    async with database.engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        analyse = "VACUUM ANALYZE" if database.kind == "postgresql" else "ANALYZE"
        await connection.exec_driver_sql(analyse)


async def measure(url):
    """Print the times and plans of every query, and the time of `collector changes`."""
    async with Database(url, read_only=True) as database:
        for heading, sql in queries().items():
            times, rows = [], []
            for _ in range(REPEAT):
                async with database.read() as connection:
                    began = time.perf_counter()
                    rows = (await connection.execute(text(sql))).all()
                    times.append(time.perf_counter() - began)
            limit = LIMITS_S.get(heading)
            verdict = "" if limit is None else f", limit {limit} s"
            print(f"\n{heading}: median {median(times) * 1000:.1f} ms{verdict}; {len(rows):,} rows")
            print(f"  times (ms): {', '.join(f'{t * 1000:.1f}' for t in times)}")
            print(f"  first row: {rows[0] if rows else None}"[:160])
            how = "QUERY PLAN" if database.kind == "sqlite" else "(ANALYZE, COSTS OFF)"
            async with database.read() as connection:
                for row in await connection.execute(text(f"EXPLAIN {how} {sql}")):
                    print(f"  | {row[-1]}")
            if limit is not None and median(times) > limit:
                print("  TOO SLOW")
        since, until = (datetime(2026, 7, day, tzinfo=UTC) for day in (1, 2))
        began, count = time.perf_counter(), 0
        async for change in changes(database, since, until):
            count += bool(change)
        took = time.perf_counter() - began
        print(f"\ncollector changes, whole and compared: {count:,} changes in {took:.2f} s")


async def main(urls, images):
    for url in urls:
        began = time.perf_counter()
        async with Database(url) as database:
            await migrate.create_if_empty(database)
            await fill(database, images)
            print(f"\n# {database}: {images:,} images with {VERSIONS} versions each")
        print(f"filled in {time.perf_counter() - began:.0f} s")
        await measure(url)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory of this process: {peak_mib:.0f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--database", action="append", metavar="URL")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        default = [f"sqlite:///{folder}/asof.db"]
        asyncio.run(main(given.database or default, given.images))
