"""`collector discover`: lists image ids, made to be piped."""

import json
import sys
from pathlib import Path
from typing import get_args

import click

from collector.cli import runtime
from collector.cli.options import config_option, json_option, opened, settings_of
from collector.models import LaneKey
from collector.settings import Settings, Source
from collector.sources import Selection, Sources

__all__ = ["command"]


@click.command()
@config_option
@click.option("--region", "regions", metavar="R", multiple=True, help="Only this region.")
@click.option("--account", "accounts", metavar="A", multiple=True, help="Only this account.")
@click.option(
    "--source",
    "sources",
    metavar="S",
    multiple=True,
    default=("private",),
    show_default=True,
    type=click.Choice(get_args(Source)),
    help="What to list: " + ", ".join(get_args(Source)) + ".",
)
@json_option
def command(
    config_path: Path | None,
    regions: tuple[str, ...],
    accounts: tuple[str, ...],
    sources: tuple[Source, ...],
    *,
    as_json: bool,
) -> int:
    """List image ids, REGION/ID a line; with --json a JSON object a line.

    Made to be piped: collector discover --source private | collector queue add --ids-file -
    """
    settings = settings_of(config_path)
    selection = Selection(discover=sources, regions=regions, accounts=accounts)
    with Sources.of(settings, selection, sys.stdin.buffer) as found:
        return runtime.run(lambda stop: _discover(settings, found, stop, as_json=as_json))


async def _discover(
    settings: Settings, sources: Sources, stop: runtime.Stop, *, as_json: bool
) -> int:
    from collector.cli.listing import list_all  # noqa: PLC0415 - after the quick refusals

    def show(key: LaneKey, source: Source, ids: list[str]) -> None:
        where = {"account": key.account, "region": key.region}
        for image_id in ids:
            line = where | {"image_id": image_id, "source": source}
            click.echo(json.dumps(line) if as_json else f"{key.region}/{image_id}")

    async with opened(settings.database.url, create=True) as database:
        _, code = await list_all(settings, database, sources, stop, show)
    return code
