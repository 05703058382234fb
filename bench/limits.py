"""How much of the allowed rate is used, and whether any second ever holds more."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from bench import rates
from bench.harness import Row
from tests.unit.test_gate import SlidingLimiter, meet

LIMITS = (5, 50, 500)
TRUE_LIMIT = 20
RAISED_AT_S = 60.0
LATENCY_S = 0.05


def run() -> tuple[list[Row], dict[str, Any]]:
    """Given rates in real time; a limit that nobody told in virtual time (see tests/support)."""
    found: dict[str, Any] = {limit: _fixed(limit) for limit in LIMITS}
    rows = []
    for limit, (achieved, worst) in found.items():
        rows.append(Row.at_least("rate", f"share used of {limit}/s", achieved / limit, 0.95))
        text, most = f"{worst} requests", f"≤ {limit}"
        rows.append(Row("rate", f"worst second at {limit}/s", text, most, worst <= limit))
    answers = meet(SlidingLimiter(TRUE_LIMIT), 90.0, latency_s=LATENCY_S, triple_at=RAISED_AT_S)
    before = [allowed for at, allowed in answers if at < RAISED_AT_S]
    later = [allowed for at, allowed in answers if 10 < at < RAISED_AT_S]
    used = sum(before) / (TRUE_LIMIT * RAISED_AT_S)
    refused = 100 * later.count(False) / len(later)
    soon = [at for at, allowed in answers if allowed and RAISED_AT_S < at <= RAISED_AT_S + 15]
    most = rates.worst(soon)
    group = f"adaptive, {TRUE_LIMIT}/s unknown, allowed 200"
    rows += [
        Row.at_least(group, "share used in 60 s", used, 0.9),
        Row(group, "refused after 10 s", f"{refused:.2f} %", "< 1 %", refused < 1),
        Row.at_least(group, "of a tripled limit in 15 s", most / (3 * TRUE_LIMIT), 0.66),
    ]
    seconds = [0] * 90
    for at, allowed in answers:
        seconds[min(int(at), 89)] += allowed
    return rows, {"fixed": found, "accepted": seconds, "raised_at_s": RAISED_AT_S}


def _fixed(limit: int) -> tuple[float, int]:
    """Requests a second in the middle of a run, and the most in any second of it."""
    images, seconds = limit * rates.SECONDS, rates.SECONDS
    regions = rates.PUBLISHED_REGIONS[:1]
    with rates.simulator(images * 4, 0.02) as url, tempfile.TemporaryDirectory() as name:
        given = {"rate_limit": limit, "account_rate_limit": 0, "adaptive": False}
        clocks = rates.Clocks()
        path = rates.configuration(Path(name), url, concurrency=64, **given)
        row = asyncio.run(rates.run(path, rates.ids_of(images * 4, regions), clocks))
    assert row["status"] == "complete"
    first = clocks.departures[0]
    whole = [at for at in clocks.departures if first + 1 <= at < first + seconds - 1]
    return len(whole) / (seconds - 2), rates.worst(clocks.departures)
