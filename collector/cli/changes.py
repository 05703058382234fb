"""`collector changes`: everything that changed in a period, field by field."""

from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import click

from collector.cli.options import Where, database_options, json_option, reading, when
from collector.cli.output import change_lines, moment
from collector.cli.runtime import until_stopped
from collector.errors import Exit, UsageError
from collector.text import harmless_json

__all__ = ["command"]


@click.command()
@database_options
@click.option(
    "--since",
    type=when,
    metavar="T",
    help="Beginning, included; by default 24 hours before --until.",
)
@click.option("--until", type=when, metavar="T", help="End, not included; by default now.")
@json_option
@until_stopped
async def command(
    where: Where, since: datetime | None, until: datetime | None, *, as_json: bool
) -> int:
    """List all changes of a period: fields, disks, members; images that appear and vanish.

    T is a date, a time (UTC unless it names a zone), or how long ago, such as 36h or 7d. --json
    writes one array.
    """
    until = until or datetime.now(UTC)
    since = since or until - timedelta(hours=24)
    if since >= until:
        raise UsageError(f"--since {moment(since)} is not before --until {moment(until)}")
    from msgspec.json import encode

    from collector.store.changes import changes
    from collector.store.reads import plain

    count = 0
    async with reading(where) as opened, aclosing(changes(opened, since, until)) as found:
        async for change in found:
            if as_json:
                document = harmless_json(encode(plain(change)))
                click.echo((b",\n" if count else b"[\n") + document, nl=False)
            else:
                click.echo("\n".join(change_lines(change)))
            count += 1
    if as_json:
        click.echo(b"\n]" if count else b"[]")
        return Exit.OK
    click.echo(f"changes from {moment(since)} until {moment(until)}: {count:,}")
    return Exit.OK
