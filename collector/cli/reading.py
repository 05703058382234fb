"""Runs a command that only reads: nothing but a database, opened read-only and at head."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collector.cli import runtime
from collector.cli.options import database_of

if TYPE_CHECKING:
    from collector.store.engine import Database

__all__ = ["at_head", "read", "unless_stopped"]


def read(
    config_path: Path | None,
    database: str | None,
    work: "Callable[[Database], Coroutine[Any, Any, int]]",
) -> int:
    """Do some work on the database, and return its exit code, or 128 and the signal that ended it.

    Raises:
        ConfigurationError: there is no database configured.
        SchemaError: it is not at this program's revision.
        UnavailableError: it cannot be read.
    """
    url = database_of(config_path, database)

    async def whole() -> int:
        async with at_head(url, read_only=True) as opened:
            return await work(opened)

    return runtime.run(lambda stop: unless_stopped(stop, whole()))


@asynccontextmanager
async def at_head(url: str, *, read_only: bool = False) -> "AsyncIterator[Database]":
    """A database that is at this program's revision.

    Raises:
        SchemaError: it is not.
        UnavailableError: it cannot be reached.
    """
    from collector.store import migrate  # noqa: PLC0415 - after the quick refusals
    from collector.store.engine import Database  # noqa: PLC0415

    async with Database(url, read_only=read_only) as opened:
        await migrate.require_head(opened)
        yield opened


async def unless_stopped(stop: runtime.Stop, work: Coroutine[Any, Any, int]) -> int:
    """Return the work's exit code; cancelled by a signal, return 128 and its number."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped = not working.done()
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
    return 128 + (stop.signal or 0) if stopped else working.result()
