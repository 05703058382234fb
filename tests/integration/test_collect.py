"""One collection in this process, on the three databases, against the simulator on loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from collector import config, run
from collector.errors import LeaseLostError, UnavailableError
from collector.models import LaneKey
from collector.run import Collected, Order, collect, exit_code
from collector.session import load_credentials
from collector.simulator.faults import Faults
from collector.sources import Selection, Sources
from collector.store import leases, plan, schema
from collector.store.engine import Database
from collector.store.schema import observation_rows, runs
from collector.store.verify import verify
from collector.store.views import VIEWS
from tests.support.simulator import Simulator, SimulatorOptions, running

KEYS = {"JDCLOUD_ACCESS_KEY": "simulator", "JDCLOUD_SECRET_KEY": "simulator"}
OTHER = 'access_key = "other"\nsecret_key = "other"\n'


@dataclass
class World:
    """A simulator, a database, a configuration."""

    simulator: Simulator
    database: Database
    directory: Path

    async def collect(
        self,
        *,
        stop: asyncio.Event | None = None,
        regions: tuple[str, ...] = ("cn-north-1",),
        accounts: tuple[str, ...] = ("default",),
        fresh: bool = False,
        **api: Any,
    ) -> Collected:
        """Collect all private images of the regions for the accounts."""
        given = {"endpoint": self.simulator.url, "rate_limit": 1000, "account_rate_limit": 0} | api
        lines = ["[api]"] + [
            f"{k} = {v if isinstance(v, int) else f'{v!r}'}" for k, v in given.items()
        ]
        for account in accounts:
            keys = self.directory / f"{account}.toml"
            keys.write_text(
                OTHER.replace("other", account if account != "default" else "simulator")
            )
            keys.chmod(0o600)
            lines += ["[[accounts]]", f'name = "{account}"', f'credentials = "file:{keys}"']
            for region in regions:
                lines += ["[[targets]]", f'account = "{account}"', f'region = "{region}"']
                lines.append('discover = ["private"]')
        path = self.directory / "collector.toml"
        path.write_text("\n".join(lines).replace("True", "true").replace("False", "false"))
        settings = config.load(path, env={})
        credentials = load_credentials(settings, KEYS)
        with Sources.of(settings, Selection()) as sources:
            order = Order(sources, fresh=fresh)
            stop = stop or asyncio.Event()
            return await collect(settings, self.database, credentials, order, stop=stop)

    async def rows(self, query: Any) -> list[Any]:
        async with self.database.read() as connection:
            return list((await connection.execute(query)).mappings())

    def private(self, region: str = "cn-north-1") -> dict[str, dict[str, Any]]:
        """The simulator's truth."""
        images = {one: self.simulator.image(region, one) for one in self.simulator.ids(region)}
        return {k: v for k, v in images.items() if v is not None and v["imageSource"] == "private"}

    async def inventory(self) -> dict[str, str]:
        """Current images by id, with their description."""
        current = VIEWS["current_images"].c
        rows = await self.rows(select(current.image_id, current.description))
        return {row["image_id"]: row["description"] for row in rows}


@asynccontextmanager
async def world(url: str, directory: Path, **options: Any) -> AsyncIterator[World]:
    async with (
        running(SimulatorOptions(**options)) as simulator,
        Database(url) as database,
    ):
        yield World(simulator, database, directory)


@pytest.mark.parametrize("fetch", ["single", "batch"])
async def test_the_tables_follow_the_endpoint(
    database_url: str, tmp_path: Path, fetch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What appears, changes, vanishes and returns there is so here; trouble changes nothing."""
    monkeypatch.setattr(leases, "GAP_S", 0.001)  # nothing limits the rate here
    async with world(database_url, tmp_path, images=160) as here:
        simulator = here.simulator
        for step in range(5):
            there = here.private()
            one, two, three, *_ = sorted(there)
            match step:
                case 1:
                    simulator.delete("cn-north-1", one)
                    simulator.change("cn-north-1", two, desc="位 \U0001f680")
                case 2:
                    simulator.restore("cn-north-1", min(set(await here.inventory()) ^ {one}))
                    simulator.add("cn-north-1", "img-new", imageSource="private")
                case 3:
                    simulator.faults = Faults.parse("500=0.3,403=0.3,404=0.2,malformed=0.2")
                case 4:
                    simulator.faults = Faults()
                    simulator.delete("cn-north-1", three)
            before = await here.inventory()
            collected = await here.collect(fetch=fetch, max_attempts=1, adaptive=False)
            if step == 3:
                assert collected.summary.run["status"] != "complete"
                assert await here.inventory() == before
                continue
            assert collected.summary.run["status"] == "complete"
            expected = {k: v.get("desc") for k, v in here.private().items()}
            assert await here.inventory() == expected
            assert exit_code(collected, min_coverage=1.0, signal=None) == 0
        digests = await here.rows(select(runs.c.digest))
        assert len({row["digest"] for row in digests} - {None}) == 5


async def test_a_stopped_run_is_resumed(database_url: str, tmp_path: Path) -> None:
    """On every database: what was asked for is not asked again."""
    async with world(database_url, tmp_path, images=400) as here:
        stop = asyncio.Event()

        async def watch(request: Any) -> None:
            if here.simulator.requests["describeImage"] == 20:
                stop.set()

        here.simulator.intercept = watch
        first = await here.collect(stop=stop, rate_limit=100)
        assert first.summary.run["status"] == "interrupted"
        assert exit_code(first, min_coverage=1.0, signal=15) == 143
        second = await here.collect()
        assert (second.resumed, second.summary.run["status"]) == (True, "complete")
        assert second.summary.run["id"] == first.summary.run["id"]
        asked = [n for (_, one), n in here.simulator.hits.items() if one in here.private()]
        assert asked == [1] * len(here.private())


async def test_who_finds_nothing_abandoned_waits_for_no_opening(database_url: str) -> None:
    """Only what is to be sealed waits until no run is being opened, and is then looked for anew."""
    async with Database(database_url) as database:
        held = leases.Leases(database, {"default": "ak:default"})
        await held.take_all()
        # What a session is to this: no request is made.
        session: Any = SimpleNamespace(
            database=database,
            leases=held,
            runs=set(),
            opening=asyncio.Lock(),
            file=await database.identity(),
        )
        async with session.opening, asyncio.timeout(10):
            await run.seal_abandoned(session)

            opening = plan.Opening("run", "p" * 64, "c" * 64, "0", "whole", "Asia/Shanghai")
            key = LaneKey("default", "cn-north-1")
            mine, left = [
                (await plan.Plan.open(database, held, opening, datetime.now(UTC), [key])).run_id
                for _ in range(2)
            ]
            sealing = asyncio.ensure_future(run.seal_abandoned(session))
            await asyncio.wait((sealing,), timeout=0.5)
            session.runs.add(mine)
        await sealing

        query = select(runs.c.id).where(runs.c.digest.is_not(None))
        async with database.read() as connection:
            assert (await connection.execute(query)).scalars().all() == [left]
        await held.release()


async def test_a_run_of_an_account_that_was_renamed_is_sealed(
    database_url: str, tmp_path: Path
) -> None:
    """By whoever collects a day later; two at once are no harm."""
    keys = {"old": "old", "new": "new", "third": "third"}
    async with world(database_url, tmp_path, images=100, credentials=keys) as here:
        stop = asyncio.Event()

        async def watch(request: Any) -> None:
            if here.simulator.requests["describeImage"] == 5:
                stop.set()

        here.simulator.intercept = watch
        old = (await here.collect(accounts=("old",), stop=stop, concurrency=1)).summary.run
        assert (old["status"], old["digest"]) == ("interrupted", None)
        here.simulator.intercept = None

        async def ended() -> tuple[Any, ...]:
            columns = (runs.c.status, runs.c.finished_at, runs.c.digest)
            (row,) = await here.rows(select(*columns).where(runs.c.id == old["id"]))
            return tuple(row.values())

        await here.collect(accounts=("new",))
        assert await ended() == ("interrupted", old["finished_at"], None)
        async with here.database.write() as connection:
            days_ago = here.database.now(-2 * plan.RESUMABLE.total_seconds())
            for table, theirs, column in (
                (runs, runs.c.id == old["id"], "started_at"),
                (schema.leases, schema.leases.c.account == "old", "expires"),
            ):
                await connection.execute(update(table).where(theirs).values({column: days_ago}))
        await asyncio.gather(here.collect(accounts=("new",)), here.collect(accounts=("third",)))
        status, finished_at, digest = await ended()
        assert (status, finished_at) == ("interrupted", old["finished_at"])
        assert digest is not None
    async with Database(database_url, read_only=True) as database:
        assert [finding async for finding in verify(database)] == []


async def steal(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(update(schema.leases).values(token=schema.leases.c.token + 1))


async def break_it(database: Database) -> None:
    async with database.write() as connection:
        await connection.exec_driver_sql(
            "CREATE TRIGGER broken BEFORE UPDATE ON observation_rows"
            " BEGIN SELECT raise(FAIL, 'broken'); END"
        )


@pytest.mark.parametrize(("spoil", "error"), [(steal, LeaseLostError), (break_it, IntegrityError)])
async def test_a_run_that_cannot_write_stops_at_once(
    sqlite_url: str,
    tmp_path: Path,
    spoil: Callable[[Database], Any],
    error: type[Exception],
) -> None:
    """With its lease or its database gone it sends nothing more, and what it had is not written."""
    async with world(sqlite_url, tmp_path, images=800) as here:
        spoilt: list[int] = []

        async def watch(request: Any) -> None:
            if here.simulator.requests["describeImage"] == 30:
                await spoil(here.database)
                query = select(func.count()).where(observation_rows.c.outcome == "present")
                spoilt.append((await here.rows(query))[0]["count_1"])

        here.simulator.intercept = watch
        with pytest.raises(BaseExceptionGroup) as caught:
            await here.collect(rate_limit=50)
        assert caught.group_contains(error)
        asked = here.simulator.requests["describeImage"]
        assert 30 <= asked <= 30 + 50 + 16
        await asyncio.sleep(0)
        query = select(func.count()).where(observation_rows.c.outcome == "present")
        assert [(await here.rows(query))[0]["count_1"]] == spoilt
        assert here.simulator.requests["describeImage"] == asked


async def test_refused_credentials_of_one_account_leave_the_other(
    sqlite_url: str, tmp_path: Path
) -> None:
    """The run is partial (3), not refused (77): the other account was read."""
    credentials = {"good": "good"}
    async with world(sqlite_url, tmp_path, images=200, credentials=credentials) as here:
        collected = await here.collect(accounts=("good", "bad"))
        assert exit_code(collected, min_coverage=1.0, signal=None) == 3
        assert (collected.refused, collected.summary.run["listings_failed"]) == (False, 1)
        assert set(await here.inventory()) == set(here.private())


async def test_a_dead_region_does_not_slow_the_others(sqlite_url: str, tmp_path: Path) -> None:
    """It is given up by itself while they are read to their end."""
    async with world(sqlite_url, tmp_path, images=400) as here:
        regions = ("cn-north-1", "cn-east-1")
        await here.collect(regions=regions)
        here.simulator.faults = Faults.parse("region:cn-east-1=hang")
        # Long enough for an answer on a busy machine: the living region must not run into it.
        collected = await here.collect(regions=regions, max_attempts=1, timeout=4, concurrency=16)
        lanes = {lane["region"]: lane for lane in collected.summary.lanes}
        assert lanes["cn-north-1"]["coverage"] == 1.0
        assert lanes["cn-east-1"]["present"] == 0
        outcomes = {(f["region"], f["outcome"]) for f in collected.summary.failures}
        assert outcomes == {("cn-east-1", "timeout"), ("cn-east-1", "not_attempted")}
        assert len(await here.inventory()) == sum(len(here.private(region)) for region in regions)


async def test_many_at_once_never_share_an_account(database_url: str, tmp_path: Path) -> None:
    """Of several processes' worth of runs, one works at a time; nobody else calls."""
    async with world(database_url, tmp_path, images=100) as here:
        ended = await asyncio.gather(
            *(here.collect(fresh=True) for _ in range(4)), return_exceptions=True
        )
        done = [one for one in ended if isinstance(one, Collected)]
        assert len(done) == 1
        assert here.simulator.requests["describeImages"] == 1
        assert not any(isinstance(one, UnavailableError) for one in ended)


@pytest.mark.parametrize("hangs", ["describeImages", "describeImage"])
async def test_a_stop_does_not_wait_for_what_hangs(
    sqlite_url: str, tmp_path: Path, hangs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a while to end by itself; then it is abandoned, and the run is interrupted."""
    monkeypatch.setattr(run, "DRAIN_S", 0.2)
    stop = asyncio.Event()
    async with world(sqlite_url, tmp_path, images=100) as here:

        async def hang(request: Any) -> None:
            if here.simulator.requests[hangs]:
                stop.set()
                await asyncio.sleep(60)

        here.simulator.intercept = hang
        async with asyncio.timeout(10):
            collected = await here.collect(stop=stop)
        row = collected.summary.run
        planned = 0 if hangs == "describeImages" else len(here.private())
        assert (row["status"], row["planned"], row["present"]) == ("interrupted", planned, 0)
        assert row["digest"] is None
        here.simulator.intercept = None
        again = await here.collect()
        assert again.resumed == bool(planned)
        assert again.summary.run["status"] == "complete"
        statuses = await here.rows(select(runs.c.status, runs.c.digest).order_by(runs.c.id))
        assert None not in [row["digest"] for row in statuses]
