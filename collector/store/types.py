"""Column types that mean the same on SQLite, PostgreSQL and MariaDB."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Dialect, Integer, String, Text
from sqlalchemy import types as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from typing_extensions import override

__all__ = ["BIG_ID", "IDENT", "LONG_TEXT", "SHA256", "TIME", "WORD", "UtcDateTime", "as_double"]

BIG_ID = BigInteger().with_variant(Integer(), "sqlite")
"""A 64-bit key; SQLite numbers rows by itself only when the type is exactly INTEGER."""

IDENT = String(64).with_variant(String(64, collation="C"), "postgresql")
"""A name that a person or the API chose: compared byte by byte, trailing spaces included."""

WORD = String(32)
"""One of this program's own words (states, outcomes, kinds)."""

SHA256 = String(64)
"""A digest in lower-case hexadecimal."""

LONG_TEXT = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
"""Text of any length (MariaDB's TEXT ends at 64 KiB)."""


class UtcDateTime(sa.TypeDecorator[datetime]):
    """A point in time with microseconds: aware values only, stored and returned in UTC.

    SQLite holds `YYYY-MM-DD HH:MM:SS.ffffff`, PostgreSQL timestamptz, MariaDB DATETIME(6).
    """

    impl = sa.DateTime
    cache_ok = True

    @override
    def load_dialect_impl(self, dialect: Dialect) -> sa.TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(sa.DATETIME())

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"a time without a zone cannot be stored: {value!r}"
            raise ValueError(msg)
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


TIME = UtcDateTime()


class as_double(FunctionElement[float]):  # noqa: N801 - written like an SQL function
    """A number as IEEE double; SQLAlchemy's own cast leaves it out on MariaDB."""

    name = "as_double"
    type = sa.Double()
    inherit_cache = True


@compiles(as_double)
def _cast(element: as_double, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS DOUBLE PRECISION)"


@compiles(as_double, "mysql", "mariadb")
def _cast_mariadb(element: as_double, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS DOUBLE)"
