"""Runs the audit rules on any database, and writes their SQL out for its own client."""

import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import BigInteger, BindParameter, String, TextualSelect, bindparam, column, text
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.audit.catalogue import PLACEHOLDER, Rule, Value, Values
from collector.store.engine import Database
from collector.store.stream import pages
from collector.store.types import UtcDateTime

__all__ = ["Finding", "audit", "portable_sql", "sample"]

BATCH: Final = 1_000
"""Findings held in memory."""

_NOBODY: Final = "(select '' from (select 1) as nobody where 1 = 0)"
"""An empty list; `IN ()` is no SQL."""


class Finding(NamedTuple):
    """One row that a rule gave."""

    account: str
    region: str
    image_id: str
    reason: str
    run_id: int | None


async def sample(
    connection: AsyncConnection, rule: Rule, values: Values, now: datetime, limit: int
) -> tuple[list[Finding], int]:
    """The first findings of a rule, and how many it has in all."""
    names = ", ".join(Finding._fields)
    sql = f"select {names}, count(*) over () from (\n{rule.sql}\n) found order by 1, 2, 3, 4"  # noqa: S608
    query = _bound(f"{sql} limit {limit}", rule, values, now, BigInteger())
    rows = (await connection.execute(query)).all()
    return [Finding(*row[:-1]) for row in rows], rows[0][-1] if rows else 0


def _bound(sql: str, rule: Rule, values: Values, now: datetime, *more: BigInteger) -> TextualSelect:
    """A statement with its parameters, whose rows are findings and `more` columns."""
    bound: list[BindParameter[Any]] = []
    for name in dict.fromkeys(PLACEHOLDER.findall(rule.sql)):
        value = _value(rule, name, values, now)
        if isinstance(value, list):  # an empty one has no type of its own
            bound.append(bindparam(name, value, String(), expanding=True))
        else:
            kind = UtcDateTime() if isinstance(value, datetime) else None
            bound.append(bindparam(name, value, kind))
    kinds: tuple[String | BigInteger, ...] = (*[String()] * 4, BigInteger(), *more)
    return text(sql).bindparams(*bound).columns(*(column(f"c{n}", k) for n, k in enumerate(kinds)))


async def audit(
    database: Database, rules: Iterable[Rule], values: Mapping[str, Values], now: datetime
) -> AsyncGenerator[tuple[Rule, Finding]]:
    """Run rules, with each one's parameters by its id, on one state of the database.

    A rule's findings come in the order of account, region and image, in flat memory.
    """
    async with database.read() as connection:
        for rule in rules:
            query = _bound(rule.sql, rule, values[rule.id], now)
            async with aclosing(pages(connection, query, BATCH)) as found:
                async for page in found:
                    for row in page:
                        yield rule, Finding(*row)


def portable_sql(rule: Rule, values: Values, now: datetime) -> str:
    """The statement with literals instead of parameters, for the clients of all three databases."""

    def literal(match: re.Match[str]) -> str:
        match _value(rule, match[1], values, now):
            case datetime() as at:
                # MariaDB ignores the offset; PostgreSQL needs it in a session of another zone.
                return at.astimezone(UTC).strftime("'%Y-%m-%d %H:%M:%S.%f+00:00'")
            case list() as texts:
                return f"({', '.join(map(_quoted, texts))})" if texts else _NOBODY
            case str() as text:
                return _quoted(text)
            case number:
                return str(number)

    return PLACEHOLDER.sub(literal, rule.sql) + ";"


def _value(rule: Rule, name: str, values: Values, now: datetime) -> datetime | str | Value:
    """What stands for a name of the statement."""
    if (bound := rule.bounds.get(name)) is None:
        return values[name]
    at = now + bound.sign * timedelta(days=cast("float", values[bound.parameter]))
    return at if bound.kind == "moment" else at.strftime("%Y-%m-%d")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
