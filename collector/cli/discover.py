"""`collector discover`: lists image ids, made to be piped; and what lists and stores nothing."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click

from collector.cli import runtime
from collector.cli.options import config_option, json_option, opened, settings_of
from collector.errors import Exit
from collector.lanes import unheard
from collector.models import LaneKey, Outcome, Source
from collector.session import load_credentials, open_session
from collector.settings import Settings
from collector.sources import ListingError, Selection, Sources, list_ids
from collector.store.engine import Database
from collector.store.writes import Tally

__all__ = ["command", "list_all"]


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
    selection = Selection(discover=sources, regions=regions, accounts=accounts)
    with Sources.of(settings, selection, sys.stdin.buffer) as found:
        return runtime.run(lambda stop: _discover(settings, found, stop, as_json=as_json))


async def _discover(
    settings: Settings, sources: Sources, stop: runtime.Stop, *, as_json: bool
) -> int:
    def show(key: LaneKey, source: Source, ids: list[str]) -> None:
        where = {"account": key.account, "region": key.region}
        for image_id in ids:
            line = where | {"image_id": image_id, "source": source}
            click.echo(json.dumps(line) if as_json else f"{key.region}/{image_id}")

    async with opened(settings.database.url, create=True) as database:
        _, code = await list_all(settings, database, sources, stop, show)
    return code


async def list_all(
    settings: Settings,
    database: Database,
    sources: Sources,
    stop: runtime.Stop,
    each: Callable[[LaneKey, Source, list[str]], None],
) -> tuple[list[str], int]:
    """List what is to be discovered, one lane after another, under the leases of the accounts.

    `each` is told of the ids of a page.

    Returns:
        Each listing that could not be read whole, with the reason; and the exit code.

    Raises:
        HeldError: another process holds one of the accounts.
    """
    keys = load_credentials(settings, os.environ)
    wanted = {key.account: keys[key.account] for key in sources.discover}
    failed: list[str] = []
    outcomes: list[tuple[str, Outcome]] = []
    found = 0
    async with open_session(settings, database, wanted, stop=stop) as session:
        await session.serve_all()
        for key, names in sorted(sources.discover.items()):
            account = session.accounts[key.account]
            lane = account.lane(key.region)
            async for source, listed in list_ids(account, lane, sorted(names), Tally()):
                if isinstance(listed, ListingError):
                    failed.append(f"{key} {source}: {listed}")
                    outcomes.append((key.account, listed.outcome))
                else:
                    found += len(listed)
                    each(key, source, listed)
        refused, silent = unheard(session.accounts.values(), outcomes)
    if stop.signal is not None:
        return failed, 128 + stop.signal
    if not found and refused:
        return failed, Exit.REFUSED
    if not found and silent:
        return failed, Exit.UNAVAILABLE
    return failed, Exit.PARTIAL if failed else Exit.OK
