"""`collector run --dry-run`: what would be asked, how long that takes, and what it would store."""

import json
import math
from collections.abc import Iterable
from typing import Any

import click

from collector.cli.discover import list_all
from collector.cli.options import opened
from collector.cli.runtime import Stop
from collector.errors import Exit
from collector.jdcloud.protocol import MAX_PAGE_SIZE
from collector.models import LaneKey
from collector.settings import Settings
from collector.sources import Sources
from collector.store import plan
from collector.text import counted

__all__ = ["show_plan"]


async def show_plan(settings: Settings, sources: Sources, stop: Stop, *, as_json: bool) -> int:
    """Print the items of each lane; only listings call the API, and only they need a lease.

    Returns:
        The exit code, which is that of the listings.

    Raises:
        HeldError: another process holds an account that has to be listed.
    """
    found: dict[LaneKey, set[str]] = {key: set() for key in sources.keys}
    for key, ids in sources.ids():
        found[key].update(ids)
    failed, code = list[str](), int(Exit.OK)
    if sources.discover:
        failed, code = await _discover(settings, sources, stop, found)
    lanes = [_lane(settings, key, len(ids)) for key, ids in sorted(found.items())]
    by_account: dict[str, list[dict[str, Any]]] = {}
    for lane in lanes:
        by_account.setdefault(lane["account"], []).append(lane)
    etas = {
        fetch: max(_eta_s(settings, name, some, fetch) for name, some in by_account.items())
        for fetch in ("single", "batch")
    }
    items = sum(lane["items"] for lane in lanes)
    told = {
        "items": items,
        "fetch": settings.api.fetch,
        "members": settings.api.members,
        "calls": {fetch: sum(lane["calls"][fetch] for lane in lanes) for fetch in etas},
        "eta_s": etas,
        "stores": {"observations": items, "versions_at_most": items},
        "listings_failed": failed,
        "lanes": lanes,
    }
    if as_json:
        click.echo(json.dumps(told))
    else:
        _print(told)
    return code


def _lane(settings: Settings, key: LaneKey, items: int) -> dict[str, Any]:
    # Which of them are private is known when they are read: at most all.
    members = items if settings.api.members else 0
    return {
        "account": key.account,
        "region": key.region,
        "items": items,
        "rate_limit": settings.account(key.account).rate_limit,
        "calls": {"single": items + members, "batch": math.ceil(items / MAX_PAGE_SIZE) + members},
    }


def _eta_s(settings: Settings, account: str, lanes: Iterable[dict[str, Any]], fetch: str) -> float:
    """Seconds at the configured rates: the slowest lane's, or the whole account's."""
    effective = settings.account(account)
    calls = [lane["calls"][fetch] for lane in lanes]
    seconds = max(calls, default=0) / effective.rate_limit
    if effective.account_rate_limit:
        seconds = max(seconds, sum(calls) / effective.account_rate_limit)
    return round(seconds, 1)


async def _discover(
    settings: Settings, sources: Sources, stop: Stop, found: dict[LaneKey, set[str]]
) -> tuple[list[str], int]:
    """Add what is listed, and what was known before, as `run` does."""
    async with opened(settings.database.url, create=True) as database:
        for key, names in sources.discover.items():
            async for known in plan.known_images(database, key, names):
                found[key].update(known)
        return await list_all(
            settings, database, sources, stop, lambda key, _, ids: found[key].update(ids)
        )


def _print(plan: dict[str, Any]) -> None:
    for lane in plan["lanes"]:
        name = f"{lane['account']}/{lane['region']}"
        calls = ", ".join(f"{n:,} {fetch}" for fetch, n in lane["calls"].items())
        click.echo(f"{name}: {counted(lane['items'], 'image')}; calls: {calls}")
    for line in plan["listings_failed"]:
        click.echo(f"listing failed: {line}")
    most = "at most " if plan["members"] else ""
    for fetch, calls in plan["calls"].items():
        chosen = "  (configured)" if fetch == plan["fetch"] else ""
        click.echo(f"fetch = {fetch!r}: {most}{calls:,} calls, {plan['eta_s'][fetch]:,} s{chosen}")
    stores = plan["stores"]
    click.echo(
        f"stores {counted(stores['observations'], 'observation')}, and a version for each image"
        " that is new or changed; none of that was written"
    )
