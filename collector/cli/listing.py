"""Lists image ids for the commands that store nothing of it, and says how that ended."""

import os
from collections.abc import Callable

from collector.cli.runtime import Stop
from collector.errors import Exit
from collector.lanes import unheard
from collector.models import LaneKey, Outcome
from collector.session import load_credentials, open_session
from collector.settings import Settings, Source
from collector.sources import ListingError, Sources, list_ids
from collector.store.engine import Database
from collector.store.writes import Tally

__all__ = ["list_all"]


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
    if stop.signal is not None:
        return failed, 128 + stop.signal
    if not found and refused:
        return failed, Exit.REFUSED
    if not found and silent:
        return failed, Exit.UNAVAILABLE
    return failed, Exit.PARTIAL if failed else Exit.OK
