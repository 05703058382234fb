"""What the benchmarks share: peers, workers, files of ids, and the rows of the table."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from bench.peer import IMAGES, simulated_ids

RELEASED_S = 1.1
"""A successor waits a second after a lease was given back; here it is waited for outside."""


class Row(NamedTuple):
    """One line of the table: what was measured, and against what."""

    group: str
    name: str
    value: str
    target: str = ""
    met: bool | None = None

    @classmethod
    def at_least(cls, group: str, name: str, value: float, target: float, unit: str = "") -> "Row":
        return cls(group, name, f"{value:.2f}{unit}", f"≥ {target:g}{unit}", value >= target)

    @classmethod
    def below(cls, group: str, name: str, value: float, target: float, unit: str = "") -> "Row":
        return cls(group, name, f"{value:.0f}{unit}", f"< {target:g}{unit}", value < target)


@contextmanager
def peer(kind: str = "lean") -> Iterator[str]:
    """The URL of an endpoint in a process of its own: `lean`, or `simulator`."""
    code = "from bench.peer import run_simulator as run" if kind == "simulator" else ""
    words = [sys.executable, "-c", f"{code or 'from bench.peer import run'}; run()"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def ids_file(folder: Path, count: int) -> Path:
    """A file of so many ids."""
    path = folder / f"{count}.txt"
    if not path.exists():
        with path.open("w") as file:
            ids = simulated_ids() if count <= IMAGES else map("img-{:010}".format, range(count))
            file.writelines(f"{image_id}\n" for image_id in islice(ids, count))
    return path


def work(kind: str, url: str, ids: Path, **options: Any) -> dict[str, Any]:
    """Do a piece of work in a process of its own; what it measured."""
    words = [sys.executable, "-m", "bench.worker", kind, "--url", url, "--ids", str(ids)]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["us"] = found["seconds"] / found["images"] * 1e6
    return found


def collect(url: str, ids: Path, database: Path, fetch: str) -> dict[str, Any]:
    """One collection into a database, which is made when it is absent."""
    if database.exists():
        time.sleep(RELEASED_S)
    return work("collect", url, ids, database=database, fetch=fetch)
