"""How work is waited for, and how it is told to stop."""

import asyncio
from contextlib import suppress

import pytest

from collector.errors import LeaseLostError, UnavailableError
from collector.run import drain_on_stop


async def fails_as_it_ends(begun: asyncio.Event) -> None:
    """Work that cannot clean up after itself."""
    begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        raise UnavailableError("the database is away")


async def test_what_fails_as_its_end_is_waited_for_is_told() -> None:
    """Whoever waits is cancelled for the same reason; the reason must not be lost."""
    begun = asyncio.Event()

    draining = asyncio.create_task(drain_on_stop(asyncio.Event(), fails_as_it_ends(begun), 1.0))
    await begun.wait()
    draining.cancel()
    with pytest.raises(UnavailableError, match="away"):
        await draining


@pytest.mark.parametrize("way", ["ends by itself", "is cancelled with it"])
async def test_a_cancellation_is_passed_on(way: str) -> None:
    """Work that ends well for it does not make whoever waited go on."""
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        with suppress(asyncio.CancelledError if way == "ends by itself" else ValueError):
            await asyncio.Event().wait()

    draining = asyncio.create_task(drain_on_stop(asyncio.Event(), work(), 1.0))
    await begun.wait()
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining


async def test_what_fails_as_it_is_cut_off_is_told() -> None:
    """After a signal and its time, the work is cancelled: that is no reason to hide a failure."""
    stop = asyncio.Event()

    with pytest.raises(UnavailableError, match="away"):
        await drain_on_stop(stop, fails_as_it_ends(stop), 0.0)


async def test_the_reason_and_what_failed_for_it_are_both_told() -> None:
    """So it is in a session: the lease is lost, and the work that ends for it fails by itself."""
    begun = asyncio.Event()

    async def keep() -> None:
        await begun.wait()
        raise LeaseLostError("it ran out")

    async def session() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(keep())
            await drain_on_stop(asyncio.Event(), fails_as_it_ends(begun), 1.0)

    with pytest.raises(ExceptionGroup) as caught:
        await session()
    assert {type(error) for error in caught.value.exceptions} == {LeaseLostError, UnavailableError}
