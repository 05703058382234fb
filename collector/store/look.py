"""Asks the database once for what hundreds of accounts want to know at about the same time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

__all__ = ["Look"]

T = TypeVar("T")

LOOK_S: Final = 0.5
"""How long an answer serves all who ask (seconds)."""


class Look(Generic[T]):
    """A question whose last answer serves all who ask within `LOOK_S`; one of them asks."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._answers: list[T] = []  # the last one, once there is one
        self._at = 0.0
        self._one = asyncio.Lock()

    async def __call__(self) -> T:
        """The answer.

        Raises:
            UnavailableError: the database cannot be read.
        """
        async with self._one:
            if not self._answers or time.monotonic() - self._at > LOOK_S:
                self._answers = [await self._ask()]
                self._at = time.monotonic()
        return self._answers[0]
