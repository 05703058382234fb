"""Shows a collection while it runs, on a terminal or in the log, and then what became of it."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import click

from collector import log
from collector.lanes import Lane
from collector.models import LaneKey
from collector.run import Collected
from collector.session import Session
from collector.store.summary import Summary
from collector.text import counted, printable

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["show", "watch"]

LOG_EVERY_S: Final = 5.0
"""Seconds between two log lines."""

DRAW_EVERY_S: Final = 0.25
"""Seconds between two drawings."""


async def watch(session: Session, waiting: Mapping[LaneKey, int]) -> None:
    """Show progress on standard error until cancelled."""
    began = time.monotonic()
    if sys.stderr.isatty():
        await _draw(session, waiting, began)
    while True:
        await asyncio.sleep(LOG_EVERY_S)
        lanes = _lanes(session, waiting)
        done = sum(lane.counts.total() for lane in lanes)
        failed = sum(_failed(lane) for lane in lanes)
        rate = done / (time.monotonic() - began)
        left = sum(waiting.values()) - done
        log.get_logger().info(
            "progress",
            done=done,
            left=left,
            failed=failed,
            rate=round(rate, 1),
            eta_s=round(left / rate) if rate else None,
            requests=session.client.requests,
        )


async def _draw(session: Session, waiting: Mapping[LaneKey, int], began: float) -> None:
    from rich.console import Console  # noqa: PLC0415 - only where there is a terminal
    from rich.live import Live  # noqa: PLC0415

    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(_table(session, waiting, began, console.height), refresh=True)
            await asyncio.sleep(DRAW_EVERY_S)


def _table(session: Session, waiting: Mapping[LaneKey, int], began: float, height: int) -> "Table":
    from rich.progress_bar import ProgressBar  # noqa: PLC0415 - only where there is a terminal
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("lane", "", "done", "failed", "a second", "left"):
        table.add_column(name, justify="left" if name in ("lane", "") else "right")
    lanes = _lanes(session, waiting)
    elapsed = max(time.monotonic() - began, 0.001)
    room = max(height - 4, 1)
    for lane in lanes[:room]:
        done, planned, failed = lane.counts.total(), waiting[lane.key], _failed(lane)
        rate = done / elapsed
        left = _clock((planned - done) / rate) if rate else "-"
        table.add_row(
            str(lane.key),
            ProgressBar(total=planned, completed=done, width=30),
            f"{done:,} of {planned:,}",
            f"[red]{failed:,}[/red]" if failed else "0",
            f"{rate:.1f}",
            "given up" if lane.given_up else left,
        )
    if len(lanes) > room:
        table.add_row(f"and {len(lanes) - room} lanes more")
    return table


def _lanes(session: Session, waiting: Mapping[LaneKey, int]) -> list[Lane]:
    return [session.accounts[key.account].lane(key.region) for key, n in waiting.items() if n]


def _failed(lane: Lane) -> int:
    return sum(count for outcome, count in lane.counts.items() if not outcome.is_reading)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def show(collected: Collected, *, as_json: bool, quiet: bool) -> None:
    """Print the summary to standard output; quiet: one line on standard error if it is needed."""
    summary = collected.summary
    if as_json:
        document = {**summary.document(), "resumed": collected.resumed}
        click.echo(json.dumps(document))
    elif not quiet:
        _print(summary, collected.notes)
    if quiet and summary.run["status"] != "complete":
        click.echo(f"collector: {_one_line(collected)}", err=True)


def _one_line(collected: Collected) -> str:
    """The run in one line, with the worst failure and the first reason that it does not tell."""
    summary = collected.summary
    run = summary.run
    line = (
        f"run {run['id']} is {run['status']}: {summary.read:,} of {run['planned']:,} images read "
        f"({summary.coverage:.1%})"
    )
    if run["listings_failed"]:
        line += f", {counted(run['listings_failed'], 'listing')} failed"
    told = None
    if summary.failures:
        worst = max(summary.failures, key=itemgetter("items"))
        where = f"{worst['account']}/{worst['region']}"
        line += f"; most: {worst['items']:,} {worst['outcome']} in {where}"
        if told := worst["example_message"]:
            line += f" ({printable(told)})"
    news = (note for note in collected.notes if told is None or told not in note)
    return "; ".join([line, *map(printable, islice(news, 1))])


def _print(summary: Summary, notes: Sequence[str]) -> None:
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    run = summary.run
    console = Console(file=sys.stdout, highlight=False)
    seconds = (run["finished_at"] - run["started_at"]).total_seconds()
    rate = (
        f"{counted(run['requests'], 'request')}"
        f" ({run['retries']:,} repeated, {run['throttled']:,} throttled)"
    )
    console.print(f"Run {run['id']}: [bold]{run['status']}[/bold] in {seconds:.1f} s, {rate}")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("account", "region"):
        table.add_column(name)
    for name in ("planned", "present", "not found", "failed", "coverage"):
        table.add_column(name, justify="right")
    counts = ("planned", "present", "not_found", "failed")
    for lane in summary.lanes:
        figures = (f"{lane[name]:,}" for name in counts)
        table.add_row(lane["account"], lane["region"], *figures, f"{lane['coverage']:.1%}")
    if len(summary.lanes) > 1:
        figures = (f"{run[name]:,}" for name in counts)
        table.add_row("all", "", *figures, f"{summary.coverage:.1%}", style="bold")
    console.print(table)
    for failure in summary.failures:
        text = Text("  ")
        text.append(f"{failure['items']:,} {failure['outcome']}", style="red")
        where = f"{failure['account']}/{failure['region']}"
        text.append(f" in {where}, such as {failure['example_image_id']}")
        reason = " ".join(filter(None, (failure["error_code"], failure["example_message"])))
        text.append(f": {printable(reason)}" if reason else "")
        console.print(text, soft_wrap=True)
    if run["listings_failed"]:
        console.print(f"  [red]{counted(run['listings_failed'], 'listing')} failed[/red]")
    for note in notes:
        console.print(Text(f"  {printable(note)}", style="red"), soft_wrap=True)
    news = f"{counted(run['new_versions'], 'new version')}, {run['unchanged']:,} unchanged"
    sealed = f"digest {run['digest']}" if run["digest"] else "not sealed: it can be resumed"
    console.print(f"{news}; {sealed}", soft_wrap=True)
