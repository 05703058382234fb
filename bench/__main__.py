"""Runs the benchmarks and prints one table: python -m bench [--full] [--only NAME]..."""

import argparse
import json
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import growth, limits, plots, startup, throughput
from bench.harness import Row

OUTPUT = Path("build/bench.json")
PACKAGES = ("aiohttp", "msgspec", "sqlalchemy", "aiosqlite", "jdcloud-sdk", "uvloop")


def machine() -> dict[str, Any]:
    """Where this was measured, and with what."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        "cpu": f"{len(models)} × {models[0] if models else platform.processor()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "commit": commit.stdout.strip(),
        "load": Path("/proc/loadavg").read_text().split()[0],
        **{name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def show(rows: list[Row], began: dict[str, Any]) -> None:
    """The table."""
    print("  ".join(f"{name} {value}" for name, value in began.items()))
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            print(f"\n{group}")
        mark = {None: "", True: "ok", False: "MISSED"}[row.met]
        print(f"  {row.name:32}{row.value:>16}   {row.target:>14}  {mark}".rstrip())


def main() -> int:
    """Measure; 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="a million images, too (4 minutes more)"
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="some of them")
    options = parser.parse_args()
    began, rows, data = time.monotonic(), list[Row](), dict[str, Any](machine=machine())
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        parts: dict[str, Callable[[], tuple[list[Row], dict[str, Any]]]] = {
            "throughput": lambda: throughput.run(folder, "simulator", 3),
            "throughput-lean": lambda: throughput.run(folder, "lean", 2),
            "growth": lambda: growth.run(folder, full=options.full),
            "startup": lambda: startup.run(folder),
            "limits": limits.run,
        }
        for part, measure in parts.items():
            if not options.only or part in options.only:
                print(f"{part} …", file=sys.stderr)
                found, data[part] = measure()
                rows += found
    data["seconds"] = round(time.monotonic() - began)
    data["rows"] = [row._asdict() for row in rows]
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(data, ensure_ascii=False, indent=1))
    plots.draw(data, OUTPUT.parent)
    show(rows, data["machine"])
    print(f"\n{data['seconds']} s; {OUTPUT} has every figure")
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
