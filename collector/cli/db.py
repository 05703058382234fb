"""`collector db`: migrations, retention, and the way into a database of another kind."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import click

from collector import config, log
from collector.cli import runtime
from collector.cli.options import (
    Where,
    age,
    database_of,
    database_options,
    json_option,
    opened,
    settings_of,
)
from collector.cli.output import progress_line
from collector.cli.runtime import unless_stopped, until_stopped
from collector.errors import Exit, UsageError
from collector.text import passwords_of, printable

__all__ = ["command"]

DIALECTS = ("sqlite", "postgresql", "mysql")


@click.group()
def command() -> None:
    """Migrate, inspect, prune and copy the database."""


@command.command()
@database_options
@click.argument("revision", default="head")
@json_option
def upgrade(where: Where, revision: str, *, as_json: bool) -> int:
    """Migrate up, by default to this program's revision. An absent database is created."""
    url = database_of(where)
    return runtime.run(lambda stop: _migrate(stop, url, revision, up=True, as_json=as_json))


@command.command()
@database_options
@click.argument("revision")
@json_option
def downgrade(where: Where, revision: str, *, as_json: bool) -> int:
    """Migrate down. `base` drops every table and all that was collected."""
    url = database_of(where)
    return runtime.run(lambda stop: _migrate(stop, url, revision, up=False, as_json=as_json))


async def _migrate(stop: runtime.Stop, url: str, revision: str, *, up: bool, as_json: bool) -> int:
    if not revision or ":" in revision:
        raise UsageError(f"REVISION: found {revision!r}; allowed: a revision, head or base")
    from collector.store import migrate
    from collector.store.engine import Database

    async def work() -> int:
        await (migrate.upgrade if up else migrate.downgrade)(database, revision)
        found = await migrate.revision_of(database)
        told = f"database {database} is {f'at revision {found}' if found else 'empty'}"
        click.echo(json.dumps({"revision": found}) if as_json else told)
        return Exit.OK

    async with Database(url) as database:
        # MariaDB commits each statement by itself: cut off, the migration would be half done.
        return await (work() if database.kind == "mysql" else unless_stopped(stop, work()))


@command.command()
@database_options
@json_option
@until_stopped
async def status(where: Where, *, as_json: bool) -> int:
    """Show revision, head and drift. The exit code is 78 unless at head without drift."""
    url = database_of(where)
    from collector.store import migrate
    from collector.store.engine import Database

    drift, why = list[str](), "the database is not what this program made"
    async with Database(url, read_only=True) as there:
        migrate.require_file(there)
        revision = await migrate.revision_of(there)
        if revision == migrate.head():
            drift = await migrate.drift(there)
        else:
            why = str(migrate.not_at_head(there, revision))
    good = revision == migrate.head() and not drift
    document = {"revision": revision, "head": migrate.head(), "drift": drift, "ok": good}
    if as_json:
        click.echo(json.dumps(document))
    else:
        click.echo(f"revision {revision or 'none: the database is empty'}, head {migrate.head()}")
        for line in drift:
            click.echo(printable(f"drift: {line}"))
        if not good:
            click.echo(why)
    return Exit.OK if good else Exit.CONFIGURATION


@command.command()
@database_options
@click.option(
    "--dialect",
    type=click.Choice(DIALECTS),
    help="The kind of database; by default that of the configured one.",
)
def sql(where: Where, dialect: str | None) -> None:
    """Print the DDL of a fresh database, for a DBA to run."""
    from collector.store import migrate

    if dialect is None:
        from collector.store.engine import Database

        dialect = Database(database_of(where)).kind
    click.echo(migrate.sql(dialect), nl=False)


@command.command()
@database_options
@click.option(
    "--older-than",
    type=age,
    help="Prune what finished longer ago than this; by default [retention] observations.",
)
@json_option
@until_stopped
async def prune(where: Where, older_than: timedelta | None, *, as_json: bool) -> int:
    """Delete old runs' observations. Runs, coverage, digests and versions stay.

    Only sealed runs whose rows are as they were sealed are pruned; others are named, and the exit
    code is 1.
    """
    if older_than is None:
        settings = settings_of(where.config)
        kept = settings.retention.observations
        if kept is None:
            raise UsageError("[retention] observations keeps everything; give --older-than")
        older_than, url = timedelta(seconds=kept), where.database or settings.database.url
    else:
        url = database_of(where)
    before = datetime.now(UTC) - older_than
    from collector.store.prune import prune as prune_observations

    async with opened(url) as there:
        with progress_line() as progress:
            pruned = await prune_observations(there, before, progress=progress)
    if as_json:
        click.echo(json.dumps(asdict(pruned)))
    else:
        click.echo(f"pruned {pruned.rows:,} observations of {len(pruned.runs):,} runs")
        for run_id in pruned.refused:
            click.echo(f"run {run_id} is not what was sealed and stays; see `collector verify`")
    return Exit.FINDINGS if pruned.refused else Exit.OK


@command.command()
@database_options
@click.option("--to", "target", metavar="URL", required=True, help="An empty or absent database.")
@json_option
@until_stopped
async def copy(where: Where, target: str, *, as_json: bool) -> int:
    """Copy everything into an empty database of any kind. Every id and digest is kept.

    Stop what writes first: a held account is refused. The copy is verified before it counts.
    """
    url = database_of(where)
    log.redact(*passwords_of(target))
    config.checked_url("--to", target)
    from collector.store.copy import copy as copy_all
    from collector.store.engine import Database

    async with Database(url, read_only=True) as here, Database(target) as there:
        with progress_line() as progress:
            counts = await copy_all(here, there, progress=progress)
    if as_json:
        click.echo(json.dumps({"rows": counts}))
    else:
        for name, rows in counts.items():
            click.echo(f"{rows:>12,}  {name}")
    return Exit.OK
