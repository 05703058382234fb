"""`collector demo`: the whole way on simulated images, without credentials or network."""

import json
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import click

from collector import log
from collector.cli import runtime
from collector.cli.options import unused_config_option
from collector.cli.output import create, print_rows
from collector.errors import UsageError
from collector.text import os_reason, shown

if TYPE_CHECKING:
    from collector.store.engine import Database

__all__ = ["command"]

QUESTIONS: Final = {
    "How many images of each source and platform are there now?": """\
  SELECT image_source, platform, count(*) AS images
  FROM current_images GROUP BY image_source, platform ORDER BY images DESC LIMIT 5
""",
    "Which private images have an unencrypted disk?": """\
  SELECT i.region, i.image_id, d.device_name, d.disk_size_gb
  FROM current_images i JOIN current_disks d
    ON d.account = i.account AND d.region = i.region AND d.image_id = i.image_id
  WHERE i.image_source = 'private' AND d.encrypted = false
  ORDER BY d.disk_size_gb DESC, i.image_id, d.device_name LIMIT 5
""",
    "How complete was the last run?": """\
  SELECT region, planned, present, not_found, failed, coverage
  FROM run_coverage ORDER BY run_id DESC, region LIMIT 4
""",
}
"""Questions that the demo answers, with their SQL."""

_CONFIGURATION: Final = """\
# Written by `collector demo`: everything in here is simulated.
[database]
url = {database}
[api]
endpoint = {endpoint}
rate_limit = 50
account_rate_limit = 200
[[accounts]]
name = "demo"
credentials = {credentials}
"""
_TARGET: Final = """\
[[targets]]
account = "demo"
region = "{region}"
ids_file = "{region}.txt"
discover = ["private"]
"""


def _directory(text: str) -> Path:
    if not text or not text.isprintable():
        raise click.BadParameter(f"found {shown(text)}; allowed: a name that a URL can hold")
    return Path(text)


@click.command()
@unused_config_option
@click.option(
    "--images",
    type=click.IntRange(1, 1_000_000),
    default=500,
    show_default=True,
    help="Number of images.",
)
@click.option(
    "--keep",
    type=_directory,
    metavar="DIR",
    help="Where to keep the database and its configuration; by default a temporary directory.",
)
def command(images: int, keep: Path | None) -> int:
    """Collect simulated images into a fresh database, audit them, and show what SQL answers."""
    log.configure(level="warning")
    try:
        keep = (keep or Path(tempfile.mkdtemp(prefix="collector-demo-"))).absolute()
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--keep: no directory to write to: {os_reason(error)}") from None
    database = keep / "collector.db"
    for path in (database, keep / "collector.toml"):
        if path.exists():
            raise UsageError(f"{path} exists already; remove it, or name another --keep DIR")
    return runtime.run(lambda stop: _demonstrate(stop, images, keep, database))


async def _demonstrate(stop: runtime.Stop, images: int, keep: Path, database: Path) -> int:
    from collector import config
    from collector.cli.collection import carry_out, show
    from collector.run import Order, exit_code
    from collector.simulator.server import Simulator, SimulatorOptions, running
    from collector.sources import Selection, Sources
    from collector.store.engine import Database

    url = f"sqlite:///{quote(str(database))}"
    access_key, secret_key = f"demo-{secrets.token_hex(8)}", secrets.token_hex(16)
    options = SimulatorOptions(images=images, access_key=access_key, secret_key=secret_key)
    click.echo(f"All data is simulated: {images:,} images in {len(options.regions)} regions.\n")
    async with running(Simulator(options)) as simulator:
        credentials, configuration = keep / "credentials.toml", keep / "collector.toml"
        keys = f'access_key = "{access_key}"\nsecret_key = "{secret_key}"\n'
        create(credentials, keys.encode())
        for region in options.regions:
            lines = "".join(f"{image_id}\n" for image_id in simulator.ids(region))
            create(keep / f"{region}.txt", lines.encode())
        text = _CONFIGURATION.format(
            database=json.dumps(url),
            endpoint=json.dumps(simulator.url),
            credentials=json.dumps(f"file:{credentials}"),
        )
        targets = "".join(_TARGET.format(region=region) for region in options.regions)
        create(configuration, (text + targets).encode())
        settings = config.load(configuration, env={})
        with Sources.of(settings, Selection()) as sources:
            collected = await carry_out(settings, Order(sources), stop)
    show(collected, as_json=False, quiet=False)
    if stop.signal is None:
        async with Database(url, read_only=True) as written:
            await _audit(written)
            await _answer(written)
        program = "collector" if shutil.which("collector") else sys.argv[0]
        click.echo(f"The database, simulated data and all, is {database}; look around in it:")
        click.echo(f"  {program} audit run --database {url}")
        click.echo(f"  {program} changes --database {url}")
    return exit_code(collected, min_coverage=1.0, signal=stop.signal)


async def _audit(database: "Database") -> None:
    from collector.audit.catalogue import choose, parameters
    from collector.audit.runner import audit

    rules = choose(())
    found = audit(database, rules, parameters({}), datetime.now(UTC))
    counts = Counter([rule.id async for rule, _ in found])
    click.echo(f"\nThe audit: {counts.total():,} findings of {len(rules)} rules\n")
    rows = [(rule.severity, rule.id, counts[rule.id], rule.title) for rule in rules]
    print_rows(("severity", "rule", "findings", "title"), [row for row in rows if row[2]])


async def _answer(database: "Database") -> None:
    from sqlalchemy import text

    for question, query in QUESTIONS.items():
        async with database.read() as connection:
            found = await connection.execute(text(query))
            names, rows = list(found.keys()), [tuple(row) for row in found]
        click.echo(f"\n{question}\n\n{query}")
        print_rows(names, rows)
    click.echo("")
