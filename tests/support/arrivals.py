"""An endpoint that does not blame the sender for requests that it was itself late to take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.support.simulator import Simulator

__all__ = ["punctual"]

BEAT_S: Final = 0.01
LATE_S: Final = 0.05
"""How late a beat may be (seconds): half of what a window of requests is shorter than a second."""
CALM: Final = 5
"""Beats in time, after which what had piled up is taken."""


@asynccontextmanager
async def punctual(simulator: Simulator) -> AsyncIterator[None]:
    """Let a simulator of this event loop forget what came while it could not look.

    Such requests are recorded all at once, however far apart they came.
    """

    async def look() -> None:
        last, blind_since, calm = simulator.clock(), None, 0
        while True:
            await asyncio.sleep(BEAT_S)
            now = simulator.clock()
            if now - last > BEAT_S + LATE_S:
                blind_since, calm = blind_since or last, 0
            elif blind_since is not None:
                calm += 1
                if calm == CALM:
                    _forget(simulator, blind_since, now)
                    blind_since = None
            last = now

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait((looking,))


def _forget(simulator: Simulator, since: float, until: float) -> None:
    for arrivals in simulator._arrivals.values():
        kept = [at for at in arrivals if not since <= at <= until]
        arrivals.clear()
        arrivals.extend(kept)
