"""Asks the database once for what hundreds of accounts want to know at about the same time."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

__all__ = ["shared"]

T = TypeVar("T")

LOOK_S: Final = 0.5
"""How long an answer serves all who ask (seconds)."""


def shared(ask: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """The same question, whose answer serves all who ask within `LOOK_S`; one of them asks."""
    answer: T
    at, one = -math.inf, asyncio.Lock()

    async def look() -> T:
        nonlocal answer, at
        async with one:
            if time.monotonic() - at > LOOK_S:
                answer, at = await ask(), time.monotonic()
            return answer

    return look
