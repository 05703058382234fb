"""Measures the rates against the simulator: python -m bench.rates

Achieved rate and worst one-second window at several limits, on the sender's clock (as requests
leave) and at the endpoint; images a second without a limit, and how long the loop was held at
once; and the requests that five kills of one run cost. The simulator is a process of its own.
"""

import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from collector import config, log
from collector.ids import PUBLISHED_REGIONS
from collector.jdcloud.client import Client, Signer
from collector.jdcloud.protocol import Call, Reply
from collector.run import Order, collect
from collector.session import load_credentials
from collector.simulator.images import Inventory
from collector.sources import Selection, Sources
from collector.store import migrate
from collector.store.engine import Database

LIMITS = (5, 16, 50, 500)
SECONDS = 12
"""How long each limit has work."""

KEYS = {"JDCLOUD_ACCESS_KEY": "simulator", "JDCLOUD_SECRET_KEY": "simulator"}
SIMULATOR = """
import asyncio, sys
from tests.support.simulator import SimulatorOptions, running
async def serve():
    options = SimulatorOptions(images=int(sys.argv[1]), latency=float(sys.argv[2]))
    async with running(options) as simulator:
        print(simulator.url, flush=True)
        await asyncio.Event().wait()
asyncio.run(serve())
"""


@contextmanager
def simulator(images: int, latency_s: float = 0.0) -> Iterator[str]:
    """Its URL, as long as the block lasts."""
    words = [sys.executable, "-c", SIMULATOR, str(images), str(latency_s)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def counts(url: str) -> dict[str, Any]:
    """What the simulator has counted."""
    with urllib.request.urlopen(f"{url}/_simulator") as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def configuration(directory: Path, url: str, **api: Any) -> Path:
    """A configuration for all images of four regions."""
    lines = ["[database]", f'url = "sqlite:///{directory}/bench.db"', "[api]"]
    lines += [f"{k} = {json.dumps(v)}" for k, v in {"endpoint": url, **api}.items()]
    lines += ["[[accounts]]", 'name = "default"']
    path = directory / "collector.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def ids_of(images: int, regions: Sequence[str]) -> str:
    """Lines of the simulator's ids."""
    inventory = Inventory(images=images)
    return "".join(f"{region}/{one}\n" for region in regions for one in inventory.ids(region))


def worst(times: Sequence[float], window_s: float = 1.0) -> int:
    """The most of the times in any window."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


class Clocks:
    """Hears of every departure while the block lasts, through the client's own hook."""

    def __init__(self) -> None:
        self.departures: list[float] = []
        self.lag_s = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        send = Client.send

        async def noted(
            client: Client, call: Call, account: Signer, departed: Callable[[], None]
        ) -> Reply:
            def leaving() -> None:
                departed()
                self.departures.append(time.monotonic())

            return await send(client, call, account, leaving)

        Client.send = noted
        try:
            yield
        finally:
            Client.send = send

    async def watch_lag(self) -> None:
        """How long this thread computed between two turns of a timer: it held the loop."""
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.01)
            self.lag_s = max(self.lag_s, time.thread_time() - began)


async def run(path: Path, ids: str, clocks: Clocks) -> dict[str, Any]:
    """One collection in this process."""
    settings = config.load(path, env={})
    file = path.parent / "ids.txt"
    file.write_text(ids)
    selection = Selection(ids_file=str(file), accounts=("default",))
    with Sources.of(settings, selection) as sources:
        async with Database(settings.database.url) as database:
            await migrate.create_if_empty(database)
            lag = asyncio.ensure_future(clocks.watch_lag())
            keys = load_credentials(settings, KEYS)
            order, stop = Order(sources, fresh=True), asyncio.Event()
            with clocks.listening():
                collected = await collect(settings, database, keys, order, stop=stop)
            lag.cancel()
    return dict(collected.summary.run)


def limits() -> None:
    """Lane limits with one region, account limits with four."""
    head = ("limit", "regions", "achieved", "share", "sender", "endpoint", "busy ms")
    print(("{:>10}" * len(head)).format(*head))
    for limit in LIMITS:
        for regions in (PUBLISHED_REGIONS[:1], PUBLISHED_REGIONS):
            measure(limit, regions)


def measure(limit: int, regions: Sequence[str]) -> None:
    images = limit * SECONDS * len(PUBLISHED_REGIONS) // len(regions)
    with simulator(images, 0.02) as url, tempfile.TemporaryDirectory() as name:
        lane, account = (limit, 0) if len(regions) == 1 else (limit, limit)
        rates = {"rate_limit": lane, "account_rate_limit": account, "adaptive": False}
        path, clocks = configuration(Path(name), url, concurrency=64, **rates), Clocks()
        row = asyncio.run(run(path, ids_of(images, regions), clocks))
        assert row["status"] == "complete"
        at_endpoint = max(counts(url)["worst_window"].values())
        if len(regions) > 1:
            at_endpoint = 0  # the simulator tells lanes apart; their sum is not the account's
    first = clocks.departures[0]
    whole = [at for at in clocks.departures if first + 1 <= at < first + SECONDS - 1]
    achieved = len(whole) / (SECONDS - 2)
    print(
        f"{limit:>10}{len(regions):>10}{achieved:>10.1f}{achieved / limit:>10.1%}"
        f"{worst(clocks.departures):>10}"
        f"{at_endpoint or '-':>10}{clocks.lag_s * 1000:>10.0f}"
    )


def unthrottled(fetch: str, images: int) -> None:
    """How many images a second when nothing limits it."""
    with simulator(images) as url, tempfile.TemporaryDirectory() as name:
        rates = {"rate_limit": 100_000, "account_rate_limit": 0, "fetch": fetch}
        path, clocks = configuration(Path(name), url, **rates), Clocks()
        ids = ids_of(images, PUBLISHED_REGIONS)
        for what in ("new", "unchanged"):
            clocks = Clocks()
            began = time.monotonic()
            row = asyncio.run(run(path, ids, clocks))
            seconds = time.monotonic() - began
            assert row["present"] == images
            print(
                f"{fetch}, {what}: {images / seconds:,.0f} images/s, {row['requests']:,} requests, "
                f"loop held {clocks.lag_s * 1000:.0f} ms, "
                f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB at most so far"
            )


def kills(images: int, rate: int, times: int) -> None:
    """kill -9 a run several times and count what the endpoint was asked."""
    with simulator(images) as url, tempfile.TemporaryDirectory() as name:
        rates = {"rate_limit": rate, "account_rate_limit": rate}
        path = configuration(Path(name), url, **rates)
        ids, chance, losses = ids_of(images, PUBLISHED_REGIONS), random.Random(), []
        entry = "import sys; from collector.cli.main import main; sys.exit(main())"
        words = [sys.executable, "-c", entry, "run", "--quiet", "--config", str(path)]
        words += ["--ids-file", "-"]
        for number in range(times + 1):
            asked = counts(url)["requests"].get("describeImage", 0)
            goal = asked + chance.randrange(images // times // 3, images // times)
            with subprocess.Popen(words, stdin=subprocess.PIPE, env=os.environ | KEYS) as process:
                assert process.stdin is not None
                process.stdin.write(ids.encode())
                process.stdin.close()
                while number < times and counts(url)["requests"].get("describeImage", 0) < goal:
                    time.sleep(0.01)
                if number < times:
                    process.send_signal(signal.SIGKILL)
            losses.append(counts(url)["requests"].get("describeImage", 0))
        assert process.returncode == 0, process.returncode
        print(
            f"{times} kills of {images:,} images at {rate}/s: {losses[-1]:,} requests, "
            f"{(losses[-1] - images) / times:.0f} a kill asked again; after each: {losses}"
        )


def main() -> None:
    log.configure(level="error")
    chosen = sys.argv[1:] or ["limits", "unthrottled", "kills"]
    if "limits" in chosen:
        limits()
    if "unthrottled" in chosen:
        unthrottled("single", 8_000)
        unthrottled("batch", 20_000)
    if "kills" in chosen:
        kills(4_000, 400, 5)


if __name__ == "__main__":
    main()
