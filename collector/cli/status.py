"""`collector status`: whether the inventory is fresh and whole, for a check outside cron."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from collector.cli.options import Where, age, database_options, json_option, reading
from collector.cli.output import FIGURES, figures, moment, print_rows
from collector.cli.runtime import until_stopped
from collector.errors import Exit
from collector.text import harmless_json, printable

if TYPE_CHECKING:
    from collector.store.freshness import Status

__all__ = ["command"]


@click.command()
@database_options
@click.option(
    "--max-age",
    type=age,
    default="26h",
    show_default=True,
    help="How old each account's last complete run may be.",
)
@json_option
@until_stopped
async def command(where: Where, max_age: timedelta, *, as_json: bool) -> int:
    """Tell whether the inventory is fresh and whole.

    Only runs of the whole configuration count, not narrowed ones. The exit code is 3 if the last
    complete run of any account is older than --max-age, or there is none.
    """
    async with reading(where) as opened:
        import msgspec

        from collector.store.freshness import read_status

        status = await read_status(opened, datetime.now(UTC), max_age)
    if as_json:
        click.echo(harmless_json(msgspec.json.encode(status.document())))
    else:
        _print(status)
    return Exit.PARTIAL if status.stale else Exit.OK


def _print(status: "Status") -> None:
    word = click.style("STALE", fg="red") if status.stale else click.style("fresh", fg="green")
    click.echo(f"{word} at {moment(status.at)}, --max-age {_age(status.max_age_s)}")
    if (last := status.last_run) is not None:
        others = f"; narrowed and queue runs since do not count: {status.uncounted:,}"
        click.echo(
            f"last finished run: {last['id']} ({last['trigger']}), {last['status']}, "
            f"{moment(last['finished_at'])}, {last['planned']:,} planned, {last['failed']:,} failed"
            + (others if status.uncounted else "")
        )
    elif not status.accounts:
        click.echo("there is no run of the whole configuration")
    if accounts := list(_accounts(status)):
        print_rows(("account", "last complete run", "age", "", "held by"), accounts)
    if status.lanes:
        print_rows(
            ("account", "region", "run", *FIGURES[:-1], "read"),
            [(ln["account"], ln["region"], ln["run_id"], *figures(ln)) for ln in status.lanes],
        )
    if (oldest := status.oldest_reading) is not None:
        click.echo(f"oldest reading: {moment(oldest['last_checked_at'])}, {_where(oldest)}")
    unread, queue = status.unread, status.queue
    kinds = ", ".join(f"{count:,} {outcome}" for outcome, count in unread["by_outcome"].items())
    click.echo(f"unread images: {kinds or 'none'}")
    for image in unread["examples"]:
        click.echo(f"  {_where(image)}: {image['outcome']} since {moment(image['since'])}")
    click.echo(f"queue: {queue['queued']:,} waiting or in flight, {queue['dead']:,} dead letters")


def _accounts(status: "Status") -> Iterator[tuple[object, ...]]:
    from rich.text import Text

    held = {holder.account: holder.holder for holder in status.holders}
    for account in status.accounts:
        run = account.complete
        when = f"{run['id']}, {moment(run['finished_at'])}" if run else "never"
        age = _age((status.at - run["finished_at"]).total_seconds()) if run else ""
        word = Text("stale", "red") if account.stale else Text("fresh", "green")
        yield account.account, when, age, word, held.pop(account.account, "")
    for name in sorted(held):
        yield name, "", "", "", held[name]


def _where(image: Mapping[str, Any]) -> str:
    return printable(f"{image['account']} {image['region']}/{image['image_id']}")


def _age(seconds: float) -> str:
    """Seconds below two minutes, minutes below two hours, hours below three days; then days."""
    if seconds < 120:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    if (minutes := seconds / 60) < 120:  # noqa: PLR2004
        return f"{minutes:.1f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} d"  # noqa: PLR2004
