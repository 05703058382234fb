"""`collector run`: one collection, or its plan."""

import sys
from pathlib import Path
from typing import Any, get_args

import click

from collector.cli import runtime
from collector.cli.options import Number, config_option, json_option, settings_of
from collector.models import Source

__all__ = ["command"]


@click.command()
@config_option
@click.option(
    "--image", "images", metavar="REGION/ID", multiple=True, help="Collect this image; repeatable."
)
@click.option(
    "--ids-file",
    metavar="FILE|-",
    help="Collect these: one REGION/ID per line; - is standard input.",
)
@click.option(
    "--discover",
    metavar="SOURCE",
    multiple=True,
    type=click.Choice(get_args(Source)),
    help="Collect what describeImages lists: " + ", ".join(get_args(Source)) + ".",
)
@click.option(
    "--region", "regions", metavar="R", multiple=True, help="Only this region; repeatable."
)
@click.option(
    "--account", "accounts", metavar="A", multiple=True, help="Only this account; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Print the plan, its calls and how long they take.")
@click.option("--fresh", is_flag=True, help="Do not resume an unfinished run of the same plan.")
@click.option(
    "--min-coverage",
    type=Number(0.0, 1.0),
    default=1.0,
    show_default=True,
    help="Share of the planned items that must be read for exit 0.",
)
@click.option("--quiet", is_flag=True, help="Say nothing when all is well.")
@json_option
def command(
    config_path: Path | None,
    *,
    dry_run: bool,
    fresh: bool,
    min_coverage: float,
    quiet: bool,
    as_json: bool,
    **selected: Any,
) -> int:
    """Collect once, or resume what was interrupted.

    --image, --ids-file and --discover replace what the configuration names; --region and --account
    narrow it.
    """
    settings = settings_of(config_path, quiet=quiet)
    from collector.cli.collection import carry_out, show
    from collector.cli.dry_run import show_plan
    from collector.run import Order, exit_code
    from collector.sources import Selection, Sources

    selection = Selection(**selected)
    with Sources.of(settings, selection, sys.stdin.buffer) as sources:
        if dry_run:
            return runtime.run(lambda stop: show_plan(settings, sources, stop, as_json=as_json))

        async def work(stop: runtime.Stop) -> int:
            order = Order(sources, fresh=fresh, whole=not selection.narrows)
            collected = await carry_out(settings, order, stop, quiet=quiet)
            show(collected, as_json=as_json, quiet=quiet)
            return exit_code(collected, min_coverage=min_coverage, signal=stop.signal)

        return runtime.run(work)
