"""`collector init`: writes the commented example configuration, and never over a file."""

import os
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

import click

import collector
from collector.errors import UsageError
from collector.text import os_reason

__all__ = ["PACKAGED", "command", "example"]

PACKAGED: Final = "_config"
"""Where a wheel holds the example, inside of the package."""

_NAME: Final = "collector.example.toml"
_MODE: Final = 0o600
"""The file may come to hold a database's password."""


@click.command("init")
@click.option(
    "--path",
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("collector.toml"),
    show_default=True,
    metavar="FILE",
    help="Where to write it.",
)
def command(path: Path) -> None:
    """Write a commented configuration; never overwrites."""
    content = example()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        raise UsageError(f"{path} exists already; nothing was written") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be written: {os_reason(error)}") from None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise
    click.echo(f"wrote {path}; next: name your images in it, set JDCLOUD_ACCESS_KEY and")
    click.echo(f"JDCLOUD_SECRET_KEY, then `collector check --config {path}`")


def example() -> bytes:
    """The example configuration, from the installed package or else from the checkout."""
    packaged = files(collector).joinpath(PACKAGED, _NAME)
    if packaged.is_file():
        return packaged.read_bytes()
    return Path(collector.__file__).parents[1].joinpath("config", _NAME).read_bytes()
