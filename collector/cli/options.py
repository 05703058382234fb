"""The options that commands share, and the loading that goes with them."""

import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click
from typing_extensions import override

from collector import config, log
from collector.audit.catalogue import parameters
from collector.settings import Settings, duration
from collector.text import passwords_of, shown

if TYPE_CHECKING:
    from collector.store.engine import Database

__all__ = [
    "Number",
    "Where",
    "age",
    "config_option",
    "database_of",
    "database_options",
    "json_option",
    "opened",
    "reading",
    "settings_of",
    "unused_config_option",
    "when",
]

T = TypeVar("T")

_YEARS: Final = range(1001, 9999)
"""What every database can hold."""


class Number(click.FloatRange):
    """A number of a range, which `nan` and `inf` are not; click's own lets `nan` through."""

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            number = float(super().convert(value, param, ctx))
        except click.BadParameter:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"found {shown(value)}; allowed: {self._describe_range()}", param, ctx)
        return number


def age(text: str) -> timedelta:
    """A length of time, as `26h` or `7d`; for `type=` of an option."""
    try:
        return _length(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"found {shown(text)}; allowed: as 30m, 26h, 7d") from None


def when(text: str) -> datetime:
    """A point in time: ISO 8601, in UTC when it names no zone, or how long ago (`36h`, `7d`)."""
    try:
        try:
            time = datetime.fromisoformat(text.removesuffix(" UTC"))  # as times are told
        except ValueError:
            time = datetime.now(UTC) - _length(text)
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        time = datetime.min.replace(tzinfo=UTC)
    if time.year not in _YEARS:
        allowed = "a date, ISO 8601 (UTC when it names no zone), or how long ago, as 36h"
        raise click.BadParameter(f"found {shown(text)}; allowed: {allowed}")
    return time


def _length(text: str) -> timedelta:
    seconds = duration(text)
    if seconds is None:
        raise ValueError
    return timedelta(seconds=seconds)


config_option: Final = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The configuration; by default $COLLECTOR_CONFIG, ./collector.toml or "
    "/etc/collector/collector.toml.",
)

unused_config_option: Final = click.option(
    "--config",
    metavar="PATH",
    expose_value=False,
    help="Accepted, as by every command, but not used.",
)

_database_option: Final = click.option(
    "--database",
    "database",
    metavar="URL",
    help="The database; with it, or COLLECTOR_DATABASE__URL, no configuration is needed.",
)

json_option: Final = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON to standard output."
)


def settings_of(config_path: Path | None, *, quiet: bool = False) -> Settings:
    """Load the configuration and set the log up by it; `quiet` logs nothing.

    Raises:
        ConfigurationError: when the configuration is wrong.
    """
    settings = config.load(config_path, env=os.environ)
    parameters(settings.audit, settings.where)
    log.redact(*settings.secrets)
    log.configure(settings.log.format, "critical" if quiet else settings.log.level)
    for warning in settings.warnings:
        log.get_logger().warning("configuration_warning", message=warning)
    return settings


class Where(NamedTuple):
    """Where the database is, as `--config` and `--database` say."""

    config: Path | None
    database: str | None


def database_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command `--config` and `--database`, together as the first thing it takes."""

    @config_option
    @_database_option
    @wraps(command)
    def taking(config_path: Path | None, database: str | None, **others: Any) -> T:
        return command(Where(config_path, database), **others)

    return taking


def database_of(where: Where) -> str:
    """The database's URL for a command that only reads, and a log of warnings.

    Raises:
        ConfigurationError: when the URL, or the configuration it stands in, is wrong.
    """
    url = config.database_url(*where, os.environ)
    log.redact(*passwords_of(url))
    log.configure(level="warning")
    return url


@asynccontextmanager
async def opened(
    url: str, *, read_only: bool = False, create: bool = False
) -> "AsyncIterator[Database]":
    """A database that is at this program's revision; `create`: made, if it is absent or empty.

    Raises:
        SchemaError: it is not.
        UnavailableError: it cannot be reached.
    """
    from collector.store import migrate
    from collector.store.engine import Database

    async with Database(url, read_only=read_only) as database:
        await (migrate.create_if_empty if create else migrate.require_head)(database)
        yield database


def reading(where: Where) -> "AbstractAsyncContextManager[Database]":
    """The database of a command that only reads: as `opened`, where `database_of` says."""
    return opened(database_of(where), read_only=True)
