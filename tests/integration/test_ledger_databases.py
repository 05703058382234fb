"""Tamper evidence on every database: the same digests, found forgeries, copies, retention."""

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import insert, make_url, select, text

from collector.errors import HeldError, SchemaError, UnavailableError, UsageError
from collector.models import Outcome
from collector.store import migrate
from collector.store.copy import CopyError, copy
from collector.store.engine import Database
from collector.store.leases import Leases
from collector.store.prune import prune
from collector.store.schema import metadata, queue_items
from tests.conftest import KINDS, server
from tests.support.inventory import START, Inventory, image
from tests.support.sealed import NORTH, findings, history


async def test_same_digests_everywhere(
    database_url: str, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same history has the same digests on every database, and verifies."""
    monkeypatch.setattr("collector.store.evidence.BLOCK", 5)
    async with (
        Database(database_url) as database,
        Database(new_database("sqlite")) as reference,
    ):
        digests = await history(database)

        assert digests == await history(reference)
    assert await findings(database_url, dict(enumerate(digests, 1))) == []


@pytest.mark.parametrize(
    ("statement", "kind", "where"),
    [
        (
            "UPDATE observation_rows SET duration_ms = 6 WHERE run_id = 2 AND outcome = 'timeout'",
            "observations",
            "default/cn-east-1/img-e1",
        ),
        ("UPDATE runs SET requests = 7 WHERE id = 2", "run", "run 2"),
        (
            "UPDATE image_versions SET os_type = 'windows' WHERE run_id = 3",
            "version",
            "default/cn-north-1/img-2",
        ),
        ("DELETE FROM disk_attachments WHERE role = 'data'", "disk", "data disk 1"),
        ("UPDATE images SET state = 'gone' WHERE image_id = 'img-7'", "image", "img-7"),
        ("UPDATE image_members SET pin = 'z' WHERE pin = 'c'", "members", "other/cn-north-1/img-0"),
        ("UPDATE ledger SET digest = 'x' WHERE seq = 3", "chain", "entry 3"),
    ],
)
async def test_forgeries(database_url: str, statement: str, kind: str, where: str) -> None:
    """An edit by SQL is found and named on every database."""
    async with Database(database_url) as database:
        await history(database)
        async with database.write() as connection:
            await connection.execute(text(statement))

    found = await findings(database_url)
    assert any(f.kind == kind and where in f.where for f in found), found


@pytest.mark.parametrize("time", ["infinity", "0044-03-15 12:00:00 BC"])
async def test_times_that_the_driver_cannot_read(
    new_database: Callable[..., str], time: str
) -> None:
    """What PostgreSQL holds and Python does not is named; the rest is verified all the same."""
    url = new_database("postgresql")
    async with Database(url) as database:
        await history(database)
        async with database.write() as connection:
            forged = f"UPDATE images SET last_seen_at = '{time}' WHERE image_id = 'img-7'"
            await connection.execute(text(forged))
            await connection.execute(text("UPDATE runs SET requests = 7 WHERE id = 2"))
            await connection.execute(text("DELETE FROM disk_attachments WHERE role = 'data'"))

    found = {finding.kind: finding.what for finding in await findings(url)}
    assert {"run", "disk", "unreadable"} <= found.keys()
    assert time[-2:] in found["unreadable"]


async def test_retention(database_url: str) -> None:
    """Pruned runs stay proven on every database."""
    async with Database(database_url) as database:
        digests = await history(database)
        pruned = await prune(database, START + timedelta(hours=2, minutes=30))

        assert (pruned.runs, pruned.rows, pruned.refused) == ((1, 2), 34, ())
    assert await findings(database_url, dict(enumerate(digests, 1))) == []


async def rows_of(database: Database) -> dict[str, list[tuple[object, ...]]]:
    async with database.read() as connection:
        return {
            table.name: [
                tuple(row)
                for row in await connection.execute(select(table).order_by(*table.primary_key))
            ]
            for table in metadata.sorted_tables
        }


async def test_copies_keep_everything(new_database: Callable[..., str]) -> None:
    """SQLite → PostgreSQL → MariaDB → SQLite: every row, id and digest, and a run can follow."""
    urls = [new_database(kind, migrated=False) for kind in (*KINDS, "sqlite")]
    async with Database(urls[0]) as first:
        await migrate.upgrade(first)
        digests = await history(first)
        await prune(first, START + timedelta(hours=1, minutes=30))
        await Inventory(first).run({NORTH: {"img-9": image("img-9")}}, finish=False)
        rows = await rows_of(first)
    for here, there in pairwise(urls):
        async with Database(here, read_only=True) as source, Database(there) as target:
            counts = await copy(source, target)

            assert await rows_of(target) == rows
            assert counts == {name: len(found) for name, found in rows.items()}
        assert [f.kind for f in await findings(there, dict(enumerate(digests, 1)))] == ["unsealed"]

    for url in urls[1:]:
        async with Database(url) as database:
            inventory = Inventory(database)
            inventory.now = START + timedelta(days=1)
            assert await inventory.run({NORTH: {"img-new": image("img-new")}}) == 5


async def test_a_copy_needs_an_empty_target(database_url: str, sqlite_url: str) -> None:
    """A database with a row, or another program's, is never written to."""
    async with Database(sqlite_url) as source, Database(database_url) as target:
        await history(source)
        await Inventory(target).run({NORTH: {"img-1": image("img-1")}})
        before = await rows_of(target)
        with pytest.raises(UsageError, match="is not empty"):
            await copy(source, target)

        assert await rows_of(target) == before

        await migrate.downgrade(target, "base")
        async with target.write() as connection:
            await connection.execute(text("CREATE TABLE other (id INTEGER)"))
        with pytest.raises(SchemaError, match="another program"):
            await copy(source, target)


async def test_no_copy_while_somebody_writes(sqlite_url: str, database_url: str) -> None:
    """What a holder writes during the copy would be left behind."""
    async with Database(sqlite_url) as target, Database(database_url) as source:
        leases = Leases(source, {"default": "ak:1"})
        await leases.take_all()
        with pytest.raises(HeldError, match="account default is being served"):
            await copy(source, target)

        await leases.release()
        await copy(source, target)


async def test_a_copy_mends_nothing(new_database: Callable[..., str], sqlite_url: str) -> None:
    """What differs in the source differs in the copy in the same way."""
    target_url = new_database("sqlite", migrated=False)
    async with Database(sqlite_url) as source, Database(target_url) as target:
        await history(source)
        async with source.write() as connection:
            await connection.execute(text("UPDATE observation_rows SET attempts = 9"))
        await copy(source, target)

    assert await findings(target_url) == await findings(sqlite_url) != []


async def test_runs_that_are_not_sealed_are_copied(
    database_url: str, new_database: Callable[..., str]
) -> None:
    """In whatever order a database keeps its rows, which an update changes on PostgreSQL."""
    target_url = new_database("sqlite", migrated=False)
    async with Database(database_url) as source, Database(target_url) as target:
        for finish in (False, True):
            await Inventory(source).run({NORTH: {"img-1": image("img-1")}}, finish=finish)
        async with source.write() as connection:
            await connection.execute(text("UPDATE runs SET requests = 1 WHERE id = 1"))
        await copy(source, target)

    for url in (database_url, target_url):
        assert [found.where for found in await findings(url)] == ["run 1", "run 2"]


async def test_an_unfaithful_copy_is_undone(
    new_database: Callable[..., str], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that does not arrive is noticed, and nothing of the copy stays."""
    target_url = new_database("sqlite", migrated=False)
    left_out = [table for table in metadata.sorted_tables if table.name != "disk_attachments"]
    async with Database(sqlite_url) as source, Database(target_url) as target:
        await history(source)
        with monkeypatch.context() as patch:
            patch.setattr(type(metadata), "sorted_tables", left_out)
            with pytest.raises(CopyError, match="nothing was copied: default/cn-"):
                await copy(source, target)

        assert all(len(found) <= 1 for found in (await rows_of(target)).values())
        await copy(source, target)


@pytest.mark.parametrize("kind", KINDS[1:])
async def test_an_interrupted_copy_leaves_nothing(
    kind: str, new_database: Callable[..., str], sqlite_url: str
) -> None:
    """A connection that is lost in the midst of a table is told; the copy can be made again."""
    url = new_database(kind, migrated=False)
    name = make_url(url).database
    kill = {
        "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{name}'",
        "mysql": "BEGIN NOT ATOMIC FOR one IN (SELECT id FROM information_schema.processlist"
        f" WHERE db = '{name}') DO EXECUTE IMMEDIATE CONCAT('KILL ', one.id); END FOR; END",
    }
    told = list[str]()

    def strike(text: str) -> None:
        told.append(text)
        if text == "observation_rows 1,024":
            server(kind)([kill[kind]])

    async with Database(sqlite_url) as source, Database(url) as target:
        ids = [f"img-{number:04}" for number in range(1_100)]
        await Inventory(source).run({NORTH: dict.fromkeys(ids, Outcome.DENIED)})
        with pytest.raises(UnavailableError, match=rf"^database {kind}"):
            await copy(source, target, progress=strike)

        assert "observation_rows 1,024" in told
        assert all(len(found) <= 1 for found in (await rows_of(target)).values())
        assert (await copy(source, target))["observation_rows"] == len(ids)


@pytest.mark.parametrize("kind", KINDS)
async def test_up_and_down_with_rows(kind: str, new_database: Callable[..., str]) -> None:
    """Migrations work on a database that has rows in every table."""
    url = new_database(kind, migrated=False)
    async with Database(url) as database:
        await migrate.upgrade(database)
        digests = await history(database)
        async with database.write() as connection:
            values = {"lane_id": 1, "image_id": "img-1", "added_at": START, "ready_at": START}
            await connection.execute(insert(queue_items).values(values))
        filled = await rows_of(database)
        assert all(filled.values())
        await migrate.upgrade(database)  # there is nothing to do, and nothing is lost
        assert await rows_of(database) == filled
        await migrate.downgrade(database, "base")
        await migrate.upgrade(database)

        assert await migrate.drift(database) == []
        assert await history(database) == digests
