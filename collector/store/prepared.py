"""Statements compiled once and run with plain tuples; on SQLite past what is slow beside a loop."""

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["Prepared", "Values", "at_once"]

Values = Sequence[Any]
"""The values of one row, in the order of a prepared statement's keys."""

_SIZES: Final = (64, 16, 4, 1)
"""Rows that SQLite takes with one statement: more are not faster, other sizes never compiled."""


class Prepared:
    """A statement compiled once and run with plain tuples.

    Compiling and binding by name costs more than SQLite needs to store the row. So does handing the
    interpreter lock over for every row: SQLite takes many rows with one statement.
    """

    def __init__(self, statement: ClauseElement, dialect: Dialect, keys: Sequence[str]) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(keys))
        if list(compiled.positiontup) != list(keys):
            msg = f"keys {list(keys)} are not in the statement's order {compiled.positiontup}"
            raise AssertionError(msg)
        self.sql = str(compiled)
        self._many = dialect.name == "sqlite"
        self._is_piped = dialect.name == "postgresql"

    async def run(self, connection: AsyncConnection, rows: Sequence[Values]) -> None:
        """Run the statement once for every row."""
        if rows and not self._many:
            await connection.exec_driver_sql(self.sql, rows)
            if self._is_piped:
                # Behind a pipeline the server does not count how long a transaction is idle.
                await connection.exec_driver_sql("SELECT 1")
            return
        start = 0
        for size in _SIZES:
            starts = range(start, len(rows) - size + 1, size)
            if starts:
                values = [tuple(chain.from_iterable(rows[n : n + size])) for n in starts]
                await at_once(connection, "executemany", self._for(size), values)
                start = starts[-1] + size

    def _for(self, rows: int) -> str:
        """The statement with its one group of values repeated."""
        before, values, after = _split_values(self.sql)
        return f"{before}{', '.join([values] * rows)}{after}"


async def at_once(connection: AsyncConnection, method: str, sql: str, *rest: Any) -> Any:
    """Call SQLite's driver itself: SQLAlchemy makes, uses and closes a cursor.

    Each is a journey to the connection's thread and back, which waits for the event loop to come
    round.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    try:
        return await getattr(driver, method)(sql, *rest)
    except sqlite3.Error as error:
        raise DBAPIError.instance(sql, None, error, sqlite3.Error) from error


@lru_cache(maxsize=64)
def _split_values(sql: str) -> tuple[str, str, str]:
    """The statement up to its group of values, the group, and what follows."""
    start = sql.index("VALUES (") + len("VALUES ")
    depth = 0
    for end, character in enumerate(sql[start:], start + 1):
        depth += (character == "(") - (character == ")")
        if not depth:
            return sql[:start], sql[start:end], sql[end:]
    raise AssertionError(sql)
