"""`collector queue`: fills the durable queue, shows it, and retries its dead letters."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from collector.cli import runtime
from collector.cli.options import config_option, json_option, opened, settings_of
from collector.cli.output import print_rows
from collector.cli.runtime import until_stopped
from collector.errors import Exit, UsageError
from collector.text import counted, printable

__all__ = ["command"]


@click.group()
def command() -> None:
    """Fill the durable queue, show it, retry what failed."""


@command.command()
@config_option
@click.option(
    "--account", metavar="A", help="The images' account; may be left out if there is only one."
)
@click.option(
    "--ids-file", metavar="FILE|-", help="Add these: one REGION/ID per line; - is standard input."
)
@click.argument("images", metavar="[REGION/ID]...", nargs=-1)
@json_option
def add(
    config_path: Path | None,
    account: str | None,
    ids_file: str | None,
    images: tuple[str, ...],
    *,
    as_json: bool,
) -> int:
    """Add images; one that waits already is not added twice."""
    settings = settings_of(config_path)
    if not images and ids_file is None:
        raise UsageError("give REGION/ID or --ids-file")
    from collector.queue import queue_of
    from collector.sources import Selection, Sources

    async def work(stop: runtime.Stop) -> int:
        added = given = 0
        async with opened(settings.database.url, create=True) as database:
            queue = queue_of(settings, database)
            try:
                for key, ids in sources.ids():
                    if stop.is_set():
                        break
                    added += await queue.add(key, ids)
                    given += len(ids)
            finally:
                await queue.close()
        told = f"{counted(added, 'id')} added to the queue"
        if given > added:
            told += f"; {given - added:,} waited already, or came twice"
        click.echo(json.dumps({"added": added}) if as_json else told)
        return stop.code

    accounts = () if account is None else (account,)
    selection = Selection(images, ids_file, accounts=accounts)
    # A listing without images, as `discover` pipes it, is no mistake.
    with Sources.of(settings, selection, sys.stdin.buffer, may_be_empty=True) as sources:
        return runtime.run(work)


@command.command()
@config_option
@json_option
@until_stopped
async def status(config_path: Path | None, *, as_json: bool) -> int:
    """Show what waits, is in flight or failed, and who holds each account."""
    settings = settings_of(config_path)
    from collector.queue import queue_of
    from collector.store.leases import holders

    async with opened(settings.database.url, read_only=True) as database:
        queue = queue_of(settings, database)
        try:
            lanes = await queue.depths()
        finally:
            await queue.close()
        held = await holders(database)
    if as_json:
        found = [{"account": one.account, "holder": one.holder} for one in held]
        click.echo(json.dumps({"lanes": [asdict(lane) for lane in lanes], "holders": found}))
        return Exit.OK
    if not lanes:
        click.echo("the queue is empty")
    else:
        names = ("ready", "delayed", "in flight", "failed", "oldest waiting", "oldest in flight")
        lines = []
        for lane in lanes:
            counts = (lane.ready, lane.delayed, lane.in_flight, lane.failed)
            ages = (None if s is None else f"{s:,.0f} s" for s in (lane.oldest_s, lane.flying_s))
            lines.append((lane.account, lane.region, *(f"{count:,}" for count in counts), *ages))
        print_rows(("account", "region", *names), lines)
    for one in held:
        click.echo(f"{one.account} is held by {printable(one.holder)}")
    return Exit.OK


@command.command()
@config_option
@json_option
@until_stopped
async def failed(config_path: Path | None, *, as_json: bool) -> int:
    """List the dead letters; with --json one JSON object per line."""
    settings = settings_of(config_path)
    from collector.queue.letters import dead_letters
    from collector.store.reads import plain

    async with opened(settings.database.url, read_only=True) as database:
        async for letter in dead_letters(database):
            told = plain(letter)
            click.echo(json.dumps(told) if as_json else _line(told))
    return Exit.OK


def _line(letter: Mapping[str, Any]) -> str:
    why = " ".join(str(letter[name]) for name in ("last_outcome", "last_error") if letter[name])
    what = f"{letter['account']} {letter['region']}/{letter['image_id']}"
    dead = f"{letter['deliveries']} deliveries, dead since {letter['dead_at']}"
    return printable(f"{what}: {why or 'no reason known'} ({dead})")


@command.command()
@config_option
@click.option("--account", metavar="A", help="Only this account's.")
@click.option("--all", "everything", is_flag=True, help="Retry every dead letter.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@json_option
@until_stopped
async def retry(
    config_path: Path | None,
    account: str | None,
    ids: tuple[str, ...],
    *,
    everything: bool,
    as_json: bool,
) -> int:
    """Put dead letters back into the queue. ID is an image id or REGION/ID."""
    settings = settings_of(config_path)
    if everything == bool(ids):
        raise UsageError("give either --all or the ids to retry")
    if account is not None and account not in [one.name for one in settings.accounts]:
        raise UsageError(f"--account: no account {account!r}")
    from collector.queue import letters

    async with opened(settings.database.url) as database:
        found = await letters.retry(database, ids or None, account)
    names = {*found, *(name.rpartition("/")[2] for name in found)} if ids else set()
    unknown = [one for one in ids if one not in names]
    told = f"{counted(len(found), 'dead letter')} retried"
    click.echo(json.dumps({"retried": len(found), "unknown": unknown}) if as_json else told)
    for one in unknown:
        click.echo(printable(f"collector: {one} is no dead letter to retry"), err=True)
    return Exit.FINDINGS if unknown else Exit.OK
