"""Schema revisions: alembic on the connections of this program, from a wheel as from a checkout."""

import io
from importlib import resources
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, inspect, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.expression import column

from collector.errors import HeldError, SchemaError, UnavailableError, UsageError
from collector.store.engine import Database
from collector.store.schema import leases, metadata
from collector.store.views import CREATE_VIEWS

__all__ = [
    "create_if_empty",
    "downgrade",
    "drift",
    "head",
    "require_file",
    "require_head",
    "revision_of",
    "sql",
    "upgrade",
]

_LOCK_S: Final = 60
"""How long to wait for another process that is migrating (seconds)."""

_VERSION: Final = table("alembic_version", column("version_num"))


def _scripts() -> Path:
    """The revisions: inside the wheel, or beside the package in a checkout."""
    package = Path(str(resources.files("collector")))
    shipped = package / "_migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def _revisions() -> list[str]:
    return sorted(path.name.split("_")[0] for path in (_scripts() / "versions").glob("[0-9]*.py"))


def head() -> str:
    """The revision that this program works with."""
    return _revisions()[-1]


async def revision_of(database: Database) -> str | None:
    """The database's revision; None when it is empty.

    Raises:
        SchemaError: it has tables, but not this program's.
        UnavailableError: it cannot be reached.
    """
    async with database.within(), database.read() as connection:
        return await _current(connection)


async def _current(connection: AsyncConnection) -> str | None:
    names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    if not set(names) - {"alembic_version"}:
        return None
    if "alembic_version" not in names or "observation_rows" not in names:
        found = ", ".join(sorted(names)[:3])
        raise SchemaError(
            f"the database belongs to another program (it has the tables {found}); "
            "`collector db upgrade` needs an empty one"
        )
    query = select(_VERSION.c.version_num)
    revision: str | None = (await connection.execute(query)).scalar_one_or_none()
    if revision is None:
        raise SchemaError(
            "the database has tables, but no revision: a migration was cut short; "
            "restore a copy, or let `collector db upgrade` fill an empty one"
        )
    return revision


async def _judge(database: Database, connection: AsyncConnection, revision: str | None) -> None:
    if revision != head():
        raise not_at_head(database, revision)
    if missing := await connection.run_sync(_missing_views):
        raise SchemaError(
            f"database {database} lacks the view {missing[0]}; `collector db upgrade` creates it"
        )


def not_at_head(database: Database, revision: str | None) -> SchemaError:
    """Why a database at another revision is refused, and what mends it."""
    if revision is None:
        return SchemaError(
            f"database {database} is empty; `collector db upgrade` creates its tables"
        )
    if revision in _revisions():
        return SchemaError(
            f"database {database} is at revision {revision}, older than this program's {head()}; "
            "`collector db upgrade` migrates it"
        )
    return SchemaError(
        f"database {database} is at revision {revision}, which this program (head {head()}) does "
        "not know: it is newer; upgrade the program, or `collector db downgrade` with the newer one"
    )


async def require_head(database: Database) -> None:
    """Refuse a database that is not at this program's revision.

    Raises:
        SchemaError: empty, older, newer, or another program's.
        UnavailableError: it cannot be reached.
    """
    require_file(database)
    async with database.within(), database.read() as connection:
        await _judge(database, connection, await _current(connection))


def require_file(database: Database) -> None:
    """Raise `UnavailableError` when a SQLite database's file is not there."""
    if not database.exists:
        raise UnavailableError(f"database {database}: there is no such file")


async def create_if_empty(database: Database) -> None:
    """Create the tables of an absent or empty database; otherwise as `require_head`."""
    database.create_file()
    async with database.within(), database.read() as connection:
        try:
            if (revision := await _current(connection)) is not None:
                await _judge(database, connection, revision)
                return
        except SchemaError:
            # MariaDB commits every statement: what another process creates may be half done.
            if database.kind != "mysql":
                raise
    await _migrate(database, "upgrade", "head", only_empty=True)


async def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate up; the views are created again at head.

    Raises:
        HeldError: a process holds an account, and the tables would change under it.
        UsageError: there is no such revision.
    """
    if not database.exists:
        sql(database.kind, revision)  # refused, it leaves no empty file
        database.create_file()
    await _migrate(database, "upgrade", revision)


async def downgrade(database: Database, revision: str) -> None:
    """Migrate down to a revision (`base`: nothing is left).

    Raises:
        HeldError: a process holds an account.
    """
    require_file(database)
    await _migrate(database, "downgrade", revision)


async def drift(database: Database) -> list[str]:
    """Where the tables and views differ from this program's, a line each.

    Raises:
        SchemaError: the database belongs to another program.
    """
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - slow to import
    from alembic.migration import MigrationContext  # noqa: PLC0415

    def compare(connection: Connection) -> list[str]:
        options = {"include_object": lambda item, *_: exists_on(item, connection.dialect.name)}
        context = MigrationContext.configure(connection, opts=options)
        differences = [_in_words(entry) for entry in compare_metadata(context, metadata)]
        missing = _missing_views(connection)
        create = "is missing: `collector db upgrade` creates it"
        return differences + [f"view {name} {create}" for name in missing]

    async with database.read() as connection:
        return await connection.run_sync(compare)


def _missing_views(connection: Connection) -> list[str]:
    found = set(inspect(connection).get_view_names())
    return [name for name in CREATE_VIEWS if name not in found]


def sql(kind: str, revision: str = "head") -> str:
    """The DDL that creates a fresh database of a kind (`sqlite`, `postgresql`, `mysql`).

    Raises:
        UsageError: there is no such revision.
    """
    output = io.StringIO()
    _run("upgrade", revision, sql=True, dialect=kind, output=output)
    return output.getvalue()


def exists_on(item: Any, dialect: str) -> bool:
    """Whether a kind of database can have it: MariaDB has no partial indexes."""
    info: dict[str, Any] = getattr(item, "info", {})
    return dialect in info.get("dialects", (dialect,))


def _in_words(entry: Any) -> str:
    while isinstance(entry, list):  # alembic groups the changes of one column
        entry = entry[0]
    return " ".join(str(getattr(part, "name", part)) for part in entry if part is not None)


async def _migrate(
    database: Database, way: str, revision: str, *, only_empty: bool = False
) -> None:
    async with database.within(), database.read():
        pass  # it answers; what follows may take long
    with database.explained():
        async with database.engine.connect() as plain:
            if database.kind == "sqlite":
                # Batch mode recreates tables; enforced keys would then delete what refers to them.
                driver: Any = (await plain.get_raw_connection()).driver_connection
                await driver.execute("PRAGMA foreign_keys = OFF")
            connection = await plain.execution_options(collector_write=True)
            await _lock(database, connection)
            try:
                found = await _current(connection)
                if only_empty and found is not None:
                    await _judge(database, connection, found)
                    return
                if found is not None and found not in _revisions():
                    raise not_at_head(database, found)
                stays = way == "upgrade" and found == head()
                if found is not None and not stays:
                    await _require_nobody(database, connection)
                await connection.run_sync(
                    lambda sync: _run(way, revision, connection=sync, stays=stays)
                )
                await connection.commit()
            finally:
                await connection.invalidate()


async def _require_nobody(database: Database, connection: AsyncConnection) -> None:
    """Refuse to change the tables under a process that looked at their revision when it began."""
    held = select(leases.c.account, leases.c.holder).where(leases.c.expires > database.now())
    if found := (await connection.execute(held.limit(1))).one_or_none():
        raise HeldError(f"account {found.account} is held by another process: {found.holder}")


async def _lock(database: Database, connection: AsyncConnection) -> None:
    """One migration at a time; SQLite's write transaction does it by itself."""
    if database.kind == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(7033870162)"))
    elif database.kind == "mysql":
        statement = text(f"SELECT GET_LOCK('collector migration', {_LOCK_S})")
        if not (await connection.execute(statement)).scalar_one():
            raise UnavailableError(f"database {database}: another process is migrating it")


def _run(way: str, revision: str, *, sql: bool = False, **attributes: Any) -> None:
    """Have alembic go up or down to a revision; what `env.py` needs to know is in `attributes`."""
    from alembic import command  # noqa: PLC0415 - slow to import
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        getattr(command, way)(config, revision, sql=sql)
    except CommandError as error:
        allowed = ", ".join(_revisions())
        raise UsageError(f"REVISION: {error}; allowed: base, {allowed}, head") from error
