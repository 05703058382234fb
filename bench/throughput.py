"""Images a second, everything on, against a bare aiohttp loop and the official SDK."""

from pathlib import Path
from typing import Any

from bench.harness import Row, collect, ids_file, peer, work

ROUNDS = 3
IMAGES = {"bare": 10_000, "sdk": 1_500, "single": 8_000, "batch": 30_000}
LAG_MS = 100.0

Runs = dict[str, list[dict[str, Any]]]


def run(folder: Path, kind: str) -> tuple[list[Row], dict[str, Any]]:
    """Measure in rounds, so that all meet the same noise; the best of each counts."""
    runs: Runs = {}
    with peer(kind) as url:
        for number in range(ROUNDS):
            for name in ("bare", "sdk"):
                ids = ids_file(folder, IMAGES[name])
                runs.setdefault(name, []).append(work(name, url, ids))
            for name in ("single", "batch"):
                ids, database = ids_file(folder, IMAGES[name]), folder / f"{kind}{name}{number}.db"
                runs.setdefault(name, []).append(collect(url, ids, database, name))
                again = collect(url, ids, database, name)
                assert (again["new_versions"], again["unchanged"]) == (0, IMAGES[name])
                runs.setdefault(f"{name}, again", []).append(again)
                database.unlink()
    return _rows(kind, runs), {name: _without_samples(found) for name, found in runs.items()}


def _rows(kind: str, runs: Runs) -> list[Row]:
    best = {name: min(found, key=lambda one: one["us"]) for name, found in runs.items()}
    rate = {name: 1e6 / found["us"] for name, found in best.items()}
    group = f"throughput, {kind} peer"
    rows = [
        Row(
            group,
            name,
            f"{rate[name]:,.0f}/s",
            f"{best[name]['cpu'] / best[name]['images'] * 1e6:.0f} µs CPU",
        )
        for name in rate
    ]
    rows += [
        Row.at_least(group, "single / bare", rate["single"] / rate["bare"], 0.5, "×"),
        Row.at_least(group, "single / SDK", rate["single"] / rate["sdk"], 3.5, "×"),
        Row.at_least(group, "batch / bare", rate["batch"] / rate["bare"], 1.5, "×"),
    ]
    for name in ("single", "batch"):
        faster = rate[f"{name}, again"] / rate[name]
        rows.append(Row.at_least(group, f"{name}, again / first", faster, 1.0, "×"))
        lag = min(
            max(a["lag_ms"], b["lag_ms"])
            for a, b in zip(runs[name], runs[f"{name}, again"], strict=True)
        )
        rows.append(Row.below(group, f"{name}: worst loop lag", lag, LAG_MS, " ms"))
    return rows


def _without_samples(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in one.items() if key != "samples"} for one in found]
