"""How long the command takes before it does anything."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.harness import RELEASED_S, Row, ids_file, peer
from bench.worker import configuration

HELP_MS = 250.0
RUN_MS = 1_500.0
REPEAT = 5
KEYS = {"JDCLOUD_ACCESS_KEY": "bench", "JDCLOUD_SECRET_KEY": "bench"}


def run(folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """The best of some; `run` makes a new database the first time."""
    with peer() as url:
        path = configuration(folder / "startup.db", url, ids_file(folder, 10), "single", 16)
        words = ["run", "--quiet", "--config", str(path)]
        first = _ms(*words)
        again = []
        for _ in range(REPEAT):
            time.sleep(RELEASED_S)  # the lease's own gap
            again.append(_ms(*words))
    found = {"help": min(_ms("--help") for _ in range(REPEAT)), "first": first, "run": min(again)}
    rows = [
        Row.below("start-up", "collector --help", found["help"], HELP_MS, " ms"),
        Row.below("start-up", "run of 10 images", found["run"], RUN_MS, " ms"),
        Row("start-up", "the same, making the database", f"{first:.0f} ms"),
    ]
    return rows, found


def _ms(*words: str) -> float:
    command = [str(Path(sys.executable).with_name("collector")), *words]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | KEYS)
    return (time.perf_counter() - began) * 1000
