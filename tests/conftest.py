"""Fresh, migrated databases for every test: `sqlite_url`, and `database_url` on all three kinds.

The environment names the servers (`COLLECTOR_TEST_POSTGRESQL`, `COLLECTOR_TEST_MYSQL`); by default
they are on this machine. If one cannot be reached, its tests are skipped, or fail with
`COLLECTOR_REQUIRE_SERVICES=1`.
"""

import asyncio
import logging
import os
import shutil
import signal
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from errno import EACCES
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

import collector.log
import collector.text
from collector.store import migrate

KINDS = ("sqlite", "postgresql", "mysql")
SERVERS = {
    "postgresql": os.environ.get("COLLECTOR_TEST_POSTGRESQL", "postgresql://root@127.0.0.1"),
    "mysql": os.environ.get("COLLECTOR_TEST_MYSQL", "mysql://root@127.0.0.1"),
}

Execute = Callable[[Sequence[str]], None]

# A script's background job ignores this signal, and so would the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure: examples are not timed.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two per processor: half of the time, tests wait for servers, leases and signals."""
    return 2 * (os.cpu_count() or 1)


def server(kind: str, database: str | None = None) -> Execute:
    """A function that runs statements on a server, each committed at once."""
    url = make_url(SERVERS[kind])

    def postgresql(statements: Sequence[str]) -> None:
        import psycopg

        conninfo = url.set(database=database or "postgres").render_as_string(hide_password=False)
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=5) as connection:
            for statement in statements:
                connection.execute(statement)

    async def mysql(statements: Sequence[str]) -> None:
        import asyncmy

        options: dict[str, Any] = {"host": url.host, "port": url.port or 3306, "charset": "utf8mb4"}
        options |= {"user": url.username, "password": url.password or "", "database": database}
        connection = await asyncmy.connect(**options, autocommit=True, connect_timeout=5)
        async with connection, connection.cursor() as cursor:
            for statement in statements:
                await cursor.execute(statement)

    def in_thread(statements: Sequence[str]) -> None:
        # The test's own thread has an event loop already.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: asyncio.run(mysql(statements))).result()

    return postgresql if kind == "postgresql" else in_thread


def statements_of(script: str) -> list[str]:
    """The statements of a DDL script."""
    return [part for part in script.split(";\n") if part.strip()]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' endpoints are on this machine, whatever proxy it needs to reach others."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def _no_log_of_others() -> Iterator[None]:
    """A log that one test configured does not catch what libraries say in another.

    pytest restores what shows warnings without `logging` noticing, which would not capture again.
    """
    yield
    logging.captureWarnings(capture=False)
    logging.getLogger().removeHandler(collector.log._LIBRARIES)


@pytest.fixture(autouse=True)
def _no_secrets_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that another test registered may be an ordinary word here."""
    monkeypatch.setattr(collector.text, "_SECRETS", [])


@pytest.fixture
def no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory may be entered, as a service's user may not enter root's home."""

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(EACCES, os.strerror(EACCES), str(path))

    monkeypatch.setattr(Path, "stat", refuse)


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, str | None]]:
    """Kind → why its server cannot be used, or None; and the name of PostgreSQL's template."""
    found: dict[str, str | None] = {"sqlite": None}
    template = f"collector_template_{uuid.uuid4().hex[:12]}"
    for kind, url in SERVERS.items():
        try:
            server(kind)(["SELECT 1"])
        except Exception as error:  # noqa: BLE001 - whatever a driver says when it cannot connect
            found[kind] = f"{url}: {str(error).splitlines()[0]}"
        else:
            found[kind] = None
    if found["postgresql"] is None:
        server("postgresql")([f"CREATE DATABASE {template}"])
        server("postgresql", template)(statements_of(migrate.sql("postgresql")))
    yield found | {"template": template}
    if found["postgresql"] is None:
        server("postgresql")([f"DROP DATABASE {template} WITH (FORCE)"])


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database that nobody writes to."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"PRAGMA page_size = 8192;\n{migrate.sql('sqlite')}")
    return path


@pytest.fixture
def new_database(
    servers: dict[str, str | None], sqlite_template: Path, tmp_path: Path
) -> Iterator[Callable[..., str]]:
    """A function that makes a fresh database of a kind and returns its URL.

    `migrated=False` leaves it empty. All are dropped after the test.
    """
    made: list[tuple[str, str]] = []

    def create(kind: str, *, migrated: bool = True) -> str:
        name = f"collector_test_{uuid.uuid4().hex[:16]}"
        if kind == "sqlite":
            if migrated:
                shutil.copy(sqlite_template, tmp_path / f"{name}.db")
            return f"sqlite:///{tmp_path / name}.db"
        why = servers[kind]
        if why is not None:
            if os.environ.get("COLLECTOR_REQUIRE_SERVICES") == "1":
                pytest.fail(why)
            pytest.skip(why)
        template = f" TEMPLATE {servers['template']}" if kind == "postgresql" and migrated else ""
        server(kind)([f"CREATE DATABASE {name}{template}"])
        made.append((kind, name))
        if kind == "mysql" and migrated:
            server(kind, name)(statements_of(migrate.sql(kind)))
        return make_url(SERVERS[kind]).set(database=name).render_as_string(hide_password=False)

    yield create
    for kind, name in made:
        force = " WITH (FORCE)" if kind == "postgresql" else ""
        server(kind)([f"DROP DATABASE {name}{force}"])


@pytest.fixture
def sqlite_url(new_database: Callable[..., str]) -> str:
    """A fresh SQLite database at head."""
    return new_database("sqlite")


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, new_database: Callable[..., str]) -> str:
    """A fresh database at head, of each kind."""
    return new_database(request.param)
