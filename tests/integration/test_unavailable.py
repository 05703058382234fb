"""A database that refuses is told in one line, as what it is, whatever its driver calls it."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiosqlite import Connection
from sqlalchemy import event, make_url, text
from sqlalchemy.exc import OperationalError

from collector.cli import db
from collector.cli.options import Where
from collector.cli.runtime import Stop
from collector.errors import ConfigurationError, UnavailableError
from collector.store import engine, migrate
from collector.store.engine import Database
from collector.store.journal import REASONS
from tests.conftest import server
from tests.support.proxy import proxied

WRITE = text("INSERT INTO lanes (account, region) VALUES ('a', 'r')")


async def refusal(url: str) -> str:
    """What a write is answered with."""
    async with Database(url) as database:
        with pytest.raises(UnavailableError) as caught:
            async with database.write() as connection:
                await connection.execute(WRITE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_read_only_server(new_database: Callable[..., str]) -> None:
    """A standby, or a database that an administrator made read-only."""
    url = new_database("postgresql")
    name = make_url(url).database
    server("postgresql")([f"ALTER DATABASE {name} SET default_transaction_read_only = on"])
    assert "read-only transaction" in await refusal(url)


def test_a_file_that_was_removed_is_not_made_anew(sqlite_url: str) -> None:
    """A new connection to it fails: an empty database in its place would say "no such table"."""
    path = Path(make_url(sqlite_url).database or "")
    path.unlink()
    assert "unable to open" in asyncio.run(refusal(sqlite_url))
    assert not path.exists()


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_a_role_without_the_privilege(new_database: Callable[..., str], kind: str) -> None:
    """It may look and not write."""
    url = make_url(new_database(kind))
    role = f"reader_{url.database}"[:30] if kind == "mysql" else f"reader_{url.database}"
    host = "@'127.0.0.1'" if kind == "mysql" else ""
    password = "IDENTIFIED BY" if kind == "mysql" else "LOGIN PASSWORD"
    granted = f"{url.database}.*" if kind == "mysql" else "ALL TABLES IN SCHEMA public"
    server(kind)([f"CREATE USER {role}{host} {password} 'hush-hush'"])
    try:
        server(kind, url.database)([f"GRANT SELECT ON {granted} TO {role}{host}"])
        as_role = url.set(username=role, password="hush-hush")
        said = await refusal(as_role.render_as_string(hide_password=False))
    finally:
        owned = [] if kind == "mysql" else [f"DROP OWNED BY {role}"]
        server(kind, url.database)([*owned, f"DROP USER {role}{host}"])
    assert "denied" in said
    assert "hush-hush" not in said


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_a_server_that_is_not_there(servers: dict[str, str | None], kind: str) -> None:
    """Its error, without a driver's number in brackets."""
    said = await refusal(f"{kind}://user:hush-hush@127.0.0.1:1/inventory")
    assert "127.0.0.1" in said
    assert "hush-hush" not in said
    assert "(2003" not in said


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://u:hush-hush@127.0.0.1:port/inventory", "not a database URL"),
        ("mysql://u:hush-hush@127.0.0.1:99999/inventory", "port must be 0-65535"),
        ("mysql://u:hush-hush@127.0.0.1/inventory?connect_timeout=soon", "'soon'"),
        ("mysql://u:hush-hush@127.0.0.1/inventory?colour=red", "'colour'"),
        ("mysql://u:hush-hush@127.0.0.1/inventory?ssl=true", "ssl argument"),
        ("postgresql://u:hush-hush@127.0.0.1/inventory?colour=red", '"colour"'),
    ],
)
async def test_a_url_that_the_driver_refuses(url: str, told: str) -> None:
    """A mistake in the URL is the user's, and neither a bug nor a database that is away."""
    with pytest.raises(ConfigurationError) as caught:
        async with Database(url) as database, database.read():
            pass

    assert told in str(caught.value)
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize("name", REASONS)
def test_a_disk_error_that_is_none(name: str) -> None:
    """SQLite on a volume without what it needs: its "disk I/O error" would mislead."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name
    database = Database("sqlite:////data/collector.db")
    with pytest.raises(UnavailableError) as caught, database.explained():
        raise OperationalError("SELECT 1", {}, error)

    assert str(caught.value) == f"database sqlite:////data/collector.db: {REASONS[name]}"


@pytest.mark.parametrize("ask", ["upgrade", "downgrade", "status"])
async def test_a_server_that_never_said_anything(ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and is waited for no longer than for any other."""
    monkeypatch.setattr(engine, "ANSWER_S", 0.2)
    taken: list[asyncio.StreamWriter] = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        url = f"mysql://root@127.0.0.1:{listening.sockets[0].getsockname()[1]}/nothing"
        if ask == "status":
            asked = db.status.callback.__wrapped__.__wrapped__(Where(None, url), as_json=True)
        else:
            asked = db._migrate(Stop(), url, "0001", up=ask == "upgrade", as_json=False)
        with pytest.raises(UnavailableError, match=r"no answer in 0\.2 s"):
            await asked
        for writer in taken:
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize("way", ["read", "cancelled"])
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_a_server_that_says_no_more(
    new_database: Callable[..., str], kind: str, way: str
) -> None:
    """Who waits for it ends when told to, also at the end of a transaction."""
    url = make_url(new_database(kind))
    here, between = asyncio.Event(), asyncio.Event()
    port = url.port or {"postgresql": 5432, "mysql": 3306}[kind]
    async with proxied(url.host or "127.0.0.1", port) as proxy, asyncio.timeout(60):
        far = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        async with Database(far) as database:

            async def work() -> None:
                async with database.read() as connection:
                    await connection.execute(text("SELECT 1"))
                    await proxy.stall()
                    here.set()
                    if way == "cancelled":
                        await between.wait()

            working = asyncio.create_task(work())
            await (here if way == "cancelled" else proxy.withheld).wait()
            working.cancel()
            await asyncio.wait((working,), timeout=20)
            ended = working.done()
            await proxy.flow()
            assert ended
            assert working.cancelled()


async def test_who_reads_a_closed_file_keeps_writers_out(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal cannot be switched: as long as an export takes, nobody begins to write."""
    async with Database(sqlite_url):
        pass
    monkeypatch.setattr(engine, "_WAIT_S", 0.1)
    async with Database(sqlite_url, read_only=True) as reader, reader.read() as connection:
        await connection.execute(text("SELECT count(*) FROM images"))
        told = await refusal(sqlite_url)

    assert "is locked: another program writes, or began to read before this one" in told


async def test_a_locked_file_and_who_is_told_twice_to_end(sqlite_url: str) -> None:
    """The end of the process, which tells everything that is left, waits for nothing after it."""
    begun = asyncio.Event()
    async with Database(sqlite_url) as database:
        async with database.read() as connection:  # one that is there already
            await connection.execute(text("SELECT 1"))
        engine = database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda *_: begun.set())

        async def work() -> None:
            async with database.write() as connection:
                await connection.execute(WRITE)

        with closing(sqlite3.connect(database.path or "", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            working = asyncio.create_task(work())
            async with asyncio.timeout(10):
                await begun.wait()
            while not working.done():
                working.cancel()
                await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
            other.execute("ROLLBACK")
        assert left
        _, pending = await asyncio.wait(left, timeout=5)
        assert not pending


def test_a_file_that_cannot_be_opened_and_a_late_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection's thread says nothing when the loop is closed before it answers."""
    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    closed, before, stop = threading.Event(), set(threading.enumerate()), Connection.stop

    def late(self: Connection) -> asyncio.Future[None] | None:
        self._tx.put_nowait((None, closed.wait))
        return stop(self)

    monkeypatch.setattr(Connection, "stop", late)
    asyncio.run(refusal(f"sqlite:///{tmp_path}/absent/collector.db"))
    threads = set(threading.enumerate()) - before
    assert threads
    closed.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert told == []


@pytest.mark.parametrize("ask", [migrate.upgrade, migrate.require_head])
@pytest.mark.usefixtures("no_entry")
async def test_a_directory_that_may_not_be_entered(
    ask: Callable[[Database], Any], tmp_path: Path
) -> None:
    """An auditor who may not enter the database's directory is told so: 69, and no bug."""
    with pytest.raises(UnavailableError, match=r"closed/x\.db: Permission denied"):
        await ask(Database(f"sqlite:///{tmp_path}/closed/x.db"))


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """It is somebody else's: the configuration names the wrong one, and it stays as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n" * 1000)
    async with Database(f"sqlite:///{path}") as database:
        with pytest.raises(ConfigurationError, match="is no database"):
            await migrate.create_if_empty(database)
    assert path.read_text() == "dear diary\n" * 1000


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))


async def test_a_damaged_file(sqlite_url: str) -> None:
    """It cannot be read, which is no bug of ours."""
    damage(Path(make_url(sqlite_url).database or ""))
    async with Database(sqlite_url) as database:
        with pytest.raises(UnavailableError, match="malformed"):
            async with database.write() as connection:
                await connection.execute(WRITE)
