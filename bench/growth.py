"""Memory and time an image against the number of images, and of rows of earlier history."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from bench import asof
from bench.harness import Row, collect, ids_file, peer
from collector.store import migrate
from collector.store.engine import Database

PEAK_MIB = 200.0
SIZES = (1_000, 10_000, 100_000)
HISTORY = (100, 10_000, 100_000)
MILLION = 1_000_000
AFTER = 10_000
"""Images that are collected beside the history of others."""


def run(folder: Path, *, full: bool) -> tuple[list[Row], dict[str, Any]]:
    """Collect more and more images, then the same images beside more and more history."""
    with peer() as url:
        sizes = {n: _images(folder, url, n) for n in (*SIZES, *((MILLION,) if full else ()))}
        history = {n: _history(folder, url, n) for n in (*HISTORY, *((MILLION,) if full else ()))}
    rows = [
        Row.below("memory", f"peak of {n:,} images", found["peak_mib"], PEAK_MIB, " MiB")
        for n, found in sizes.items()
    ]
    rows += [
        Row("growth", f"{n:,} images", f"{found['us']:.0f} µs an image")
        for n, found in sizes.items()
    ]
    rows += [
        Row("growth", f"beside {n:,} versions", f"{found['us']:.0f} µs an image")
        for n, found in history.items()
    ]
    if full:
        ratio = sizes[MILLION]["peak_mib"] / sizes[100_000]["peak_mib"]
        rows.append(
            Row(
                "memory", "1,000,000 / 100,000", f"{ratio:.2f}×", "0.8 to 1.2×", 0.8 <= ratio <= 1.2
            )
        )
    return rows, {"images": sizes, "history": history}


def _images(folder: Path, url: str, count: int) -> dict[str, Any]:
    database = folder / f"{count}.db"
    found = collect(url, ids_file(folder, count), database, "batch")
    database.unlink()
    return found


def _history(folder: Path, url: str, versions: int) -> dict[str, Any]:
    path = folder / f"history{versions}.db"
    asyncio.run(_fill(path, max(1, versions // asof.VERSIONS)))
    found = collect(url, ids_file(folder, AFTER), path, "batch")
    path.unlink()
    del found["samples"]
    return found


async def _fill(path: Path, images: int) -> None:
    async with Database(f"sqlite:///{path}") as database:
        await migrate.create_if_empty(database)
        await asof.fill(database, images)
    with sqlite3.connect(path) as connection:  # a run of others, which is not ours to seal
        connection.execute("UPDATE runs SET digest = 'sealed', finished_at = started_at")
