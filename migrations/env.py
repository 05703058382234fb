"""Runs the revisions on the connection it is given; the views come back at head."""

from alembic import context
from sqlalchemy import Connection, inspect, text
from sqlalchemy.sql.ddl import CreateView

from collector.store.migrate import exists_on
from collector.store.schema import metadata
from collector.store.views import CREATE_VIEWS


def run_offline() -> None:
    """Write the DDL for a fresh database, views included."""
    context.configure(
        dialect_name=context.config.attributes["dialect"],
        target_metadata=metadata,
        literal_binds=True,
        output_buffer=context.config.attributes["output"],
        transactional_ddl=False,
    )
    # RETURNING, which SQLite has since 3.35: nobody reads what a printed statement returns.
    context.get_context().dialect.insert_returning = False
    with context.begin_transaction():
        context.run_migrations()
        for view in CREATE_VIEWS.values():
            context.execute(view)


def run_online(connection: Connection) -> None:
    """Migrate in one transaction, where the database has them for DDL.

    MariaDB has not: when there is nothing to migrate, its views are replaced and never missed.
    """
    replaced = context.config.attributes["stays"] and connection.dialect.name == "mysql"
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_object=lambda item, *_: exists_on(item, connection.dialect.name),
        render_as_batch=True,
        compare_server_default=False,
    )
    with context.begin_transaction():
        for name in inspect(connection).get_view_names():
            if name in CREATE_VIEWS and not replaced:
                connection.execute(text(f"DROP VIEW {name}"))
        context.run_migrations()
        if context.get_context().get_current_heads() == (context.get_head_revision(),):
            for name, view in CREATE_VIEWS.items():
                connection.execute(CreateView(view.selectable, name, or_replace=replaced))


if context.is_offline_mode():
    run_offline()
else:
    run_online(context.config.attributes["connection"])
