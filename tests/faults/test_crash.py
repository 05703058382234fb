"""kill -9 at random moments, again and again: nothing lost, nothing doubled, little asked twice.

Bounded here to a few kills of small runs; `make chaos` kills 200 runs of 5,000 images on each
database and prints what it saw.
"""

import os
import random
import signal
import time
from contextlib import suppress

import pytest

from tests.conftest import KINDS
from tests.faults import world
from tests.faults.place import Place
from tests.support.site import simulated, until

CHAOS = os.environ.get("COLLECTOR_CHAOS") == "1"
IMAGES, KILLS, RATE = (5_000, 200, 1_000) if CHAOS else (600, 6, 150)
CONCURRENCY = 16
PROMISE_S = 1.0
"""A kill loses what was in flight and this much of finished work (seconds)."""

SLACK_S = 0.5
"""For an answer to travel, and for what waits for its turn, on a busy machine (seconds)."""

SPAN_S = IMAGES / 2 / RATE + 0.6
"""Within which a process is killed after its start (seconds)."""

REGIONS = ("cn-north-1", "cn-east-1")


class Life:
    """One plan, collected by processes that are killed, and what the endpoint saw of it.

    Attributes:
        planned: region and id of every image.
        asked: when the run that is not finished yet asked for what.
    """

    def __init__(self, place, planned):
        self.place, self.planned = place, planned
        self.asked: dict[tuple[str, str], list[float]] = {}
        self.kills = self.runs = self.calls = self.again = self.unplanned = 0
        self.oldest_s = self.longest_s = 0.0
        self.run_id = 0
        self.chance = random.Random()
        place.simulator.intercept = self.note

    async def note(self, request):
        _, _, _, region, _, image_id = request.path.split("/")
        self.asked.setdefault((region, image_id), []).append(time.monotonic())

    def work(self, within_s=None):
        """Run a process to its end, or kill it within some time; tell whether it ended."""
        began = time.monotonic()
        with self.place.forker.running(self.place.directory, "run", "--quiet") as run:
            if within_s is not None:
                # Each third one late enough for a second of finished work to lie behind it.
                least = 0.7 if self.kills % 3 == 2 else 0.0
                wait_s = within_s * self.chance.uniform(least, 1.0 - least / 7)
                with suppress(TimeoutError):
                    until(lambda: run.code is not None, wait_s)
            else:
                until(lambda: run.code is not None, 120.0)
            run.kill()
            killed = time.monotonic()
            done = run.end()
        ended = done.code == 0
        assert ended or done.code == -signal.SIGKILL, done
        self.kills += not ended
        self.survived(began, killed)
        return ended

    def survived(self, began, killed):
        """Every item once, and what is lost was asked for within a second of finished work."""
        ((run_id, planned),) = world.rows(
            self.place.url, "SELECT id, planned_at FROM runs ORDER BY id DESC LIMIT 1"
        ) or [(0, None)]
        self.unplanned += planned is None
        if run_id != self.run_id:
            self.begin(run_id, began)
        rows = world.rows(
            self.place.url,
            f"SELECT region, image_id, outcome FROM observations WHERE run_id = {run_id}",
        )
        assert len({row[:2] for row in rows}) == len(rows)
        assert planned is None or len(rows) == len(self.planned)
        done = {(region, image_id) for region, image_id, o in rows if o != "not_attempted"}
        lost = [
            killed - min(t for t in times if t > began)
            for one, times in self.asked.items()
            if one not in done and times[-1] > began
        ]
        self.oldest_s = max([self.oldest_s, *lost])
        self.longest_s = max(self.longest_s, max(lost, default=0.0) - min(lost, default=0.0))
        assert self.longest_s <= PROMISE_S + SLACK_S, sorted(lost)[-5:]

    def begin(self, run_id, began):
        """Count what the run before asked for, and forget it."""
        before = [[t for t in times if t < began] for times in self.asked.values()]
        self.calls += sum(map(len, before))
        self.again += sum(len(times) - 1 for times in before if times)
        now = {one: [t for t in times if t >= began] for one, times in self.asked.items()}
        self.asked = {one: times for one, times in now.items() if times}
        self.run_id = run_id

    def exact(self):
        """After a run came to its end: versions and states are the endpoint's, evidence whole."""
        self.runs += 1
        evidence = self.runs % 5 == 0 or self.kills >= KILLS
        found = world.everything(self.place.url, evidence=evidence)
        for region, image_id in self.planned:
            truth, image = self.place.simulator.image(region, image_id), found[region, image_id]
            assert image.state == ("gone" if truth is None else "present")
            assert image.payload == (None if truth is None else world.canonical(truth))


@pytest.mark.timeout(3600 if CHAOS else 120)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_again_and_again(tmp_path, forker, new_database, kind, capsys):
    """The contract: at most what was in flight and one second; evidence whole after every run."""
    url = new_database(kind)
    with simulated(images=IMAGES, regions=REGIONS, faults="delete=0.05,change=0.1") as simulator:
        planned = [(region, one) for region in REGIONS for one in simulator.ids(region)]
        place = Place(tmp_path, simulator, forker)
        place.url = url
        targets = []
        for region in REGIONS:
            lines = "\n".join(one for where, one in planned if where == region)
            (tmp_path / f"{region}.txt").write_text(lines)
            targets.append(f'region = "{region}"\nids_file = "{region}.txt"')
        place.configure(*targets, database=url, rate_limit=RATE, concurrency=CONCURRENCY)
        life = Life(place, planned)
        while life.kills < KILLS:
            if life.work(within_s=SPAN_S):
                life.exact()
                simulator.advance()
        assert life.work()
        life.exact()
        life.begin(0, time.monotonic())
    with capsys.disabled():
        if CHAOS:
            print(  # noqa: T201
                f"\n{kind}: {life.kills} kills, {life.unplanned} of them while planning; "
                f"{life.runs} runs of {IMAGES:,} images came to their end; {life.calls:,} images "
                f"asked for, {life.again:,} of them again: {life.again / life.kills:.1f} a kill; "
                f"what was lost had been asked for within {life.longest_s:.2f} s, the oldest of it "
                f"{life.oldest_s:.2f} s before"
            )
    assert life.again <= life.kills * len(REGIONS) * (CONCURRENCY + RATE * PROMISE_S)
