"""`collector verify`: recomputes the tamper evidence and names what differs."""

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from collector.cli.options import Where, database_options, json_option, reading
from collector.cli.output import progress_line
from collector.cli.runtime import until_stopped
from collector.errors import Exit, UsageError
from collector.text import printable, shown

if TYPE_CHECKING:
    from collector.store.rederive import Finding

__all__ = ["command"]

_RUN_AND_DIGEST: Final = re.compile(r"([0-9]{1,18}):([0-9a-fA-F]{64})")


def _kept(text: str) -> tuple[int, str]:
    """A run and its digest, as a summary or a log has them."""
    match = _RUN_AND_DIGEST.fullmatch(text)
    if match is None:
        allowed = "RUN_ID:DIGEST, where a digest has 64 hexadecimal digits"
        raise click.BadParameter(f"found {shown(text)}; allowed: {allowed}")
    return int(match[1]), match[2].lower()


@click.command()
@database_options
@click.option(
    "--expect",
    "expected",
    type=_kept,
    metavar="RUN_ID:DIGEST",
    multiple=True,
    help="A digest kept elsewhere; finds a chain that was rewritten whole. Repeatable.",
)
@json_option
@until_stopped
async def command(where: Where, expected: tuple[tuple[int, str], ...], *, as_json: bool) -> int:
    """Recompute every digest, version and state from the rows; exit 1 when anything differs."""
    if len(dict(expected)) != len(set(expected)):
        raise UsageError("--expect names a run with two digests; one of them is not its digest")
    async with reading(where) as opened:
        from collector.store import ledger
        from collector.store.verify import Finding, verify

        count, unsealed = 0, list[Finding]()
        last = await ledger.last(opened)
        if as_json:
            click.echo('{"findings": [', nl=False)
        with progress_line() as progress:
            async for finding in verify(opened, dict(expected), progress=progress):
                if not finding.differs:
                    unsealed.append(finding)
                    continue
                progress("")
                if as_json:
                    click.echo((", " if count else "") + json.dumps(finding._asdict()), nl=False)
                else:
                    _print(finding)
                count += 1
    if as_json:
        rest = [finding._asdict() for finding in unsealed]
        end = {"unsealed": rest, "last": last and asdict(last), "ok": not count}
        click.echo("], " + json.dumps(end)[1:])
    else:
        for finding in unsealed:
            _print(finding)
        click.echo(f"findings: {count:,}" if count else "nothing differs")
        if last:
            click.echo(f"last digest: {last.run_id}:{last.digest}")
    return Exit.FINDINGS if count else Exit.OK


def _print(finding: "Finding") -> None:
    click.echo(printable(f"{finding.kind}  {finding.where}: {finding.what}"))
