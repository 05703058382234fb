"""Statements compiled once: the same rows on every database, however many go with one statement."""

import re
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import bindparam, literal_column, select, text

from collector.store.engine import Database
from collector.store.schema import image_versions, images, lanes, observation_rows
from collector.store.statements import Statements

AT = "2026-01-02 03:04:05.000006"
ROWS = [0, 1, 2, 49, 50, 51, 100, 149]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url) as database:
        yield database


@pytest.mark.parametrize("count", ROWS)
async def test_every_row_is_written_once(database: Database, count: int) -> None:
    """Fewer rows, as many and more than SQLite takes with one statement; those there stay."""
    insert = database.insert_new(lanes).values(account=bindparam("a"), region=bindparam("r"))
    prepared = database.prepare(insert, ["a", "r"])
    given = [(f"a{number}", "it's (a) VALUES (?, %s)") for number in range(count)]
    async with database.write() as connection:
        await prepared.run(connection, given)
        await prepared.run(connection, given)
    async with database.read() as connection:
        found = (await connection.execute(select(lanes.c.account, lanes.c.region))).all()

    assert sorted(map(tuple, found)) == sorted(given)


async def test_nothing_is_left_in_a_session(new_database: Callable[..., str]) -> None:
    """Behind a pooler the next transaction is on another connection, and this one another's."""
    async with Database(new_database("postgresql")) as database:
        insert = database.insert_new(lanes).values(account=bindparam("a"), region=bindparam("r"))
        prepared = database.prepare(insert, ["a", "r"])
        async with database.write() as connection:
            for number in range(20):
                await prepared.run(connection, [("a", f"r{number}"), ("b", f"r{number}")])
                await connection.execute(select(lanes.c.id).where(lanes.c.id == number))
        async with database.read() as connection:
            left = await connection.execute(text("SELECT statement FROM pg_prepared_statements"))

    assert left.all() == []


async def test_a_generated_key_is_left_alone() -> None:
    """MySQL refuses to set it, also to itself, where the statement gives a row twice."""
    async with Database("mysql://nobody@127.0.0.1/nothing") as database:
        sql = str(database.insert_new(lanes).compile(dialect=database.dialect))

    assert sql.endswith("ON DUPLICATE KEY UPDATE account = lanes.account")


@pytest.mark.parametrize("count", ROWS)
async def test_every_row_changes_its_own(database: Database, count: int) -> None:
    """An update by key changes the rows that are named, where the condition holds, and no other."""
    number, name = lanes.c.id, lanes.c.account
    update = database.prepare_update(
        lanes, ["region"], ["id"], only=[name != literal_column("'spared'")]
    )
    async with database.write() as connection:
        for key in range(1, 152):
            values = {"id": key, "account": "spared" if key == 1 else f"a{key}", "region": "old"}
            await connection.execute(lanes.insert().values(values))
        await update.run(connection, [(f"new{key}", key) for key in range(1, count + 1)])
    async with database.read() as connection:
        found = (await connection.execute(select(number, lanes.c.region).order_by(number))).all()

    expected = [(n, f"new{n}" if 1 < n <= count else "old") for n in range(1, 152)]
    assert list(map(tuple, found)) == expected


@pytest.mark.parametrize("analyzed", [False, True])
async def test_sqlite_finds_each_row_by_its_key(sqlite_url: str, *, analyzed: bool) -> None:
    """What is written a thousand times a second scans nothing but the rows that were given."""
    async with Database(sqlite_url) as database, database.write() as connection:
        statements = Statements(database)
        if analyzed:
            await connection.exec_driver_sql("ANALYZE")
        for name, prepared in vars(statements).items():
            if not hasattr(prepared, "run"):
                continue
            sql = prepared._for(3)
            plan = await connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {sql}", tuple([None] * sql.count("?"))
            )
            steps = [row[3] for row in plan]
            scans = [step for step in steps if step.startswith("SCAN")]
            # SQLite calls its rows constant, and later a VALUES clause; 3.34 a subquery as well.
            given = re.compile("CONSTANT|VALUES|SUBQUERY|given")
            assert all(given.search(step) for step in scans), (name, steps)
            for table in (images, image_versions, observation_rows):
                assert not re.search(f"SCAN (TABLE )?{table.name}", " ".join(steps))
