"""Three workers in three processes on one database and one broker, and what is done to them.

The endpoint records when each request arrives; it has no limit of its own, so that any excess would
be seen. The database and the broker are reached through proxies that can be cut.
"""

import asyncio
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import aio_pika
from sqlalchemy import make_url

from collector import config
from collector.models import LaneKey
from collector.queue import queue_of
from collector.store.engine import Database
from tests.support.arrivals import punctual
from tests.support.broker import BROKER, proxied_broker, through
from tests.support.proxy import Proxy, proxied
from tests.support.service import ENTRY, configuration, rows
from tests.support.simulator import Simulator, SimulatorOptions, running

ACCOUNTS = ("a", "b", "c")
REGIONS = ("cn-north-1", "cn-east-2")
LANE_RATE, ACCOUNT_RATE = 10, 16
JITTER_S = 0.1
"""How late a request may arrive, for want of a connection or of a free processor (seconds)."""


class Fleet:
    """The workers, and the means to disturb them.

    Args:
        directory: for the configuration and the workers' logs.
        database: its URL; at head.
        ids: images of each lane.
        lease_s: how long a lease lasts; renewing and sending keep their shares of it.
    """

    def __init__(self, directory: Path, database: str, ids: int, *, lease_s: float = 15.0) -> None:
        self.directory = directory
        times = {"TTL_S": lease_s, "RENEW_S": lease_s / 3, "SEND_S": lease_s * 0.8}
        self._entry = f"from collector.store import leases; vars(leases).update({times}); {ENTRY}"
        self.ids = [f"img-{n:06}" for n in range(ids)]
        self.events: list[tuple[float, str]] = []
        self.handovers: dict[str, float] = {}
        self.simulator: Simulator
        self.database_proxy: Proxy
        self.broker_proxy: Proxy
        self.prefix = f"collector-fleet-{uuid.uuid4().hex[:10]}"
        self._direct = make_url(database)
        self._workers: dict[int, asyncio.subprocess.Process] = {}
        self._stack = AsyncExitStack()
        self._began = time.monotonic()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        keys = {f"key-{name}": f"secret-{name}" for name in ACCOUNTS}
        options = SimulatorOptions(images=4, credentials=keys, latency=0.02)
        self.simulator = await enter(running(options))
        await enter(punctual(self.simulator))
        # One for all questions: making an engine would hold up the endpoint of this same loop.
        direct = self._direct.render_as_string(hide_password=False)
        self._database = await enter(Database(direct))
        host, port = self._direct.host or "127.0.0.1", self._direct.port or 5432
        self.database_proxy = await enter(proxied(host, port))
        self.broker_proxy = await enter(proxied_broker())
        for name in ACCOUNTS:
            file = self.directory / f"{name}.toml"
            file.write_text(f'access_key = "key-{name}"\nsecret_key = "secret-{name}"\n')
            file.chmod(0o600)
        url = self._direct.set(host="127.0.0.1", port=self.database_proxy.port)
        self.path = configuration(
            self.directory,
            self.simulator.url,
            url.render_as_string(hide_password=False),
            accounts={name: f"file:{self.directory / name}.toml" for name in ACCOUNTS},
            queue=through(self.broker_proxy),
            rate_limit=LANE_RATE,
            account_rate_limit=ACCOUNT_RATE,
        )
        text = self.path.read_text().replace(self.directory.name + '"', self.prefix + '"')
        self.path.write_text(text)
        self._stack.push_async_callback(self._delete_queues)
        await self._add()
        for number in range(3):
            await self.start(number)
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._workers.values():
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
        await self._stack.aclose()

    async def _add(self) -> None:
        settings = config.load(self.path, env={})
        async with Database(settings.database.url) as database:
            queue = queue_of(settings, database)
            for account in ACCOUNTS:
                for region in REGIONS:
                    await queue.add(LaneKey(account, region), self.ids)
            await queue.close()

    async def _delete_queues(self) -> None:
        connection = await aio_pika.connect(BROKER)
        async with connection:
            channel = await connection.channel()
            for account in ACCOUNTS:
                for region in REGIONS:
                    await channel.queue_delete(f"{self.prefix}.{account}.{region}")

    async def start(self, number: int) -> None:
        """Start a worker, or start it anew."""
        clean = {name: text for name, text in os.environ.items() if not name.startswith("COLLEC")}
        with (self.directory / f"worker-{number}.log").open("a") as log:
            self._workers[number] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", self._entry, "serve", "--config", str(self.path)),
                env=clean,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
            )

    def note(self, what: str) -> None:
        self.events.append((round(time.monotonic() - self._began, 1), what))

    async def holder(self) -> int:
        """A worker that serves some account; each is asked for by its process id."""
        pids = {row[0] for row in await rows(self._database, "SELECT pid FROM leases")}
        held = [n for n, worker in self._workers.items() if worker.pid in pids]
        return random.choice(held or list(self._workers))

    async def kill(self) -> None:
        """kill -9 somebody who serves an account, and start him anew."""
        number = await self.holder()
        self.note(f"kill -9 of worker {number}")
        self._workers[number].kill()
        await self._workers[number].wait()
        await self._heard("kill -9")
        await self.start(number)

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP somebody who serves an account, and SIGCONT."""
        number = await self.holder()
        self.note(f"SIGSTOP of worker {number} for {seconds:g} s")
        self._workers[number].send_signal(signal.SIGSTOP)
        began = time.monotonic()
        await self._heard("SIGSTOP")
        await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))
        self._workers[number].send_signal(signal.SIGCONT)
        self.note(f"SIGCONT of worker {number}")

    async def terminate(self) -> None:
        """SIGTERM somebody who serves an account, and start him anew."""
        number = await self.holder()
        self.note(f"SIGTERM of worker {number}")
        self._workers[number].terminate()
        async with asyncio.timeout(30):
            code = await self._workers[number].wait()
        assert code == 143, code
        await self._heard("SIGTERM")
        await self.start(number)

    async def cut(self, proxy: Proxy, seconds: float, what: str) -> None:
        """Take the database or the broker away for a while."""
        self.note(f"{what} gone for {seconds:g} s")
        await proxy.cut()
        await asyncio.sleep(seconds)
        await proxy.restore()
        await self._heard(what)

    async def _heard(self, what: str) -> None:
        """Wait until all accounts with work left are asked for again; keep the longest wait."""
        began, now = time.monotonic(), self.simulator.clock()
        waiting = set(ACCOUNTS)
        while waiting and time.monotonic() - began < 60:
            await asyncio.sleep(0.1)
            for name in list(waiting):
                times = [t for (key, _), at in self._arrivals if key == f"key-{name}" for t in at]
                if (times and max(times) > now) or await self._finished(name):
                    waiting.discard(name)
        took = round(time.monotonic() - began, 1)
        self.handovers[what] = max(took, self.handovers.get(what, 0.0))

    @property
    def _arrivals(self) -> Any:
        return self.simulator._arrivals.items()

    async def _finished(self, account: str) -> bool:
        return await self.read(account) == len(self.ids) * len(REGIONS)

    async def read(self, account: str | None = None) -> int:
        """Images that were read."""
        where = f"AND account = '{account}'" if account else ""
        query = f"SELECT count(*) FROM images WHERE last_checked_at IS NOT NULL {where}"
        return int((await rows(self._database, query))[0][0])

    async def finish(self, timeout_s: float) -> None:
        """Wait until all is read and sealed, and nothing is left in table or broker."""
        everything = len(self.ids) * len(REGIONS) * len(ACCOUNTS)
        async with asyncio.timeout(timeout_s):
            while await self.read() < everything or await self.left() or await self._unsealed():  # noqa: ASYNC110
                await asyncio.sleep(0.3)
        self.note("finished")

    async def _unsealed(self) -> int:
        """Runs without a digest; a queue run is sealed a moment after its last item."""
        unsealed = "SELECT count(*) FROM runs WHERE digest IS NULL"
        return int((await rows(self._database, unsealed))[0][0])

    async def left(self) -> int:
        """What is in the queue still: in the table, and ready in the broker."""
        settings = config.load(self.path, env={"COLLECTOR_QUEUE__URL": BROKER})
        queue = queue_of(settings, self._database)
        depths = await queue.depths()
        await queue.close()
        return sum(one.ready + one.delayed + one.in_flight + one.failed for one in depths)

    async def report(self) -> dict[str, Any]:
        """The numbers."""
        worst = self.simulator.worst_window
        twice = (
            "SELECT count(*) - count(DISTINCT image_pk) FROM observation_rows "
            "WHERE outcome = 'not_found'"
        )
        duplicates = (await rows(self._database, twice))[0][0]
        outcomes = "SELECT outcome, count(*) FROM observation_rows GROUP BY 1 ORDER BY 1"
        found = {
            "items": len(self.ids) * len(REGIONS) * len(ACCOUNTS),
            "read": await self.read(),
            "requests": self.simulator.requests.total(),
            "read_more_than_once": duplicates,
            "observations": dict(await rows(self._database, outcomes)),
            "runs_not_sealed": await self._unsealed(),
            "left_in_queue": await self.left(),
        }
        keys = [f"key-{name}" for name in ACCOUNTS]
        for width in (1.0, 1.0 - JITTER_S):
            lanes = max(worst(key, region, width) for key in keys for region in REGIONS)
            found |= {f"worst_{width:g}_s_of_a_lane": lanes}
            found |= {f"worst_{width:g}_s_of_an_account": max(worst(k, None, width) for k in keys)}
        return found | {
            "longest_silence_after_s": self.handovers,
            "events": self.events,
        }


Disturbance = Callable[[], Awaitable[None]]


async def disturb(fleet: Fleet, disturbances: list[Disturbance], pause_s: float) -> None:
    """One after the other, at moments of chance."""
    for one in disturbances:
        await asyncio.sleep(random.uniform(0.5, 1.0) * pause_s)
        await one()
