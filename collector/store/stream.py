"""Reads the rows of a query page by page, in flat memory on every database."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["PAGE", "pages"]

PAGE: Final = 1_024
"""Rows read at once, unless told otherwise."""


async def pages(
    connection: AsyncConnection, query: Executable, size: int = PAGE, **values: Any
) -> AsyncGenerator[Sequence[Any]]:
    """The rows of a query, some at a time; other work of the event loop gets its turn between."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    # asyncmy takes all that the server sends, however far that is ahead.
    transport = driver._transport if connection.dialect.driver == "asyncmy" else None  # noqa: SLF001
    result = await connection.stream(query.execution_options(yield_per=size), values)
    try:
        while page := await result.fetchmany(size):
            if transport is not None:
                transport.pause_reading()
            yield page
            await asyncio.sleep(0)
            if transport is not None:
                transport.resume_reading()
    finally:
        if transport is not None:
            transport.resume_reading()
        await result.close()
