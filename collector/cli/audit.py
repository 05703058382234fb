"""`collector audit`: the rules, their findings, and their SQL to take away."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from collector import config
from collector.audit.catalogue import SEVERITIES, Rule, Values, choose, parameters
from collector.cli.options import Where, database_options, json_option, reading
from collector.cli.output import moment, print_rows
from collector.cli.runtime import until_stopped
from collector.errors import Exit
from collector.text import harmless_json

if TYPE_CHECKING:
    from collector.audit.runner import Finding

__all__ = ["command", "rule_parameters"]

SHOWN: Final = 20
"""Findings of a rule that the table shows; the other formats have them all."""

_COLUMNS: Final = ("rule", "severity", "account", "region", "image_id", "reason", "run_id")
_COLOURS: Final = {"high": "red", "medium": "yellow", "low": "cyan", "info": "blue"}
_TOLD: Final = ("id", "severity", "title", "rationale", "remedy", "source")


@click.group()
def command() -> None:
    """Run the audit rules, or print their SQL."""


@command.command("list")
@database_options
@json_option
def list_rules(where: Where, *, as_json: bool) -> int:
    """List the rules with their parameters, the most severe first."""
    import msgspec

    values, rules = rule_parameters(where), choose(())
    if as_json:
        told = [
            {name: getattr(rule, name) for name in _TOLD} | {"parameters": values[rule.id]}
            for rule in rules
        ]
        click.echo(msgspec.json.encode(told))
        return Exit.OK
    rows = [(rule.severity, rule.id, rule.title, _settings_line(values[rule.id])) for rule in rules]
    print_rows(("severity", "rule", "title", "parameters"), rows)
    return Exit.OK


@command.command("sql")
@database_options
@click.argument("rule_id", metavar="RULE")
def print_sql(where: Where, rule_id: str) -> int:
    """Print a rule's SQL, parameters filled in, for sqlite3, psql or mariadb."""
    from collector.audit.runner import portable_sql

    (rule,) = choose((rule_id,))
    values, now = rule_parameters(where)[rule.id], datetime.now(UTC)
    click.echo(f"-- {rule.title} ({rule.severity}), as of {moment(now)}")
    if values:
        click.echo(f"-- {_settings_line(values)}")
    click.echo(portable_sql(rule, values, now))
    return Exit.OK


@command.command()
@database_options
@click.option("--rule", "rule_ids", metavar="ID", multiple=True, help="Run this rule; repeatable.")
@click.option(
    "--fail-on",
    type=click.Choice(SEVERITIES),
    help="Exit with 1 if there is a finding of this severity or higher.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "csv")),
    default="table",
    show_default=True,
    help=f"The table shows {SHOWN} findings per rule; json and csv have them all.",
)
@json_option
@until_stopped
async def run(
    where: Where, rule_ids: tuple[str, ...], fail_on: str | None, form: str, *, as_json: bool
) -> int:
    """Run the rules on the database, all or some."""
    rules, values = choose(rule_ids), rule_parameters(where)
    form = "json" if as_json else form
    async with reading(where) as opened:
        from msgspec.json import encode

        from collector.audit.runner import audit
        from collector.export import csv_cell

        counts, now = Counter[str](), datetime.now(UTC)
        some: defaultdict[str, list[Finding]] = defaultdict(list)
        if form != "table":
            head = b'{"at":' + encode(now) + b',"findings":['
            click.echo(",".join(_COLUMNS) if form == "csv" else head, nl=form == "csv")
        async with aclosing(audit(opened, rules, values, now)) as findings:
            async for rule, finding in findings:
                counts[rule.id] += 1
                row = (rule.id, rule.severity, *finding)
                if form == "csv":
                    click.echo(",".join(map(csv_cell, row)))
                elif form == "json":
                    document = harmless_json(encode(dict(zip(_COLUMNS, row, strict=True))))
                    click.echo((b",\n" if counts.total() > 1 else b"\n") + document, nl=False)
                elif len(some[rule.id]) < SHOWN:
                    some[rule.id].append(finding)
    if form == "json":
        told = [
            {"id": rule.id, "severity": rule.severity, "title": rule.title}
            | {"parameters": values[rule.id], "findings": counts[rule.id]}
            for rule in rules
        ]
        click.echo(b'],\n"rules":' + encode(told) + b"}")
    elif form == "table":
        _print(rules, some, counts)
    severe = SEVERITIES[SEVERITIES.index(fail_on) :] if fail_on else ()
    found = any(counts[rule.id] for rule in rules if rule.severity in severe)
    return Exit.FINDINGS if found else Exit.OK


def _print(rules: list[Rule], some: "dict[str, list[Finding]]", counts: Counter[str]) -> None:
    by_severity = dict.fromkeys(reversed(SEVERITIES), 0)
    for rule in rules:
        by_severity[rule.severity] += counts[rule.id]
        if not counts[rule.id]:
            continue
        head = click.style(f"{rule.severity} {rule.id}", fg=_COLOURS[rule.severity])
        click.echo(f"{head}: {rule.title}")
        print_rows(("account", "region", "image", "reason", "run"), some[rule.id])
        if more := counts[rule.id] - len(some[rule.id]):
            where = f"collector audit run --rule {rule.id} --format csv"
            click.echo(f"… and {more:,} more: {where}")
        click.echo("")
    parts = ", ".join(f"{count:,} {severity}" for severity, count in by_severity.items())
    click.echo(f"findings: {counts.total():,} of {len(rules)} rules: {parts}")


def rule_parameters(where: Where) -> Mapping[str, Values]:
    """Every rule's parameters; without a configuration, those of the environment alone."""
    env, path = os.environ, where.config
    named = path is not None or env.get("COLLECTOR_CONFIG")
    needless = where.database is not None or env.get("COLLECTOR_DATABASE__URL")
    if not named and (needless or config.found() is None):
        path = Path(os.devnull)
    settings = config.load(path, env=env)
    return parameters(settings.audit, settings.where)


def _settings_line(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
