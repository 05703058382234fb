"""Runs the service: in this process for control, or as the command for signals."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sqlalchemy import select, text

from collector import config
from collector.health import Health
from collector.metrics import Metrics
from collector.serve import Service
from collector.session import load_credentials
from collector.store.engine import Database

ENTRY = "import sys; from collector.cli.main import main; sys.exit(main())"
KEYS = {"JDCLOUD_ACCESS_KEY": "simulator", "JDCLOUD_SECRET_KEY": "simulator"}


def configuration(
    directory: Path,
    endpoint: str,
    database: str,
    *,
    every: str = "",
    accounts: Mapping[str, str] | None = None,
    targets: str = "",
    queue: str = "database",
    name: str = "collector.toml",
    **api: Any,
) -> Path:
    """Write a configuration; `accounts` are names with their `credentials`."""
    lines = ["[database]", f'url = "{database}"', "[api]", f'endpoint = "{endpoint}"']
    api = {"account_rate_limit": 0, **api}
    lines += [f"{key} = {str(value).lower()}" for key, value in api.items()]
    for account, credentials in (accounts or {"default": "env"}).items():
        lines += ["[[accounts]]", f'name = "{account}"', f'credentials = "{credentials}"']
    lines += [targets, "[queue]", f'url = "{queue}"', f'name = "{directory.name}"']
    lines += ["[schedule]", f'every = "{every}"', "[serve]", 'listen = ""']
    path = directory / name
    path.write_text("\n".join(lines))
    return path


def target(account: str = "default", region: str = "cn-north-1", discover: str = "private") -> str:
    return f'[[targets]]\naccount = "{account}"\nregion = "{region}"\ndiscover = ["{discover}"]\n'


@asynccontextmanager
async def serving(path: Path, env: Mapping[str, str] = KEYS) -> AsyncIterator[Service]:
    """A service in this process; stopped and awaited at the end of the block."""
    settings = config.load(path, env={})
    stop = asyncio.Event()
    async with Database(settings.database.url) as database:
        service = Service(
            settings,
            database,
            load_credentials(settings, env),
            stop=stop,
            health=Health({}),
            metrics=Metrics(),
        )
        task = asyncio.create_task(service.run())
        try:
            yield service
        finally:
            stop.set()
            await task


@asynccontextmanager
async def process(
    *words: str, env: Mapping[str, str] = KEYS, log: int | IO[str] = asyncio.subprocess.PIPE
) -> AsyncIterator[Any]:
    """The command as a process; killed at the end of the block if it still runs.

    What writes much needs a file for its `log`: nobody reads the pipe, and a full one stops it.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTOR")}
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        ENTRY,
        *words,
        env=clean | dict(env),
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        await running.communicate()


async def rows(database: Database, sql: Any) -> list[tuple[Any, ...]]:
    statement = text(sql) if isinstance(sql, str) else select(sql)
    async with database.read() as connection:
        return [tuple(row) for row in await connection.execute(statement)]


async def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Poll until the condition holds and return what it gave."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.05)
