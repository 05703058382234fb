"""Where the time of an image goes: python -m bench.parts

Each step by itself, against the lean peer: microseconds an image of the event loop's thread and of
the whole process, the best of some rounds.
"""

import asyncio
import gc
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.harness import peer
from bench.peer import REGION
from collector.cli.runtime import Stop, run
from collector.fetch import Fetcher, one_by_one, split_batches
from collector.gate import Dispatcher
from collector.jdcloud.client import Client, Signer
from collector.jdcloud.credentials import Credentials
from collector.jdcloud.protocol import describe_image, describe_images
from collector.lanes import Account
from collector.models import Item, LaneKey, Result
from collector.settings import Api
from collector.store import ledger, migrate
from collector.store.engine import Database
from collector.store.leases import Leases
from collector.store.plan import Opening, Plan, finish
from collector.store.writes import Tally, Writer

IMAGES, ROUNDS, CONCURRENCY, TRANSACTION = 6_000, 4, 16, 1_000
KEY = LaneKey("default", REGION)

Times = dict[str, tuple[float, float]]


class Kept:
    """Takes results as the writer does, and only keeps them."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._tally = Tally()

    def tally(self, _: int) -> Tally:
        return self._tally

    async def room(self) -> None:
        """There always is."""

    async def put(self, result: Result) -> None:
        self.results.append(result)


class Watch:
    """Notes what each step cost since the one before."""

    def __init__(self) -> None:
        self.times: Times = {}
        self.start()

    def start(self) -> None:
        self._then = time.thread_time(), time.process_time()

    def note(self, step: str) -> None:
        loop, everything = time.thread_time() - self._then[0], time.process_time() - self._then[1]
        self.times[step] = loop / IMAGES * 1e6, everything / IMAGES * 1e6
        self.start()


async def main(url: str, folder: Path) -> Times:
    """One round."""
    watch, ids = Watch(), [f"img-{number:010}" for number in range(IMAGES)]
    async with (
        Client(timeout_s=10, max_response_bytes=1 << 22) as client,
        Database(f"sqlite:///{folder}/parts.db") as database,
        asyncio.TaskGroup() as group,
    ):
        await migrate.create_if_empty(database)
        leases = Leases(database, {"default": "ak:bench"})
        await leases.take_all()
        opening = Opening("run", "", "", "", "whole", "UTC")
        watch.start()
        plan = await Plan.open(database, leases, opening, datetime.now(UTC), [KEY])
        await plan.add(KEY, ids, datetime.now(UTC))
        await plan.planned(datetime.now(UTC))
        watch.note("plan")
        lane_id, _ = (await plan.lanes())[KEY]
        items: list[Item] = []
        async for page in plan.waiting(lane_id):
            items += page
        watch.note("read the plan")

        signer = Signer(Credentials("bench", "bench"), url)
        for image_id in ids:
            signer.request(describe_image(REGION, image_id), now=datetime.now(UTC), nonce="0" * 32)
        watch.note("single: sign")
        for image_id in ids:
            await client.send(describe_image(REGION, image_id), signer)
        watch.note("single: send, receive, judge")
        for start in range(0, IMAGES, 100):
            await client.send(describe_images(REGION, ids[start : start + 100]), signer)
        watch.note("batch: send, receive, judge")

        dispatcher = Dispatcher(0)
        dispatching = group.create_task(dispatcher.run())
        account = Account(
            KEY.account,
            client=client,
            signer=signer,
            dispatcher=dispatcher,
            rate=100_000,
            api=Api(concurrency=CONCURRENCY),
            stop=asyncio.Event(),
        )

        async def pages() -> AsyncIterator[Sequence[Item]]:
            for start in range(0, IMAGES, 500):
                yield items[start : start + 500]

        lane, kept = account.lane(REGION), Kept()
        fetcher = Fetcher(account, kept)
        watch.start()
        await account.feed(lane, pages(), one_by_one, fetcher.single)
        watch.note("single: all up to the writer")
        kept.results.clear()
        watch.start()
        await account.feed(lane, pages(), split_batches, fetcher.batch)
        watch.note("batch: all up to the writer")
        dispatching.cancel()

        writer = Writer(database, leases)
        writer.lane(lane_id, KEY)
        for start in range(0, IMAGES, TRANSACTION):
            await writer.commit(kept.results[start : start + TRANSACTION])
        watch.note("commit")
        await finish(database, plan.run_id, datetime.now(UTC), leases=leases)
        await ledger.seal(database, plan.run_id)
        watch.note("seal")
        await leases.release()
    return watch.times


if __name__ == "__main__":
    best: Times = {}
    with peer() as address:
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as name:

                async def once(_: Stop, folder: Path = Path(name)) -> Times:
                    return await main(address, folder)

                for step, (loop, everything) in run(once).items():
                    before = best.get(step, (loop, everything))
                    best[step] = min(before[0], loop), min(before[1], everything)
            gc.unfreeze()
    print(f"{'µs an image':32}{'loop':>8}{'process':>10}")
    for step, (loop, everything) in best.items():
        print(f"{step:32}{loop:8.1f}{everything:10.1f}")
