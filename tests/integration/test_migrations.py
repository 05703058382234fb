"""Migrations: up, down, and up again on every database; the printed DDL is the same schema."""

import asyncio
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import MetaData, create_engine, inspect, make_url, text

from collector.documented import CLOUD, DISK, IMAGE, LOCAL
from collector.errors import SchemaError
from collector.store import migrate
from collector.store.engine import Database
from collector.store.verify import verify
from collector.store.views import VIEWS
from tests.conftest import KINDS, server
from tests.support.dump import EVERYTHING

DUMPS = Path(__file__).parents[1] / "data" / "schema"
FILLED = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DUMPS.glob("*.sql"))}
"""Databases that a program of each revision filled and sealed (`tests/support/dump.py`)."""


async def names(database: Database) -> set[str]:
    async with database.read() as connection:
        return await connection.run_sync(
            lambda sync: {*inspect(sync).get_table_names(), *inspect(sync).get_view_names()}
        )


async def test_missing_views_are_created_by_an_upgrade(database_url: str) -> None:
    """A downgrade leaves no views: the older program says so, and its upgrade makes them anew."""
    async with Database(database_url) as database:
        async with database.write() as connection:
            await connection.exec_driver_sql("DROP VIEW run_coverage")

        for check in (migrate.require_head, migrate.create_if_empty):
            with pytest.raises(SchemaError, match=r"run_coverage.*`collector db upgrade`"):
                await check(database)

        await migrate.upgrade(database)
        await migrate.require_head(database)


@pytest.mark.parametrize("kind", KINDS)
async def test_several_create_one_database(kind: str, new_database: Callable[..., str]) -> None:
    """Found empty, half made (MariaDB commits every statement) or whole: none is refused."""
    url = new_database(kind, migrated=False)

    async def first(delay: float) -> None:
        await asyncio.sleep(delay)
        async with Database(url) as database:
            await migrate.create_if_empty(database)
            for _ in range(30):  # what it found is not taken away by another
                async with database.read() as connection:
                    await connection.exec_driver_sql("SELECT count(*) FROM run_coverage")

    await asyncio.gather(*(first(0.03 * number) for number in range(8)))
    async with Database(url) as database:
        await migrate.require_head(database)


async def test_an_upgrade_of_nothing_disturbs_nobody(database_url: str) -> None:
    """At head already, as before every start of a container: others read the views meanwhile."""
    async with Database(database_url) as database, Database(database_url) as other:

        async def read() -> None:
            while not done:
                async with other.read() as connection:
                    await connection.exec_driver_sql("SELECT count(*) FROM run_coverage")

        done = False
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            for _ in range(5):
                await migrate.upgrade(database)
            done = True


@pytest.mark.parametrize("kind", KINDS)
async def test_tables_without_a_revision_are_refused(
    kind: str, new_database: Callable[..., str]
) -> None:
    """A migration that was cut short leaves them: that is not empty, and is not begun again."""
    async with Database(new_database(kind)) as database:
        async with database.write() as connection:
            await connection.exec_driver_sql("DELETE FROM alembic_version")
        for work in (migrate.require_head, migrate.create_if_empty, migrate.upgrade):
            with pytest.raises(SchemaError, match="no revision"):
                await work(database)


async def test_printed_ddl_is_at_head_without_drift(database_url: str) -> None:
    """The DDL for a DBA makes the same tables and views as a migration."""
    async with Database(database_url) as database:
        await migrate.require_head(database)

        assert await migrate.drift(database) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_up_down_up(kind: str, new_database: Callable[..., str]) -> None:
    """Up makes what the program expects, down to base leaves nothing, and up works again."""
    async with Database(new_database(kind, migrated=False)) as database:
        await migrate.upgrade(database)
        assert await migrate.drift(database) == []
        assert set(VIEWS) <= await names(database)

        await migrate.downgrade(database, "base")
        assert await names(database) <= {"alembic_version"}
        with pytest.raises(SchemaError, match="is empty"):
            await migrate.require_head(database)

        await migrate.upgrade(database)
        await migrate.require_head(database)
        assert await migrate.drift(database) == []


async def test_a_search_path_in_the_url(new_database: Callable[..., str]) -> None:
    """`options` of a PostgreSQL URL are kept beside the program's own: another schema is used."""
    url = make_url(new_database("postgresql", migrated=False))
    server("postgresql", url.database)(["CREATE SCHEMA apart"])
    apart = url.set(query={"options": "-c search_path=apart"})

    async with Database(apart.render_as_string(hide_password=False)) as database:
        await migrate.upgrade(database)
        await migrate.require_head(database)

        async with database.read() as connection:
            tables = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'images'"
            assert (await connection.execute(text(tables))).scalars().all() == ["apart"]
            assert (await connection.execute(text("SHOW lock_timeout"))).scalar_one() == "10s"
        assert await migrate.drift(database) == []


def test_every_revision_has_its_rows() -> None:
    """A revision comes with what a program at it wrote."""
    revisions = Path(__file__).parents[2].joinpath("migrations", "versions").glob("[0-9]*.py")

    assert {path.name[:4] for path in revisions} == FILLED.keys(), "see migrations/README.md"


def test_the_rows_to_keep_have_every_field() -> None:
    """What `tests/support/dump.py` writes for a new revision has each field with a column."""
    disks = [EVERYTHING["systemDisk"], *EVERYTHING["dataDisks"]]
    places = {
        "image": (IMAGE, [EVERYTHING]),
        "disk": (DISK, disks),
        "cloudDisk": (CLOUD, [disk.get("cloudDisk", {}) for disk in disks]),
        "localDisk": (LOCAL, [disk.get("localDisk", {}) for disk in disks]),
    }
    missing = {
        place: known.fields.keys() - {name for one in objects for name in one}
        for place, (known, objects) in places.items()
    }

    assert not any(missing.values()), f"EVERYTHING in tests/support/dump.py lacks {missing}"


async def fill(database: Database, revision: str) -> None:
    """Migrate an empty database to a revision, and write the rows that it has."""
    await migrate.upgrade(database, revision)
    with closing(sqlite3.connect(":memory:")) as dump:
        dump.executescript(FILLED[revision])
        with create_engine("sqlite://", creator=lambda: dump).connect() as old:
            tables = MetaData()
            tables.reflect(old)
            rows = {t.name: old.execute(t.select()).mappings().all() for t in tables.sorted_tables}
        async with database.write() as connection:
            there = MetaData()
            await connection.run_sync(there.reflect)
            for table in reversed(there.sorted_tables):
                await connection.execute(table.delete())
            for table in there.sorted_tables:
                if found := rows[table.name]:
                    await connection.execute(table.insert(), [dict(row) for row in found])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("revision", FILLED)
async def test_what_an_older_program_wrote_verifies_after_the_upgrade(
    revision: str, kind: str, new_database: Callable[..., str]
) -> None:
    """A revision, or a change to how images are normalized, derives the stored versions again."""
    async with Database(new_database(kind, migrated=False)) as database:
        await fill(database, revision)
        await migrate.upgrade(database)
        assert await migrate.drift(database) == []
        assert [finding async for finding in verify(database, {})] == []


def test_the_revision_to_copy_works(tmp_path: Path) -> None:
    """The one in migrations/README.md moves a field out of `extra`, and back."""
    page = (Path(__file__).parents[2] / "migrations" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    revision: dict[str, Any] = {}
    exec(code, revision)
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.executescript(FILLED["0001"])
    engine = create_engine(f"sqlite:///{tmp_path}/old.db")
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        query = text("SELECT * FROM image_versions ORDER BY id")
        before = connection.execute(query).all()
        revision["upgrade"]()
        moved = [row for row in connection.execute(query).mappings() if row["instance_id"]]
        revision["downgrade"]()
        after = connection.execute(query).all()
    engine.dispose()

    assert [row["instance_id"] for row in moved] == ["i-1"]
    assert "instanceId" not in moved[0]["extra"]
    assert after == before
