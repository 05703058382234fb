"""Shows a collection while it runs, on a terminal or in the log."""

import asyncio
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from collector import log
from collector.lanes import Lane
from collector.models import LaneKey
from collector.session import Session

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["watch"]

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
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(_table(session, waiting, began, console.height), refresh=True)
            await asyncio.sleep(DRAW_EVERY_S)


def _table(session: Session, waiting: Mapping[LaneKey, int], began: float, height: int) -> "Table":
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("lane", "", "done", "failed", "a second", "left"):
        table.add_column(name, justify="left" if name in ("lane", "") else "right")
    lanes = _lanes(session, waiting)
    elapsed = max(time.monotonic() - began, 0.001)
    room = max(height - 4, 1)
    for lane in lanes[:room]:
        done, planned, failed = lane.counts.total(), waiting[lane.key], _failed(lane)
        rate = done / elapsed
        left = str(timedelta(seconds=round((planned - done) / rate))) if rate else "-"
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
