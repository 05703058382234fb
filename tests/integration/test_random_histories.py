"""Random histories through the real plan, writer, seal and retention: what is told is what was so.

The machine is drawn from: an image appears, changes, vanishes, returns; it cannot be read; the
collector is killed (between two transactions or in one) and resumes, or comes too late to resume;
old observations are pruned.
"""

import asyncio
import shutil
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from collector.models import Item, LaneKey, Members, Outcome, Result
from collector.normalize import members, normalize
from collector.store import ledger, plan, reads
from collector.store.engine import Database
from collector.store.leases import Leases
from collector.store.plan import Opening, Plan
from collector.store.prune import prune
from collector.store.schema import observation_rows, runs
from collector.store.verify import verify
from collector.store.writes import Writer
from tests.support.inventory import START, ZONE, disk, image

EXAMPLES, STEPS = 50, 25
"""Histories, and the steps of each, at most."""

LANES = (LaneKey("main", "cn-north-1"), LaneKey("main", "cn-east-2"))
IDS = ("img-a", "img-b", "img-c")
PLAN = "p" * 64
BATCH = 2
"""Results of a transaction."""

Image = tuple[LaneKey, str]
Content = tuple[str, int, str]
"""Name, number of data disks, and the account that an image is shared with."""
Told = tuple[str, tuple[Any, ...] | None]
"""What is known, and the content; of an image that is gone without its members."""

IMAGES = [(lane, image_id) for lane in LANES for image_id in IDS]
FAILURES = [o for o in Outcome if not o.is_reading and o is not Outcome.NOT_ATTEMPTED]
an_image = st.sampled_from(IMAGES)
content = st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.sampled_from("xy"))


class Killed(BaseException):
    """The process is no more."""


def answer(item: Item, there: Content | None, failure: Outcome | None, at: Any) -> Result:
    """What became of asking for an image that is as `there` says."""
    if failure is not None or there is None:
        return Result(item, failure or Outcome.NOT_FOUND, 1, 5, at)
    name, disks, pin = there
    sent = image(item.image_id, name=name, dataDisks=[disk(f"vd{n}") for n in range(disks)])
    seen = normalize(sent, time_zone=ZONE)
    shared = Members(Outcome.PRESENT, *members({"pins": [pin]}))
    return Result(item, Outcome.PRESENT, 1, 5, at, 200, image=seen, members=shared)


class Histories(RuleBasedStateMachine):
    """The world, the collector, and what it was told and could commit."""

    template: Path
    met: Counter[str]

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        path = Path(self.folder.name) / "histories.db"
        shutil.copy(self.template, path)
        self.loop = asyncio.Runner()
        self.database = Database(f"sqlite:///{path}")
        self.reader = Database(f"sqlite:///{path}", read_only=True)
        self.now = START
        self.world: dict[Image, Content | None] = dict.fromkeys(IMAGES[:-1], ("a", 1, "x"))
        self.heard: dict[Image, list[tuple[Any, Content | None]]] = {one: [] for one in IMAGES}
        self.failed: dict[Image, list[Any]] = {one: [] for one in IMAGES}
        self.digests: dict[int, str] = {}
        self.unfinished = False

    @rule(changes=st.dictionaries(an_image, st.none() | content, min_size=1))
    def world_changes(self, changes: dict[Image, Content | None]) -> None:
        """Images appear, change, vanish (None) and return."""
        self.world |= changes

    @rule(
        failing=st.dictionaries(an_image, st.sampled_from(FAILURES), max_size=3),
        hours=st.sampled_from((1, 2, 3, 25)),
        killed=st.none()
        | st.none()
        | st.tuples(st.integers(0, len(IMAGES) // BATCH), st.booleans()),
    )
    def collects(
        self, failing: dict[Image, Outcome], hours: int, killed: tuple[int, bool] | None
    ) -> None:
        """A run, or the rest of the unfinished one, to its seal or until it is killed.

        After a day the unfinished one is not resumed any more. Killed are (so many commits arrive,
        whether the next one had begun).
        """
        self.now += timedelta(hours=hours)
        after, inside = killed or (None, False)
        with suppress(Killed):
            self.loop.run(self._collect(failing, after, inside=inside))

    @rule(hours=st.integers(1, 60))
    def is_pruned(self, hours: int) -> None:
        """Old observations go; nothing that is told changes."""
        self.loop.run(self._prune(self.now - timedelta(hours=hours)))

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.loop.run(self._examine())
        finally:
            self.loop.run(self.reader.close())
            self.loop.run(self.database.close())
            self.loop.close()
            self.folder.cleanup()

    async def _collect(
        self, failing: dict[Image, Outcome], kill_after: int | None, *, inside: bool
    ) -> None:
        leases = Leases(self.database, {"main": "ak:main"})
        await leases.take_all()
        try:
            opened = await self._open(leases)
            self.unfinished = True
            await self._work(opened, leases, failing, kill_after, inside=inside)
            await plan.finish(self.database, opened.run_id, self._tick(), leases=leases)
            self.digests[opened.run_id] = await ledger.seal(self.database, opened.run_id)
            self.unfinished = False
        finally:  # whoever comes next replaces a holder that is dead
            await leases.release()

    async def _open(self, leases: Leases) -> Plan:
        old = await plan.unfinished(self.database, PLAN, self.now)
        assert old is None or self.unfinished
        keep = [] if old is None else [old]
        for run_id in await plan.unsealed(self.database, ["main"], self.now, keep=keep):
            await plan.finish(self.database, run_id, self._tick(), interrupted=True)
            self.digests[run_id] = await ledger.seal(self.database, run_id)
        if old is not None:
            opened = Plan(self.database, leases, old)
            await opened.resume()
            self.met["resumed"] += 1
            return opened
        opening = Opening("run", PLAN, "c" * 64, "0", "whole", ZONE.key)
        opened = await Plan.open(self.database, leases, opening, self.now, LANES)
        for lane in LANES:
            await opened.add(lane, IDS, self.now)
        await opened.planned(self.now)
        return opened

    async def _work(
        self,
        opened: Plan,
        leases: Leases,
        failing: dict[Image, Outcome],
        kill_after: int | None,
        *,
        inside: bool,
    ) -> None:
        async def settle(*_: object) -> None:
            if inside and kill_after is not None and kill_after <= commits:
                raise Killed  # and the transaction is rolled back

        writer, commits = Writer(self.database, leases, settle=settle), 0
        for lane, (number, _) in (await opened.lanes()).items():
            writer.lane(number, lane)
            items = [item async for page in opened.waiting(number) for item in page]
            for start in range(0, len(items), BATCH):
                if not inside and kill_after is not None and kill_after <= commits:
                    raise Killed
                results = [
                    answer(
                        item,
                        self.world.get((lane, item.image_id)),
                        failing.get((lane, item.image_id)),
                        self._tick(),
                    )
                    for item in items[start : start + BATCH]
                ]
                await writer.commit(results)
                commits += 1
                for result in results:
                    self._hear((lane, result.item.image_id), result)
        if kill_after is not None:
            raise Killed

    def _hear(self, one: Image, result: Result) -> None:
        if result.outcome.is_reading:
            there = self.world[one] if result.outcome is Outcome.PRESENT else None
            self.heard[one].append((result.observed_at, there))
        else:
            self.failed[one].append(result.observed_at)

    def _tick(self) -> Any:
        self.now += timedelta(milliseconds=1)
        return self.now

    async def _prune(self, before: Any) -> None:
        due = runs.c.digest.is_not(None) & (runs.c.finished_at < before)
        rows = select(func.count()).select_from(observation_rows.join(runs)).where(due)
        everything = select(func.count()).select_from(observation_rows)
        async with self.database.read() as connection:
            old = (await connection.execute(rows)).scalar_one()
            all_rows = (await connection.execute(everything)).scalar_one()
        done = await prune(self.database, before)
        async with self.database.read() as connection:
            left = (await connection.execute(everything)).scalar_one()
        self.met["pruned"] += done.rows
        assert (done.rows, done.refused, left) == (old, (), all_rows - old)

    def _known(self, one: Image, at: Any) -> Told:
        """What is to be said of an image as of a moment, from nothing but what was heard."""
        before = [there for when, there in self.heard[one] if when <= at]
        after = [there for when, there in self.heard[one] if when >= at]
        if not any(before):
            return "not known", None
        if before[-1] is None:
            return "gone", next(there[:2] for there in reversed(before) if there is not None)
        # The members have a history of their own: the version goes on when only they change.
        again = bool(after) and after[0] is not None and after[0][:2] == before[-1][:2]
        return ("confirmed" if again else "assumed"), before[-1]

    async def _examine(self) -> None:
        """At each moment that was heard, the database tells what was heard; it verifies."""
        async with self.reader.read() as connection:
            for (lane, image_id), heard in self.heard.items():
                moments = [at for at, _ in heard] + self.failed[lane, image_id]
                for row in await reads.find(connection, lane.region, image_id):
                    ever = any(there for _, there in heard)
                    expected = "unknown" if not ever else "present" if heard[-1][1] else "gone"
                    assert row["state"] == expected
                    assert row["last_checked_at"] == (heard[-1][0] if heard else None)
                    for at in moments:
                        found = await reads.as_of(connection, row, at)
                        assert told(found) == self._known((lane, image_id), at)
                        self.met[found.knowledge.value] += 1
        found = [finding async for finding in verify(self.reader, self.digests)]
        assert [finding for finding in found if finding.differs] == []
        assert len(found) <= self.unfinished


def told(found: reads.AsOf) -> Told:
    """What the database says, in the words of the world."""
    version = found.version
    if version is None:
        return found.knowledge.value, None
    data = [one for one in version["disks"] if one["role"] == "data"]
    assert len(data) + 1 == len(version["disks"])
    pins = [pin["pin"] for pin in found.members["pins"]] if found.members else []
    assert bool(pins) == (found.knowledge.value != "gone")
    return found.knowledge.value, (version["name"], len(data), *pins)


@pytest.mark.timeout(300)
def test_random_histories(sqlite_template: Path) -> None:
    """No overlap, no unexplained hole, nothing lost that was confirmed; and all of it verifies."""
    Histories.template, Histories.met = sqlite_template, Counter()
    sizes = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # the steps of a failure are printed; shortening them takes long
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Histories, settings=sizes)  # type: ignore[no-untyped-call]
    drawn = ("confirmed", "assumed", "gone", "not known", "resumed", "pruned")
    assert min(Histories.met[one] for one in drawn) > 0, Histories.met
