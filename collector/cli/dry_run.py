"""`collector run --dry-run`: what would be asked, how long that takes, and what it would store.

And what it shares with `collector discover`: listings of which nothing is stored.
"""

import json
import math
import os
from collections.abc import Callable, Iterable
from typing import Any

import click

from collector.cli.options import opened
from collector.cli.runtime import Stop
from collector.errors import Exit
from collector.jdcloud.protocol import MAX_PAGE_SIZE
from collector.lanes import unheard
from collector.models import LaneKey, Outcome, Source
from collector.session import load_credentials, open_session
from collector.settings import Settings
from collector.sources import ListingError, Sources, list_ids
from collector.store import plan
from collector.store.engine import Database
from collector.store.writes import Tally
from collector.text import counted

__all__ = ["list_all", "show_plan"]


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


async def list_all(
    settings: Settings,
    database: Database,
    sources: Sources,
    stop: Stop,
    each: Callable[[LaneKey, Source, list[str]], None],
) -> tuple[list[str], int]:
    """List what is to be discovered, one lane after another, under the leases of the accounts.

    `each` is told of the ids of a page.

    Returns:
        Each listing that could not be read whole, with the reason; and the exit code.

    Raises:
        HeldError: another process holds one of the accounts.
    """
    keys = load_credentials(settings, os.environ)
    wanted = {key.account: keys[key.account] for key in sources.discover}
    failed: list[str] = []
    outcomes: list[tuple[str, Outcome]] = []
    found = 0
    async with open_session(settings, database, wanted, stop=stop) as session:
        await session.serve_all()
        for key, names in sorted(sources.discover.items()):
            account = session.accounts[key.account]
            lane = account.lane(key.region)
            async for source, listed in list_ids(account, lane, sorted(names), Tally()):
                if isinstance(listed, ListingError):
                    failed.append(f"{key} {source}: {listed}")
                    outcomes.append((key.account, listed.outcome))
                else:
                    found += len(listed)
                    each(key, source, listed)
        refused, silent = unheard(session.accounts.values(), outcomes)
    if stop.is_set():
        return failed, stop.code
    if not found and refused:
        return failed, Exit.REFUSED
    if not found and silent:
        return failed, Exit.UNAVAILABLE
    return failed, Exit.PARTIAL if failed else Exit.OK
