"""`collector discover`: lists image ids, made to be piped."""

import json
import sys
from pathlib import Path
from typing import get_args

import click

from collector.cli import runtime
from collector.cli.options import config_option, json_option, opened, settings_of
from collector.models import LaneKey, Source

__all__ = ["command"]


@click.command()
@config_option
@click.option(
    "--region", "regions", metavar="R", multiple=True, help="Only this region; repeatable."
)
@click.option(
    "--account", "accounts", metavar="A", multiple=True, help="Only this account; repeatable."
)
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
    """List image ids, one REGION/ID per line; with --json one JSON object per line.

    Made to be piped: collector discover --source private | collector queue add --ids-file -
    """
    settings = settings_of(config_path)
    from collector.cli.dry_run import list_all
    from collector.sources import Selection, Sources

    def show(key: LaneKey, source: Source, ids: list[str]) -> None:
        where = {"account": key.account, "region": key.region}
        for image_id in ids:
            line = where | {"image_id": image_id, "source": source}
            click.echo(json.dumps(line) if as_json else f"{key.region}/{image_id}")

    async def work(stop: runtime.Stop) -> int:
        async with opened(settings.database.url, create=True) as database:
            _, code = await list_all(settings, database, found, stop, show)
        return code

    selection = Selection(discover=sources, regions=regions, accounts=accounts)
    with Sources.of(settings, selection, sys.stdin.buffer) as found:
        return runtime.run(work)
