"""Twenty runs over ten thousand images while everything fails: is any image wrongly gone?

    python -m bench.false_deletions [IMAGES [RUNS]]

No image is ever deleted at the endpoint, so every `gone` image and every closed version is wrong.
"""

import asyncio
import os
import sqlite3
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from collector.simulator.faults import Faults
from collector.simulator.server import Simulator, SimulatorOptions, running

FAULTS = (
    "500=0.1,429=0.05,reset=0.05,truncate=0.05",
    "403=0.3,404=0.1,html=0.1,empty=0.05",
    "region:cn-east-1=down",
    "wrong_id=0.1,no_image=0.1,malformed=0.1,nan=0.05",
    "401=0.0005",
    "502=0.2,503=0.2,504=0.2",
)
CONFIGURATION = """\
[database]
url = "sqlite:///{folder}/collector.db"
[api]
endpoint = "{url}"
rate_limit = 100000
account_rate_limit = 0
max_attempts = 2
timeout = 2.0
fetch = "{fetch}"
adaptive = false  # it would look for a rate at which nothing is refused, and there is none
[log]
level = "critical"
[[accounts]]
name = "default"
"""


async def main(images: int, runs: int) -> int:
    random, codes = Random(1), Counter[int]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with running(Simulator(SimulatorOptions(images=images))) as simulator:
            env = os.environ | {
                "JDCLOUD_ACCESS_KEY": "simulator",
                "JDCLOUD_SECRET_KEY": "simulator",
            }
            for number in range(runs):
                simulator.faults = Faults.parse(FAULTS[number % len(FAULTS)] if number else "")
                text = CONFIGURATION.format(
                    folder=folder, url=simulator.url, fetch=("single", "batch")[number % 2]
                )
                for region in simulator.regions:
                    ids = folder / f"{region}.txt"
                    ids.write_text("".join(f"{one}\n" for one in simulator.ids(region)))
                    text += f'[[targets]]\naccount = "default"\nregion = "{region}"\n'
                    text += f'ids_file = "{ids}"\n'
                (folder / "collector.toml").write_text(text)
                words = ("run", "--quiet", "--config", str(folder / "collector.toml"))
                entry = "import sys; from collector.cli.main import main; sys.exit(main())"
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", entry, *words, env=env, stderr=asyncio.subprocess.DEVNULL
                )
                if number % 4 == 3:
                    try:
                        async with asyncio.timeout(random.uniform(0.5, 2.5)):
                            await process.wait()
                    except TimeoutError:
                        process.kill()
                codes[await process.wait()] += 1
        with sqlite3.connect(folder / "collector.db") as database:

            def one(sql: str) -> int:
                return int(database.execute(sql).fetchone()[0])

            gone = one("select count(*) from images where state = 'gone'")
            closed = one("select count(*) from image_versions where valid_to is not null")
            rows = one("select count(*) from observations")
            failed = one("select count(*) from observations where outcome not in ('present')")
    print(f"{images:,} images, {runs} runs, exit codes {dict(codes)}")
    print(
        f"{rows:,} observations, {failed:,} of them failed; {gone} gone, {closed} versions closed"
    )
    return 1 if gone or closed else 0


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(asyncio.run(main(*(numbers + [10_000, 20][len(numbers) :]))))
