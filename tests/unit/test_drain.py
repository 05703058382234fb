"""How work is waited for, and how it is told to stop."""

import asyncio

import pytest

from collector.errors import UnavailableError
from collector.run import drain_on_stop


async def test_what_fails_as_its_end_is_waited_for_is_told() -> None:
    """Whoever waits is cancelled for the same reason; the reason must not be lost."""
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise UnavailableError("the database is away")

    draining = asyncio.create_task(drain_on_stop(asyncio.Event(), work(), 1.0))
    await begun.wait()
    draining.cancel()
    with pytest.raises(UnavailableError, match="away"):
        await draining
