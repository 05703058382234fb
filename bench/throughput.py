"""Images a second, everything on, against a bare aiohttp loop and the official SDK."""

from pathlib import Path
from typing import Any

from bench.harness import Row, collect, ids_file, peer, work

IMAGES = {"bare": 10_000, "sdk": 1_500, "single": 10_000, "batch": 20_000}
LAG_MS = 100.0

Runs = dict[str, list[dict[str, Any]]]


def run(folder: Path, kind: str, rounds: int) -> tuple[list[Row], dict[str, Any]]:
    """Measure in rounds, so that all meet the same noise; the best of each counts."""
    runs: Runs = {}
    with peer(kind) as url:
        for number in range(rounds):
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
    ratios = {
        "single / bare": (rate["single"] / rate["bare"], 0.5),
        "single / SDK": (rate["single"] / rate["sdk"], 3.5),
        "batch / bare": (rate["batch"] / rate["bare"], 1.5),
    }
    if kind == "lean":  # the targets are set against a server in Python
        return rows + [Row(group, name, f"{ratio:.2f}×") for name, (ratio, _) in ratios.items()]
    rows += [Row.at_least(group, name, *ratio, "×") for name, ratio in ratios.items()]
    for name in ("single", "batch"):
        faster = rate[f"{name}, again"] / rate[name]
        rows.append(Row.at_least(group, f"{name}, again / first", faster, 1.0, "×"))
        both = zip(runs[name], runs[f"{name}, again"], strict=True)
        own, lag = min(max((one["own_lag_ms"], one["lag_ms"]) for one in two) for two in both)
        rows.append(Row.below(group, f"{name}: worst loop lag", own, LAG_MS, " ms"))
        rows.append(Row(group, "with what others took", f"{lag:.0f} ms"))
    return rows


def _without_samples(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in one.items() if key != "samples"} for one in found]
