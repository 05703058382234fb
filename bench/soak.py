"""Many runs in one process, as in days of service: python bench/soak.py [SECONDS] [URL] → JSON.

A worker takes batches of ids from the queue as fast as it can and starts a scheduled run every two
seconds, on a fresh SQLite file or the empty database URL; its memory is read every five seconds.
What is counted is the process's own memory (RssAnon), without the mapped files of libraries.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collector.models import LaneKey
from collector.queue.database import DatabaseQueue
from collector.simulator.server import Simulator, SimulatorOptions, running
from collector.store import migrate
from collector.store.engine import Database
from tests.support.service import KEYS, configuration, process, rows, target

BATCH = 500


def own_mib(pid: int) -> float:
    _, _, rest = Path(f"/proc/{pid}/status").read_text().partition("RssAnon:")
    return round(int(rest.split()[0]) / 1024, 1)


async def main(seconds: float, url: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory, url = Path(name), url or f"sqlite:///{name}/soak.db"
        options = SimulatorOptions(images=200)
        async with running(Simulator(options)) as api, Database(url) as database:
            await migrate.upgrade(database)
            path = configuration(
                directory, api.url, url, every="2s", targets=target(), rate_limit=100_000
            )
            queue, key = DatabaseQueue(database, max_deliveries=5), LaneKey("default", "cn-north-1")
            log = await asyncio.to_thread((directory / "serve.log").open, "w")
            async with process("serve", "--config", str(path), env=KEYS, log=log) as worker:
                began, curve = time.monotonic(), []
                while (at := time.monotonic() - began) < seconds:
                    await queue.add(key, [f"img-{n:06}" for n in range(BATCH)])
                    await asyncio.sleep(1)
                    if not curve or at - curve[-1][0] >= 5:
                        curve.append((round(at), own_mib(worker.pid)))
                worker.terminate()
                await worker.wait()
            runs = await rows(database, "SELECT count(*), sum(planned), sum(requests) FROM runs")
            left = await rows(database, "SELECT count(*) FROM queue_items")
    third = len(curve) // 3
    late = [mib for _, mib in curve[third:]]
    found = {
        "exit": worker.returncode,
        "runs": runs[0][0],
        "items": int(runs[0][1]),
        "requests": int(runs[0][2]),
        "left_in_queue": left[0][0],
        "mib_after_a_third": late[0],
        "mib_at_the_end": late[-1],
        "mib_by_second": curve,
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 120
    asyncio.run(main(seconds, sys.argv[2] if len(sys.argv) > 2 else ""))
