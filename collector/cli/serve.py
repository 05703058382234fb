"""`collector serve`: works on the queue and the schedule until it is stopped."""

import os
from pathlib import Path

import click

from collector import log
from collector.cli import runtime
from collector.cli.options import config_option, settings_of
from collector.settings import Settings

__all__ = ["command"]


@click.command()
@config_option
def command(config_path: Path | None) -> int:
    """Work on the queue and the schedule until stopped.

    SIGTERM and SIGINT drain within 30 seconds. /healthz, /readyz and /metrics: see [serve] listen.
    """
    settings = settings_of(config_path)
    if settings.schedule.every:
        settings.require_targets()
    return runtime.run(lambda stop: _serve(settings, stop))


async def _serve(settings: Settings, stop: runtime.Stop) -> int:
    from collector.health import Health, serve_http
    from collector.metrics import Metrics
    from collector.serve import Service
    from collector.session import load_credentials
    from collector.store.engine import Database

    keys = load_credentials(settings, os.environ)
    health, metrics = Health(os.environ), Metrics()
    async with Database(settings.database.url) as database:
        service = Service(settings, database, keys, stop=stop, health=health, metrics=metrics)
        async with serve_http(settings.serve.address, health, metrics.text) as url:
            log.get_logger().info("serving", accounts=sorted(keys), listen=url, pid=os.getpid())
            await service.run()
    log.get_logger().info("stopped", signal=stop.signal)
    return stop.code
