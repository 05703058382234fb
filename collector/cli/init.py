"""`collector init`: writes the commented example configuration, and never over a file."""

from importlib.resources import files
from pathlib import Path
from typing import Final

import click

import collector
from collector.cli.output import create

__all__ = ["PACKAGED", "command", "example"]

PACKAGED: Final = "_config"
"""Where a wheel holds the example, inside of the package."""

_NAME: Final = "collector.example.toml"


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
    create(path, example())
    click.echo(f"wrote {path}; next: name your images in it, set JDCLOUD_ACCESS_KEY and")
    click.echo(f"JDCLOUD_SECRET_KEY, then `collector check --config {path}`")


def example() -> bytes:
    """The example configuration, from the installed package or else from the checkout."""
    packaged = files(collector).joinpath(PACKAGED, _NAME)
    if packaged.is_file():
        return packaged.read_bytes()
    return Path(collector.__file__).parents[1].joinpath("config", _NAME).read_bytes()
