"""`collector discover`: lists image ids, made to be piped."""

import json
import os
import sys
from pathlib import Path
from typing import get_args

import click

from collector import log
from collector.cli import runtime
from collector.cli.options import config_option, json_option, settings_of
from collector.errors import Exit
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
    from collector.lanes import AbandonedError  # noqa: PLC0415 - after the quick refusals
    from collector.models import Outcome  # noqa: PLC0415
    from collector.session import load_credentials, open_session  # noqa: PLC0415
    from collector.sources import ListingError, list_ids  # noqa: PLC0415
    from collector.store import migrate  # noqa: PLC0415
    from collector.store.engine import Database  # noqa: PLC0415
    from collector.store.writes import Tally  # noqa: PLC0415

    keys = load_credentials(settings, os.environ)
    wanted = {name: keys[name] for name in sources.accounts}
    errors: list[ListingError] = []
    listed = 0
    async with Database(settings.database.url) as database:
        await migrate.create_if_empty(database)
        async with open_session(settings, database, wanted, stop=stop) as session:
            wait_s = await session.leases.take_all()
            accounts = {name: session.serve(name, wait_s) for name in wanted}
            for key, names in sorted(sources.discover.items()):
                account = accounts[key.account]
                for name in sorted(names):
                    try:
                        pages = list_ids(account, account.lane(key.region), name, Tally())
                        async for ids in pages:
                            listed += len(ids)
                            for image_id in ids:
                                line = {"account": key.account, "region": key.region}
                                line |= {"image_id": image_id, "source": name}
                                text = json.dumps(line) if as_json else f"{key.region}/{image_id}"
                                click.echo(text)
                    except AbandonedError:
                        continue
                    except ListingError as error:
                        errors.append(error)
                        fields = {"account": key.account, "region": key.region, "source": name}
                        log.get_logger().error("listing_failed", **fields, reason=str(error))
            refused = all(account.refused is not None for account in accounts.values())
    if stop.signal is not None:
        return 128 + stop.signal
    if errors and not listed and refused:
        return Exit.REFUSED
    silence = {Outcome.NETWORK_ERROR, Outcome.TIMEOUT}
    if errors and not listed and {error.outcome for error in errors} <= silence:
        return Exit.UNAVAILABLE
    return Exit.PARTIAL if errors else Exit.OK
