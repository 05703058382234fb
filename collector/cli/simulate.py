"""`collector simulate`: a local stand-in for the JD Cloud VM endpoint."""

import asyncio
import os

import click

from collector import log
from collector.cli import runtime

__all__ = ["command"]


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Where to listen, on loopback; 0 picks one.",
)
@click.option("--images", type=click.IntRange(0), default=500, show_default=True, help="How many.")
@click.option("--rate-limit", type=float, default=0.0, help="Requests a second; 0: no limit.")
@click.option("--latency", type=float, default=0.0, help="Seconds before each answer.")
@click.option(
    "--faults", metavar="SPEC", default="", help="Such as 500=0.05,reset=0.01,delete=0.02."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the images and the faults."
)
def command(
    port: int, images: int, rate_limit: float, latency: float, faults: str, seed: int
) -> int:
    """Serve a local stand-in for the JD Cloud VM endpoint.

    It checks signatures against JDCLOUD_ACCESS_KEY and JDCLOUD_SECRET_KEY (simulator/simulator by
    default). The first line on standard output is its URL.
    """
    from collector.simulator.server import SimulatorOptions, serve  # noqa: PLC0415 - imports a server

    log.configure(level="warning")
    options = SimulatorOptions.from_environment(
        os.environ,
        port=port,
        images=images,
        rate_limit=rate_limit,
        latency=latency,
        faults=faults,
        seed=seed,
    )

    async def until_stopped(stop: runtime.Stop) -> int:
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(serve(options, ready=click.echo))
            await stop.wait()
            serving.cancel()
        return 128 + (stop.signal or 0)

    return runtime.run(until_stopped)
