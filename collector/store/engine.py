"""Connections to the three kinds of database; the only place where their differences are known."""

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import aiosqlite
import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from typing_extensions import override

from collector.errors import ConfigurationError, UnavailableError
from collector.store.journal import REASONS, begin, enter_wal, leave_wal
from collector.store.prepared import Prepared, at_once
from collector.store.types import UtcDateTime
from collector.text import os_reason

__all__ = ["Database", "is_deadlock"]

_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+asyncmy",
    "mariadb": "mysql+asyncmy",
}
"""Scheme of a configured URL → kind and async driver; the kind also names what installs it."""

_WAIT_S: Final = 10
"""How long to wait for a connection, or for another writer's lock (seconds)."""

ANSWER_S: Final = 30.0
"""How long something may take that is quick unless the database is dead (seconds)."""

_OUTSIDE: Final = frozenset({"42501", "25006", "SQLITE_CORRUPT"})
"""No privilege, a read-only server, a damaged file: errors that drivers do not call operational."""

_DEADLOCK: Final = frozenset({"40P01", 1213})  # PostgreSQL's code and MariaDB's

_TURNS: Final = 3
"""How many of hundreds of lanes and accounts have a connection at once; one of four is left."""

_CACHE_KIB: Final = 4_000
"""What each connection to SQLite may keep in memory, and sort in (KiB)."""

_STATEMENTS: Final = 64
"""Compiled statements that each connection to SQLite keeps; those of many rows are large."""

_NOW: Final[dict[str, str]] = {
    # SQLite's clock has milliseconds; the text has the width of every other time.
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now', '{:+.6f} seconds')",
    "postgresql": "clock_timestamp() + interval '{:.6f} seconds'",
    "mysql": "utc_timestamp(6) + interval {:.6f} second",
}


class Database:
    """One database: its connections, its clock, and how its errors are told to a person."""

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self.url, self.kind = _parse(url)
        self.read_only = read_only
        self.engine = self._create_engine()
        self.dialect = self.engine.dialect
        self.turn = asyncio.Semaphore(_TURNS)
        # SQLite lets writers find out by themselves whose turn it is, and some never get one.
        self._one = asyncio.Semaphore(1) if self.kind == "sqlite" else nullcontext()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @override
    def __str__(self) -> str:
        return self.url.set(drivername=self.kind).render_as_string(hide_password=True)

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database."""
        return Path(self.url.database or "") if self.kind == "sqlite" else None

    async def identity(self) -> tuple[int, int] | None:
        """Device and number of a SQLite database's file; None where there is none."""
        try:
            found = await asyncio.to_thread(os.stat, self.path) if self.path is not None else None
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino)

    @asynccontextmanager
    async def read(self, *, urgent: bool = False) -> AsyncIterator[AsyncConnection]:
        """A connection in one read transaction; what is `urgent` does not wait for its `turn`.

        Raises:
            UnavailableError: the database cannot be reached or read.
        """
        with self.explained():
            async with nullcontext() if urgent else self.turn, self.engine.connect() as connection:
                # A cancellation does not reach what is done when it is closed: waiting for a server
                # that says no more would never end. So nothing is left to be said then.
                try:
                    yield connection
                    await connection.rollback()
                except BaseException:
                    await connection.invalidate()
                    raise

    @asynccontextmanager
    async def write(self, *, urgent: bool = False) -> AsyncIterator[AsyncConnection]:
        """A connection in one write transaction, committed at the end of the block; see `read`.

        Raises:
            UnavailableError: the database cannot be reached or written, or the disk is full.
        """
        async with self.read(urgent=urgent) as plain, self._one:
            connection = await plain.execution_options(collector_write=True)
            transaction = await connection.begin()
            yield connection
            await transaction.commit()

    async def select(self, query: sa.Executable, **values: Any) -> Sequence[Any]:
        """The rows of one query, in a transaction of its own; see `read`."""
        async with self.read() as connection:
            return (await connection.execute(query, values)).all()

    @asynccontextmanager
    async def within(self, seconds: float | None = None) -> AsyncIterator[None]:
        """Do something that takes no longer while the database answers; else `ANSWER_S`.

        Raises:
            UnavailableError: it did not in time.
        """
        seconds = ANSWER_S if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise UnavailableError(f"database {self}: no answer in {seconds:g} s") from error

    def now(self, plus_s: float = 0.0) -> sa.ColumnElement[datetime]:
        """The database's own clock, moved by `plus_s` seconds."""
        return sa.literal_column(_NOW[self.kind].format(plus_s), UtcDateTime())

    def time(self, value: datetime | None) -> str | datetime | None:
        """A time as the driver takes it in `Prepared` rows."""
        if value is None or self.kind == "postgresql":
            return value
        value = value.astimezone(UTC).replace(tzinfo=None)
        return value.isoformat(" ", "microseconds") if self.kind == "sqlite" else value

    def packed(self, *columns: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
        """What a query of many rows selects beside a busy event loop; see `unpacked`.

        Python's sqlite3 hands the interpreter lock over for every row it fetches, so that SQLite
        is asked for one: all rows as JSON.
        """
        if self.kind != "sqlite":
            return list(columns)
        return [sa.func.json_group_array(sa.func.json_array(*columns))]

    async def fetch(self, connection: AsyncConnection, sql: str) -> list[Sequence[Any]]:
        """The rows of a query for `packed` columns, in any order, as the driver gives them."""
        if self.kind != "sqlite":
            return list((await connection.exec_driver_sql(sql)).all())
        return self.unpacked(await at_once(connection, "execute_fetchall", sql))

    def unpacked(self, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
        """The rows of a query for `packed` columns, in any order, as the driver gives them."""
        return list(rows) if self.kind != "sqlite" else msgspec.json.decode(rows[0][0])

    def insert_new(self, table: sa.Table) -> Any:
        """An insert that leaves the rows alone that are there already."""
        if self.kind == "mysql":
            # Not INSERT IGNORE, which hides every other error as well. MySQL refuses to set a
            # generated key where the statement itself inserted the row.
            same = next(c for c in table.columns if c is not table.autoincrement_column)
            return mysql.insert(table).on_duplicate_key_update({same.name: same})
        return self._insert(table).on_conflict_do_nothing()

    def prepare(self, statement: sa.ClauseElement, keys: Sequence[str]) -> Prepared:
        """Compile a statement whose parameters are `keys`, in its own order."""
        return Prepared(statement, self.dialect, keys)

    def prepare_insert(self, insert: Any, names: Sequence[str]) -> Prepared:
        """Compile an insert that is given the columns `names`."""
        return self.prepare(insert.values({name: sa.bindparam(name) for name in names}), names)

    def prepare_update(
        self, table: sa.Table, names: Sequence[str], key: Sequence[str], *, only: Sequence[Any] = ()
    ) -> Prepared:
        """An update of the columns `names` by the columns `key`, where `only` holds."""
        params = [*names, *(f"key_{name}" for name in key)]
        given: Any = {name: sa.bindparam(name) for name in params}
        statement = sa.update(table)
        if self.kind == "sqlite":
            rows = sa.values(*(sa.column(name) for name in params), name="given")
            table_given = rows.data([tuple(given.values())]).cte()
            statement, given = statement.add_cte(table_given), table_given.c
        same = [table.c[name] == given[f"key_{name}"] for name in key]
        statement = statement.where(*same, *only).values({name: given[name] for name in names})
        return self.prepare(statement, params)

    def upsert(self, table: sa.Table, key: Sequence[str], change: dict[str, Any]) -> Any:
        """An insert that makes `change` where the row with the unique columns `key` exists."""
        if self.kind == "mysql":
            return mysql.insert(table).on_duplicate_key_update(change)
        return self._insert(table).on_conflict_do_update(index_elements=key, set_=change)

    def given(self, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
        """The value that an `upsert` would have inserted into a column."""
        name = column.name
        sql = f"VALUES({name})" if self.kind == "mysql" else f"excluded.{name}"
        return sa.literal_column(sql, column.type)

    def _insert(self, table: sa.Table) -> Any:
        return postgresql.insert(table) if self.kind == "postgresql" else sqlite.insert(table)

    async def close(self) -> None:
        """Close every connection; give SQLite its rollback journal back if nobody else is there.

        An auditor without write permission cannot read a closed database in WAL mode.
        """
        await self.engine.dispose()
        if self.path is not None and not self.read_only and self.exists:
            await asyncio.to_thread(leave_wal, self.path)

    @property
    def exists(self) -> bool:
        """Whether the file of a SQLite database is there; of any other, whatever it is: True.

        Raises:
            UnavailableError: its directory may not be entered.
        """
        with self.explained(), suppress(FileNotFoundError, NotADirectoryError):
            # Not `exists`, which takes "may not" for "is not" on Python 3.14.
            return self.path is None or bool(self.path.stat())
        return False

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the driver raises into one line for a person."""
        try:
            yield
        except DBAPIError as error:
            codes, away = _codes(error.orig), isinstance(error, (OperationalError, InterfaceError))
            if "SQLITE_NOTADB" in codes:
                raise ConfigurationError(f"database {self}: the file is no database") from error
            if away or error.connection_invalidated or not _OUTSIDE.isdisjoint(codes):
                raise UnavailableError(f"database {self}: {_first_line(error.orig)}") from error
            raise
        except OSError as error:
            raise UnavailableError(f"database {self}: {os_reason(error)}") from error

    def _create_engine(self) -> AsyncEngine:
        # What is more than kept is bounded by `turn`. `read` and `write` end what they begin.
        options: dict[str, Any] = {"pool_size": 4, "pool_use_lifo": True}
        options["pool_reset_on_return"] = None
        url = self.url
        if self.kind == "sqlite":
            # The oldest that was tried: UPDATE … FROM is of 3.33, thousands of parameters of 3.32.
            if sqlite3.sqlite_version_info < (3, 34):
                raise ConfigurationError(
                    f"database {self}: SQLite is {sqlite3.sqlite_version}; needed: 3.34 or newer"
                )
            options["connect_args"] = {
                "async_creator_fn": _sqlite,
                "timeout": _WAIT_S,
                "isolation_level": None,
                "cached_statements": _STATEMENTS,
            }
            # One that is removed meanwhile is not made anew, and empty: `create_file` does that.
            query = {"mode": "ro" if self.read_only else "rw", "uri": "true"}
            url = url.set(database=f"file:{quote(url.database or '')}").set(query=query)
        elif self.kind == "postgresql":
            options["paramstyle"] = "format"
            options["connect_args"] = {
                "connect_timeout": _WAIT_S,
                "tcp_user_timeout": _WAIT_S * 1000,
                "prepare_threshold": None,  # a pooler's connections have other clients'
                # A stopped process in the middle of a commit must not block its successor.
                "options": f"{url.query.get('options', '')} -c timezone=UTC -c lock_timeout=10s"
                " -c cursor_tuple_fraction=1"  # what is streamed is read to its end
                " -c idle_in_transaction_session_timeout=" + ("0" if self.read_only else "10s"),
            }
        else:
            logging.getLogger("asyncmy").setLevel(logging.ERROR)  # it logs every note of DDL
            options["connect_args"] = {
                "connect_timeout": _WAIT_S,
                "charset": "utf8mb4",
                "init_command": "SET time_zone = '+00:00', innodb_lock_wait_timeout = 10,"
                " sql_mode = 'TRADITIONAL'"
                # As on PostgreSQL; MySQL has no such setting, and takes this for a comment.
                + ("" if self.read_only else " /*M!100300 , idle_transaction_timeout = 10 */"),
            }
        if self.kind != "sqlite":
            level = "REPEATABLE READ" if self.read_only else "READ COMMITTED"
            options |= {"isolation_level": level, "pool_pre_ping": True}
        try:
            engine = create_async_engine(url, **options)
        except ImportError as error:
            raise ConfigurationError(
                f"database {self}: the driver is not installed; "
                f"pip install 'jdcloud-image-collector[{self.kind}]'"
            ) from error
        except (TypeError, ValueError) as error:
            raise self._refused(error) from error
        sa.event.listen(engine.sync_engine, "do_connect", self._connect)
        if self.kind == "sqlite":
            sa.event.listen(engine.sync_engine, "connect", self._on_sqlite_connect)
            sa.event.listen(engine.sync_engine, "begin", begin)
        return engine

    def _connect(self, dialect: Any, _: object, args: Any, options: dict[str, Any]) -> Any:
        try:
            return dialect.connect(*args, **options)
        except (TypeError, ValueError, OverflowError, dialect.dbapi.ProgrammingError) as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> ConfigurationError:
        return ConfigurationError(f"database {self}: the driver refuses the URL: {error}")

    def _on_sqlite_connect(self, connection: Any, _: object) -> None:
        cursor = connection.cursor()
        if not self.read_only:
            cursor.execute("PRAGMA page_size = 8192")
            enter_wal(cursor)
            cursor.execute("PRAGMA synchronous = NORMAL")
            cursor.execute("PRAGMA wal_autocheckpoint = 4000")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        cursor.close()

    def create_file(self) -> None:
        """Create an absent SQLite file, readable by its owner alone."""
        if self.path is not None:
            with self.explained():
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _sqlite(*args: Any, **options: Any) -> aiosqlite.Connection:
    """A connection to SQLite, not yet open, whose thread may outlive the event loop."""
    connection: Any = aiosqlite.connect(*args, **options)
    # Cancelled while it closes, it is told to stop again, and its thread answers only once.
    connection.stop = cache(connection.stop)
    thread = connection._thread  # noqa: SLF001 - as SQLAlchemy does
    work = thread.run

    def run() -> None:
        with suppress(RuntimeError):  # there is no loop any more that it could answer
            work()

    thread.run, thread.daemon = run, True
    return connection  # type: ignore[no-any-return]


def _parse(text: str) -> tuple[sa.URL, str]:
    """The driver's URL and the kind; `settings.check_database` found the scheme good before."""
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise ConfigurationError(
            "database.url: not a database URL; allowed: sqlite:///FILE, postgresql://…, mysql://…"
        ) from error
    url = url.set(drivername=_DRIVERS[url.get_backend_name()])
    return url, url.get_backend_name()


def is_deadlock(error: UnavailableError) -> bool:
    """Whether a transaction was given up because it and another one waited for each other."""
    return not _DEADLOCK.isdisjoint(_codes(getattr(error.__cause__, "orig", None)))


def _codes(error: BaseException | None) -> tuple[object, ...]:
    names = (getattr(error, "sqlstate", None), getattr(error, "sqlite_errorname", None))
    return (*names, *getattr(error, "args", ())[:1])


def _first_line(error: BaseException | None) -> str:
    if reason := REASONS.get(getattr(error, "sqlite_errorname", "")):
        return reason
    if error is not None and len(error.args) == 2:  # noqa: PLR2004 - MySQL: number and text
        error = error.args[1]
    return (str(error).strip().splitlines() or ["no reason given"])[0]
