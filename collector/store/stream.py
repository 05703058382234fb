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
    transport = await _unbounded(connection)
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


async def _unbounded(connection: AsyncConnection) -> asyncio.ReadTransport | None:
    """What asyncmy reads from: it takes all that the server sends, however far that is ahead."""
    if connection.dialect.driver != "asyncmy":
        return None
    raw: Any = (await connection.get_raw_connection()).driver_connection
    transport: asyncio.ReadTransport | None = getattr(raw, "_transport", None)
    return transport
