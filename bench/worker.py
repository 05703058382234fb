"""One measured piece of work in a process of its own; prints one JSON line.

    python -m bench.worker bare|sdk|collect --url URL --ids FILE [--fetch batch] [--database FILE]

All ask the same endpoint for the ids of the same file, with as many requests in flight. The clock
runs from the reading of the ids to the last item's end, sealing included; the interpreter's start
and the making of an empty database are measured elsewhere.
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

REGION = "cn-north-1"
LAG_EVERY_S = 0.02
SAMPLE_EVERY_S = 0.25


def peak_mib() -> float:
    """The most memory that this process ever had resident (not its parent's, as getrusage)."""
    return _memory("VmHWM")


def _memory(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def bare(options: argparse.Namespace) -> dict[str, Any]:
    """An aiohttp loop that only reads and decodes: what a collector cannot be faster than."""
    import aiohttp
    import msgspec

    decode = msgspec.json.Decoder().decode
    began, ids = _begin(), iter(Path(options.ids).read_text().split())

    async def worker(session: aiohttp.ClientSession, ids: Iterator[str]) -> int:
        done = 0
        for image_id in ids:
            address = f"{options.url}/v1/regions/{REGION}/images/{image_id}"
            async with session.get(address) as response:
                assert decode(await response.read())["result"]["image"]["imageId"] == image_id
            done += 1
        return done

    async def main() -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker(session, ids)) for _ in range(options.concurrency)]
        return _end(began, sum(task.result() for task in tasks))

    return asyncio.run(main())


def sdk(options: argparse.Namespace) -> dict[str, Any]:
    """The official SDK in threads, a client each; what it returns is dropped."""
    from jdcloud_sdk.core.config import Config
    from jdcloud_sdk.core.const import SCHEME_HTTP
    from jdcloud_sdk.core.credential import Credential
    from jdcloud_sdk.core.logger import Logger
    from jdcloud_sdk.services.vm.apis.DescribeImageRequest import (
        DescribeImageParameters,
        DescribeImageRequest,
    )
    from jdcloud_sdk.services.vm.client.VmClient import VmClient

    def some(ids: list[str]) -> int:
        host = options.url.removeprefix("http://")
        client = VmClient(Credential("bench", "bench"), Config(host, SCHEME_HTTP), Logger(0))
        for image_id in ids:
            request = DescribeImageRequest(DescribeImageParameters(REGION, image_id))
            assert client.send(request).result["image"]["imageId"] == image_id
        return len(ids)

    began, ids = _begin(), Path(options.ids).read_text().split()
    with ThreadPoolExecutor(options.concurrency) as threads:
        parts = [ids[number :: options.concurrency] for number in range(options.concurrency)]
        return _end(began, sum(threads.map(some, parts)))


def configuration(database: Path, url: str, ids: Path | str, fetch: str, concurrency: int) -> Path:
    """A configuration without limits worth the name, beside its database."""
    path = database.with_suffix(".toml")
    path.write_text(
        f"database.url = 'sqlite:///{database}'\n"
        f"api = {{ endpoint = '{url}', rate_limit = 100_000, account_rate_limit = 0,"
        f" concurrency = {concurrency}, fetch = '{fetch}' }}\n"
        "accounts = [{ name = 'default' }]\nlog.level = 'error'\n"
        f"targets = [{{ account = 'default', region = '{REGION}', ids_file = '{ids}' }}]\n"
    )
    return path


def collect(options: argparse.Namespace) -> dict[str, Any]:
    """What `collector run` does: plan, sign, fetch, normalize, version, commit, seal."""
    from collector import config, run
    from collector.cli import runtime
    from collector.session import Session, load_credentials
    from collector.sources import Selection, Sources
    from collector.store import migrate
    from collector.store.engine import Database

    path = configuration(
        Path(options.database), options.url, options.ids, options.fetch, options.concurrency
    )
    env = {"JDCLOUD_ACCESS_KEY": "bench", "JDCLOUD_SECRET_KEY": "bench"}
    settings = config.load(path, env={})
    samples: list[tuple[float, int, float]] = []

    async def watch(session: Session, _: object) -> None:
        lanes = session.accounts["default"].lanes
        while True:
            done = sum(lane.counts.total() for lane in lanes.values())
            samples.append((time.perf_counter(), done, _memory("VmRSS")))
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def main(stop: runtime.Stop) -> dict[str, Any]:
        async with Database(settings.database.url) as database:
            await migrate.create_if_empty(database)
            late: list[tuple[float, float]] = []
            lag = asyncio.create_task(_lag(late.append))
            began = _begin()
            with Sources.of(settings, Selection()) as sources:
                order = run.Order(sources)
                keys = load_credentials(settings, env)
                collected = await run.collect(
                    settings, database, keys, order, stop=stop, watch=watch
                )
            lag.cancel()
            row = collected.summary.run
            assert (row["status"], bool(row["digest"])) == ("complete", True), row
            done = _end(began, row["present"])
        numbers = {key: row[key] for key in ("requests", "new_versions", "unchanged")}
        series = [(round(at - began[0], 3), n, round(mib, 1)) for at, n, mib in samples]
        lags = {
            "lag_ms": round(max(lag for lag, _ in late) * 1000, 1),
            "own_lag_ms": round(max(own for _, own in late) * 1000, 1),
        }
        return done | numbers | lags | {"samples": series}

    return runtime.run(main)


async def _lag(late: Callable[[tuple[float, float]], None]) -> None:
    """How late a timer fires, and how much of that the loop's own thread was computing.

    The rest it waited for the processor or for the interpreter, on a machine with other work.
    """
    while True:
        due, cpu = time.perf_counter() + LAG_EVERY_S, time.thread_time() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        lag = time.perf_counter() - due
        late((lag, min(lag, max(0.0, time.thread_time() - cpu))))


def _begin() -> tuple[float, float, float]:
    return time.perf_counter(), time.process_time(), time.thread_time()


def _end(began: tuple[float, float, float], images: int) -> dict[str, Any]:
    clocks = time.perf_counter(), time.process_time(), time.thread_time()
    seconds, cpu, loop_cpu = (now - then for now, then in zip(clocks, began, strict=True))
    times = {"seconds": seconds, "cpu": cpu, "loop_cpu": loop_cpu}
    return {"images": images, **times, "peak_mib": round(peak_mib(), 1)}


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("bare", "sdk", "collect"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--ids", required=True)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--fetch", default="single")
    parser.add_argument("--database", default="")
    options = parser.parse_args()
    work = {"bare": bare, "sdk": sdk, "collect": collect}[options.kind]
    print(json.dumps(work(options)))


if __name__ == "__main__":
    main()
