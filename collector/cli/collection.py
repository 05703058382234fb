"""Carries out one collection, and tells what became of it."""

import json
import os
from collections.abc import Sequence
from itertools import islice
from operator import itemgetter

import click

from collector import log
from collector.cli.options import opened
from collector.cli.output import FIGURES, figures, print_rows
from collector.cli.progress import watch
from collector.cli.runtime import Stop
from collector.metrics import Metrics
from collector.queue.letters import depths
from collector.run import Collected, Order, collect
from collector.session import load_credentials
from collector.settings import Settings
from collector.store.engine import Database
from collector.store.summary import Summary
from collector.text import counted, os_reason, printable

__all__ = ["carry_out", "show"]


async def carry_out(
    settings: Settings, order: Order, stop: Stop, *, quiet: bool = False
) -> Collected:
    """Collect into the configured database, show the progress, and write the metrics."""
    keys = load_credentials(settings, os.environ)
    async with opened(settings.database.url, create=True) as database:
        see = None if quiet else watch
        metrics = Metrics() if settings.metrics.textfile else None
        collected = await collect(
            settings, database, keys, order, stop=stop, watch=see, metrics=metrics
        )
        if metrics is not None:
            await _write_metrics(settings, database, metrics, quiet=quiet)
    return collected


async def _write_metrics(
    settings: Settings, database: Database, metrics: Metrics, *, quiet: bool
) -> None:
    async with database.within():
        await metrics.refresh(database, await depths(database))
    path = settings.base / settings.metrics.textfile
    try:
        metrics.write(path)
    except OSError as error:  # the inventory is none the worse for it
        log.get_logger().error("metrics_not_written", path=str(path), reason=str(error))
        if quiet:  # which logs nothing; and not all is well
            line = f"metrics.textfile: {path} is not written: {os_reason(error)}"
            click.echo(f"collector: {printable(line)}", err=True)


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
    line = f"run {run['id']} is {run['status']}: {summary.read:,} of {run['planned']:,} images read"
    if run["planned"]:
        line += f" ({summary.coverage:.1%})"
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
    from rich.text import Text

    run = summary.run
    seconds = (run["finished_at"] - run["started_at"]).total_seconds()
    click.echo(
        f"Run {run['id']}: {click.style(run['status'], bold=True)} in {seconds:.1f} s, "
        f"{counted(run['requests'], 'request')} "
        f"({run['retries']:,} repeated, {run['throttled']:,} throttled)"
    )
    lanes: list[list[object]] = [
        [lane["account"], lane["region"], *figures(lane)] for lane in summary.lanes
    ]
    if len(lanes) > 1:
        total = figures({**run, "coverage": summary.coverage})
        lanes.append([Text(cell, "bold") for cell in ("all", "", *total)])
    print_rows(("account", "region", *FIGURES), lanes)
    for failure in summary.failures:
        failed = click.style(f"{failure['items']:,} {failure['outcome']}", fg="red")
        where = f"{failure['account']}/{failure['region']}, such as {failure['example_image_id']}"
        reason = " ".join(filter(None, (failure["error_code"], failure["example_message"])))
        click.echo(f"  {failed} in {where}" + (f": {printable(reason)}" if reason else ""))
    if run["listings_failed"]:
        click.secho(f"  {counted(run['listings_failed'], 'listing')} failed", fg="red")
    for note in notes:
        click.secho(f"  {printable(note)}", fg="red")
    news = f"{counted(run['new_versions'], 'new version')}, {run['unchanged']:,} unchanged"
    sealed = f"digest {run['digest']}" if run["digest"] else "not sealed: it can be resumed"
    click.echo(f"{news}; {sealed}")
