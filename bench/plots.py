"""Draws what was measured as SVG: python -m bench.plots build/bench.json docs/images"""

import json
import sys
from collections.abc import Sequence
from math import floor, log10
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 260, 60, 44, 34
Points = Sequence[tuple[float, float]]


def _scale(low: float, high: float, size: float, *, log: bool) -> Any:
    if log:
        low, high = log10(low), log10(high)
    return lambda value: ((log10(value) if log else value) - low) / (high - low) * size


def plot(title: str, x_name: str, series: dict[str, Points], *, log: bool, top: float) -> str:
    """One picture: lines over a common x axis, from 0 to `top`."""
    points = [point for line in series.values() for point in line]
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    across = _scale(low, high, WIDTH - LEFT - 20, log=log)
    up = _scale(0, top, HEIGHT - BOTTOM - TOP, log=False)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{title}</title>",
        "<style>text { font: 12px sans-serif } .title { font: bold 14px sans-serif }</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18" class="title">{title}</text>',
        f'<text x="{WIDTH - 20}" y="{HEIGHT - 8}" text-anchor="end">{x_name}</text>',
    ]
    step = 10 ** floor(log10(top)) / (1 if top / 10 ** floor(log10(top)) > 4 else 2)
    value = 0.0
    while value <= top:
        y = HEIGHT - BOTTOM - up(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        value += step
    ticks = (
        sorted({x for x, _ in points}) if log else [low + n * (high - low) / 6 for n in range(7)]
    )
    for x in ticks:
        place = LEFT + across(x)
        parts.append(
            f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:,.0f}</text>'
        )
    for number, (name, line) in enumerate(series.items()):
        colour = ("#1565c0", "#c62828", "#2e7d32")[number]
        path = "L".join(f"{LEFT + across(x):.1f} {HEIGHT - BOTTOM - up(y):.1f}" for x, y in line)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x = LEFT + 300 + 160 * number
        parts.append(f'<text x="{x}" y="18" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def draw(data: dict[str, Any], folder: Path) -> None:
    """A picture for everything that is there."""
    data = json.loads(json.dumps(data))
    folder.mkdir(exist_ok=True, parents=True)
    if "limits" in data:
        accepted = data["limits"]["accepted"]
        raised = data["limits"]["raised_at_s"]
        limit = [(0, 20), (raised, 20), (raised, 60), (len(accepted), 60)]
        lines = {"accepted a second": list(enumerate(accepted)), "the endpoint's limit": limit}
        text = plot("The rate finds a limit", "seconds", lines, log=False, top=80)
        (folder / "rate.svg").write_text(text)
    if "growth" in data:
        for what, name in (("images", "images"), ("history", "versions already there")):
            found = {int(n): one for n, one in data["growth"][what].items()}
            for key, unit in (("peak_mib", "peak memory, MiB"), ("us", "microseconds an image")):
                line = [(n, one[key]) for n, one in found.items()]
                top = max(200.0, 1.2 * max(y for _, y in line))
                text = plot(f"{what.capitalize()}: {unit}", name, {"": line}, log=True, top=top)
                (folder / f"{what}-{key.partition('_')[0]}.svg").write_text(text)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
