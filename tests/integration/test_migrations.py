"""Migrations: up, down, and up again on every database; the printed DDL is the same schema."""

from collections.abc import Callable

import pytest
from sqlalchemy import inspect

from collector.errors import SchemaError
from collector.store import migrate
from collector.store.engine import Database
from collector.store.views import VIEWS
from tests.conftest import KINDS


async def names(database: Database) -> set[str]:
    async with database.read() as connection:
        return await connection.run_sync(
            lambda sync: {*inspect(sync).get_table_names(), *inspect(sync).get_view_names()}
        )


async def test_printed_ddl_is_at_head_without_drift(database_url: str) -> None:
    """The DDL for a DBA makes the same tables and views as a migration."""
    async with Database(database_url) as database:
        await migrate.require_head(database)

        assert await migrate.drift(database) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_up_down_up(kind: str, new_database: Callable[..., str]) -> None:
    """Up makes what the program expects, down to base leaves nothing, and up works again."""
    async with Database(new_database(kind, migrated=False)) as database:
        await migrate.upgrade(database)
        assert await migrate.drift(database) == []
        assert set(VIEWS) <= await names(database)

        await migrate.downgrade(database, "base")
        assert await names(database) <= {"alembic_version"}
        with pytest.raises(SchemaError, match="is empty"):
            await migrate.require_head(database)

        await migrate.upgrade(database)
        await migrate.require_head(database)
        assert await migrate.drift(database) == []
