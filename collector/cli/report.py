"""`collector report`: one HTML page that can be handed round."""

from datetime import UTC, datetime
from pathlib import Path

import click

from collector.cli.audit import rule_parameters
from collector.cli.options import Where, database_options, reading
from collector.cli.output import output
from collector.cli.runtime import until_stopped
from collector.errors import Exit

__all__ = ["command"]


@click.command()
@database_options
@click.option(
    "--output",
    "path",
    metavar="FILE.html",
    required=True,
    type=click.Path(path_type=Path),
    help="Write here, whole or not at all, for its owner alone.",
)
@until_stopped
async def command(where: Where, path: Path) -> int:
    """Write one self-contained HTML page: coverage, changes, findings, inventory.

    It loads nothing from anywhere and needs no JavaScript. Long lists are cut; the page says how
    many rows there are, and which SQL shows them all.
    """
    values = rule_parameters(where)
    async with reading(where) as opened:
        from collector.report import gather, render

        page = render(await gather(opened, values, datetime.now(UTC)))
    with output(path) as stream:
        stream.write(page.encode())
    return Exit.OK
