"""`collector check`: tells before the first run whether everything that it needs is there."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from collector.cli.options import config_option, json_option, settings_of
from collector.cli.runtime import until_stopped
from collector.errors import gravest
from collector.text import printable, scrub

__all__ = ["command"]


@click.command()
@config_option
@click.option("--offline", is_flag=True, help="Only what needs no network.")
@json_option
@until_stopped
async def command(config_path: Path | None, *, offline: bool, as_json: bool) -> int:
    """Check configuration, database, credentials, clock and queue: one line each, ok, warn or fail.

    An account that another process serves is reported with its holder, and not called.
    """
    settings = settings_of(config_path, quiet=True)
    from collector.preflight import checks

    findings = [finding async for finding in checks(settings, offline=offline)]
    if as_json:
        click.echo(json.dumps({"checks": [asdict(finding) for finding in findings]}))
    for finding in () if as_json else findings:
        message = printable(scrub(" ".join(finding.message.split())))
        click.echo(f"{finding.status:<5} {finding.check}: {message}")
    return gravest({finding.code for finding in findings})
