"""The options that commands share, and the loading that goes with them."""

import os
from pathlib import Path
from typing import Final

import click

from collector import config, log

__all__ = ["config_option", "database_of", "database_option", "json_option", "settings_of"]

config_option: Final = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The configuration; by default $COLLECTOR_CONFIG, ./collector.toml or "
    "/etc/collector/collector.toml.",
)

database_option: Final = click.option(
    "--database",
    "database",
    metavar="URL",
    help="The database; with it, or COLLECTOR_DATABASE__URL, no configuration is needed.",
)

json_option: Final = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON to standard output."
)


def settings_of(config_path: Path | None, *, quiet: bool = False) -> config.Settings:
    """Load the configuration and set the log up by it; `quiet` logs errors alone.

    Raises:
        ConfigurationError: when the configuration is wrong.
    """
    settings = config.load(config_path, env=os.environ)
    for secret in settings.secrets:
        log.redact(secret)
    log.configure(settings.log.format, "error" if quiet else settings.log.level)
    for warning in settings.warnings:
        log.get_logger().warning("configuration_warning", message=warning)
    return settings


def database_of(config_path: Path | None, database: str | None) -> str:
    """The database's URL for a command that only reads, and a log of warnings.

    Raises:
        ConfigurationError: when the URL, or the configuration it stands in, is wrong.
    """
    url = config.database_url(config_path, database, os.environ)
    for secret in config.passwords_of(url):
        log.redact(secret)
    log.configure(level="warning")
    return url
