"""`collector export`: a table or view as CSV, JSON lines or Parquet."""

import sys
from pathlib import Path

import click

from collector.cli.options import Where, database_options, reading
from collector.cli.output import output
from collector.cli.runtime import until_stopped
from collector.errors import Exit, UsageError

__all__ = ["command"]


@click.command()
@database_options
@click.argument("name", metavar="TABLE_OR_VIEW")
@click.option(
    "--format",
    "kind",
    required=True,
    type=click.Choice(("csv", "jsonl", "parquet")),
    help="csv guards spreadsheets against formulas; jsonl and parquet are exact.",
)
@click.option(
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write here, whole or not at all; by default to standard output.",
)
@until_stopped
async def command(where: Where, name: str, kind: str, path: Path | None) -> int:
    """Export a table or view, ordered by its keys; times are UTC."""
    from collector.export import export, named

    named(name)
    if kind == "parquet" and path is None and sys.stdout.isatty():
        raise UsageError("Parquet is binary: give --output, or a pipe")
    async with reading(where) as opened:
        with output(path) as stream:
            await export(opened, name, kind, stream)
    return Exit.OK
