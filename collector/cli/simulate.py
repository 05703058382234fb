"""`collector simulate`: a local stand-in for the JD Cloud VM endpoint."""

import os
from typing import Any

import click

from collector import log
from collector.cli import runtime
from collector.cli.options import Number, unused_config_option

__all__ = ["command"]


@click.command()
@unused_config_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Where to listen, on loopback; 0 picks one.",
)
@click.option(
    "--images",
    type=click.IntRange(0, 10_000_000),
    default=500,
    show_default=True,
    help="Number of images.",
)
@click.option("--rate-limit", type=Number(0.0), default=0.0, help="Requests a second; 0: no limit.")
@click.option("--latency", type=Number(0.0), default=0.0, help="Seconds before each answer.")
@click.option(
    "--faults",
    metavar="SPEC",
    default="",
    help="Faults and their shares, such as 500=0.05,reset=0.01,delete=0.02.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the images and the faults."
)
def command(**options: Any) -> int:
    """Serve a local stand-in for the JD Cloud VM endpoint.

    It checks signatures against JDCLOUD_ACCESS_KEY and JDCLOUD_SECRET_KEY (simulator/simulator by
    default). The first line on standard output is its URL.
    """
    log.configure(level="warning")
    return runtime.run(lambda stop: _serve(stop, options))


async def _serve(stop: runtime.Stop, options: dict[str, Any]) -> int:
    from collector.simulator.server import Simulator, SimulatorOptions, running

    chosen = SimulatorOptions.from_environment(os.environ, **options)
    async with running(Simulator(chosen)) as simulator:
        click.echo(simulator.url)
        await stop.wait()
    return stop.code
