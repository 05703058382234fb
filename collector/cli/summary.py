"""Prints what became of a run: by lane, with what failed and why."""

import json
import sys
from collections.abc import Sequence
from itertools import islice

import click

from collector.run import Collected
from collector.store.summary import Summary
from collector.text import counted, printable

__all__ = ["one_line", "show"]


def show(collected: Collected, *, as_json: bool, quiet: bool) -> None:
    """Print the summary to standard output; quiet: one line on standard error if it is needed."""
    summary = collected.summary
    if as_json:
        document = {**summary.document(), "resumed": collected.resumed}
        click.echo(json.dumps(document))
    elif not quiet:
        _table(summary, collected.notes)
    if quiet and summary.run["status"] != "complete":
        click.echo(f"collector: {one_line(collected)}", err=True)


def one_line(collected: Collected) -> str:
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
        worst = max(summary.failures, key=lambda failure: failure.items)
        line += f"; most: {worst.items:,} {worst.outcome} in {worst.account}/{worst.region}"
        if told := worst.example_message:
            line += f" ({printable(told)})"
    news = (note for note in collected.notes if told is None or told not in note)
    return "; ".join([line, *map(printable, islice(news, 1))])


def _table(summary: Summary, notes: Sequence[str]) -> None:
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
        text.append(f"{failure.items:,} {failure.outcome}", style="red")
        text.append(f" in {failure.account}/{failure.region}, such as {failure.example_image_id}")
        reason = " ".join(filter(None, (failure.error_code, failure.example_message)))
        text.append(f": {printable(reason)}" if reason else "")
        console.print(text, soft_wrap=True)
    if run["listings_failed"]:
        console.print(f"  [red]{counted(run['listings_failed'], 'listing')} failed[/red]")
    for note in notes:
        console.print(Text(f"  {printable(note)}", style="red"), soft_wrap=True)
    news = f"{counted(run['new_versions'], 'new version')}, {run['unchanged']:,} unchanged"
    sealed = f"digest {run['digest']}" if run["digest"] else "not sealed: it can be resumed"
    console.print(f"{news}; {sealed}", soft_wrap=True)
