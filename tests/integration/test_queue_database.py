"""The durable queue in the database, on all three kinds, through the real plan and writer."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, func, select, text, update

from collector.errors import LeaseLostError
from collector.models import LaneKey, Outcome, Result
from collector.normalize import normalize
from collector.queue import letters
from collector.queue.database import RETRY_S, DatabaseQueue
from collector.queue.letters import dead_letters, depths, retry
from collector.store import look
from collector.store.engine import Database, is_deadlock
from collector.store.leases import Leases
from collector.store.plan import Opening, Plan
from collector.store.schema import leases as lease_rows
from collector.store.schema import queue_items
from collector.store.writes import Writer
from tests.support.inventory import ZONE, image

KEY = LaneKey("default", "cn-north-1")
OTHER = LaneKey("default", "cn-east-2")


class Worker:
    """One process that serves the account: its queue, leases, writer and the run it has open."""

    def __init__(self, database: Database, max_deliveries: int = 3) -> None:
        self.database = database
        self.queue = DatabaseQueue(database, max_deliveries=max_deliveries)
        self.leases = Leases(database, {"default": "ak:default"})
        self.writer = Writer(
            database,
            self.leases,
            settle=self.queue.settle,
            committed=lambda _, results, __: self.queue.committed(results),
        )

    async def begin(self) -> "Worker":
        await self.leases.take_all()
        await self.queue.connect(self.leases)
        await self.queue.begin("default")
        return await self.open()

    async def open(self) -> "Worker":
        opening = Opening("queue", "p" * 64, "c" * 64, "0", "narrowed", ZONE.key, "default")
        self.plan = await Plan.open(self.database, self.leases, opening, datetime.now(UTC), [KEY])
        return self

    async def take(self, limit: int = 10, key: LaneKey = KEY) -> list:
        return await self.queue.take(self.plan, key, limit)

    async def end(self, items, outcome: Outcome = Outcome.PRESENT) -> None:
        """Hand in results and commit them, as the writer's task does."""
        results = []
        for item in items:
            self.writer.lane(item.lane_id, KEY)
            content = None
            if outcome is Outcome.PRESENT:
                content = normalize(image(item.image_id), time_zone=ZONE)
            results.append(
                Result(item, outcome, 1, 5, datetime.now(UTC), error_message="why", image=content)
            )
        await self.writer.commit(results)
        self.queue.committed(results)


@asynccontextmanager
async def worker(url, **options):
    async with Database(url) as database:
        yield await Worker(database, **options).begin()


async def now_due(database):
    """Let all that waits for a retry be due."""
    async with database.write() as connection:
        await connection.execute(update(queue_items).values(ready_at=database.now(-1)))


async def rows(database, *columns):
    query = select(*(queue_items.c[name] for name in columns)).order_by(queue_items.c.image_id)
    async with database.read() as connection:
        return [tuple(row) for row in await connection.execute(query)]


async def test_reading_acknowledges(database_url):
    """`present` and `not_found` take an item out of the queue, with the commit of the result."""
    async with worker(database_url) as w:
        await w.queue.add(KEY, ["img-a", "img-b", "img-a"])
        assert await w.queue.due("default") == [KEY]

        items = await w.take()
        assert [item.image_id for item in items] == ["img-a", "img-b"]
        assert await w.take() == []
        (depth,) = await depths(w.database)
        assert (depth.ready, depth.in_flight, depth.failed) == (0, 2, 0)
        assert depth.flying_s is not None
        assert depth.flying_s >= 0

        await w.end(items[:1])
        await w.end(items[1:], Outcome.NOT_FOUND)

        assert await rows(w.database, "image_id") == []
        assert w.queue.in_flight(KEY) == 0
        assert await w.queue.due("default") == []


async def test_rollback_acknowledges_nothing(database_url):
    """An item whose result was not committed stays in the queue."""
    async with worker(database_url) as w:
        await w.queue.add(KEY, ["img-a"])
        items = await w.take()
        async with w.database.write() as connection:  # another process took the account
            await connection.execute(update(lease_rows).values(token=lease_rows.c.token + 1))

        with pytest.raises(LeaseLostError):
            await w.end(items)

        assert await rows(w.database, "image_id", "deliveries") == [("img-a", 1)]


async def test_failure_waits_longer_each_time_then_dies(database_url, monkeypatch):
    """A failed delivery is tried again after 30 s · 2ⁿ, after the last one it is a dead letter."""
    async with worker(database_url, max_deliveries=3) as w:
        await w.queue.add(KEY, ["img-a"])
        for attempt in range(3):
            await w.open()
            items = await w.take()
            assert len(items) == 1
            await w.end(items, Outcome.SERVER_ERROR)
            if attempt < 2:
                async with w.database.read() as connection:
                    query = select(queue_items.c.ready_at, w.database.now())
                    ready, now = (await connection.execute(query)).one()
                pause = (ready - now).total_seconds()
                assert RETRY_S * 2**attempt - 5 < pause <= RETRY_S * 2**attempt
                assert await w.queue.due("default") == []
            await now_due(w.database)

        dead = [letter async for letter in dead_letters(w.database)]
        assert [(one["image_id"], one["deliveries"], one["last_outcome"]) for one in dead] == [
            ("img-a", 3, "server_error")
        ]
        assert dead[0]["last_error"] == "why"
        assert await w.queue.due("default") == []

        monkeypatch.setattr(look, "LOOK_S", -1.0)
        assert await retry(w.database, ["cn-north-1/img-a"], None) == ["cn-north-1/img-a"]
        assert await w.queue.due("default") == [KEY]


async def test_dead_letters_are_retried_a_part_at_a_time(database_url, monkeypatch):
    """Who works on the queue does not wait until half a million of them are written."""
    monkeypatch.setattr(letters, "CHUNK", 2)
    async with Database(database_url) as database:
        queue = DatabaseQueue(database, max_deliveries=3)
        await queue.add(KEY, ids := [f"img-{letter}" for letter in "abcde"])
        await queue.add(OTHER, ["img-f"])
        async with database.write() as connection:
            dead = update(queue_items).where(queue_items.c.image_id != "img-b")
            await connection.execute(dead.values(dead_at=database.now()))
        commits = []
        event.listen(database.engine.sync_engine, "commit", commits.append)
        found = await retry(database, None, None)

        assert found == [*(f"cn-north-1/{one}" for one in ids if one != "img-b"), "cn-east-2/img-f"]
        assert len(commits) == 3
        assert await rows(database, "dead_at") == [(None,)] * 6
        assert await retry(database, None, None) == []


async def test_cut_deliveries_count(database_url):
    """An item that is in flight each time its process dies ends among the dead letters."""
    async with Database(database_url) as database:
        for _ in range(3):  # each a process that is killed: nothing is closed
            w = Worker(database, max_deliveries=2)
            async with database.write() as connection:
                await connection.execute(update(lease_rows).values(expires=database.now(-1)))
            await w.begin()
            await w.queue.add(KEY, ["img-a"]) if not await rows(database, "id") else None
            await w.take()

        assert await rows(database, "deliveries", "last_error") == [
            (2, "its process ended in the last of 2 deliveries")
        ]


async def test_own_cut_costs_nothing(database_url):
    """What a session leaves in flight when the database or broker fails did not fail by itself."""
    async with worker(database_url) as w:
        await w.queue.add(KEY, ["img-a"])
        await w.take()
        await w.queue.close()
        await w.leases.release()

        await w.begin()

        assert await rows(w.database, "deliveries", "token") == [(0, None)]
        assert len(await w.take()) == 1


async def test_not_attempted_costs_nothing(database_url):
    """What a run began and did not ask for waits again, at once, with its deliveries as before."""
    async with worker(database_url) as w:
        await w.queue.add(KEY, ["img-a", "img-b"])
        items = await w.take()
        await w.end(items[:1])
        await w.queue.give_back(w.plan.run_id)

        assert await rows(w.database, "image_id", "deliveries", "token") == [("img-b", 0, None)]
        assert w.queue.in_flight(KEY) == 0
        await w.open()
        assert [item.image_id for item in await w.take()] == ["img-b"]


async def test_added_in_flight_comes_again_in_the_next_run(database_url):
    """An id added while it is in flight is asked for once more, by another run."""
    async with worker(database_url) as w:
        await w.queue.add(KEY, ["img-a"])
        items = await w.take()
        assert await w.queue.add(KEY, ["img-a"]) == 1
        assert await w.queue.add(KEY, ["img-a"]) == 0
        await w.end(items)

        assert await rows(w.database, "deliveries", "again") == [(0, False)]
        assert await w.take() == []
        assert await w.queue.due("default", w.plan.run_id) == []
        await w.open()
        assert len(await w.take()) == 1


async def test_added_again_while_failing_for_good(database_url):
    """The last delivery fails, but it was added meanwhile: it gets new deliveries."""
    async with worker(database_url, max_deliveries=1) as w:
        await w.queue.add(KEY, ["img-a", "img-b"])
        items = await w.take()
        await w.queue.add(KEY, ["img-a"])
        await w.end(items, Outcome.DENIED)

        assert await rows(w.database, "image_id", "deliveries") == [("img-a", 0), ("img-b", 1)]
        assert [one["image_id"] async for one in dead_letters(w.database)] == ["img-b"]


async def test_add_collapses_and_revives(database_url):
    """What waits is not doubled nor hurried; a dead letter that is added lives again."""
    async with worker(database_url, max_deliveries=1) as w:
        assert await w.queue.add(KEY, ["img-a", "img-a"]) == 1
        assert await w.queue.add(KEY, ["img-a"]) == 0
        await w.end(await w.take(), Outcome.DENIED)
        assert (await depths(w.database))[0].failed == 1

        assert await w.queue.add(KEY, ["img-a"]) == 1

        (depth,) = await depths(w.database)
        assert (depth.ready, depth.failed) == (1, 0)


async def test_one_looks_for_all(database_url):
    """Hundreds of accounts without work ask the database once, not one after the other."""
    asked = []
    async with worker(database_url) as w:
        event.listen(w.database.engine.sync_engine, "begin", asked.append)
        await asyncio.gather(*(w.queue.due(f"team-{n}") for n in range(300)))

    assert len(asked) == 1


async def test_lanes_are_apart(database_url):
    """The same id in two regions is two items; each lane gives only its own."""
    async with worker(database_url) as w:
        await w.queue.add(KEY, ["img-a"])
        await w.queue.add(OTHER, ["img-a", "img-b"])

        assert await w.queue.due("default") == [OTHER, KEY]
        assert await w.queue.due("other") == []
        assert [i.image_id for i in await w.take(1, OTHER)] == ["img-a"]
        assert [i.image_id for i in await w.take()] == ["img-a"]


async def test_added_while_others_work(database_url):
    """Adding the same ids from several processes, while a worker settles them, loses none."""
    ids = [f"img-{n:03}" for n in range(120)]
    async with worker(database_url) as w, Database(database_url) as elsewhere:
        await w.queue.add(KEY, ids)

        async def add_more() -> None:
            queue = DatabaseQueue(elsewhere, max_deliveries=3)
            for _ in range(5):
                await queue.add(KEY, ids)

        async def work() -> None:
            while items := await w.take(20):
                await w.end(items)
            await w.open()

        async with asyncio.TaskGroup() as group:
            group.create_task(add_more())
            await work()
        for _ in range(8):
            await work()

        assert await rows(w.database, "id") == []
        async with w.database.read() as connection:
            from collector.store.schema import images

            seen = select(func.count()).select_from(images).where(images.c.state == "present")
            assert (await connection.execute(seen)).scalar_one() == len(ids)


WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx"
    " JOIN information_schema.processlist ON id = trx_mysql_thread_id"
    " WHERE db = database() AND trx_state = 'LOCK WAIT'",
}


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_added_again_after_a_deadlock(new_database, kind, monkeypatch):
    """What the database undid because somebody locked the same items the other way round."""
    deadlocks = []

    def noticed(error):
        deadlocks.append(is_deadlock(error))
        return deadlocks[-1]

    monkeypatch.setattr("collector.queue.database.is_deadlock", noticed)
    url, more = new_database(kind), update(queue_items).values(deliveries=1)
    async with Database(url) as database, Database(url) as elsewhere:
        queue = DatabaseQueue(database, max_deliveries=3)
        await queue.add(OTHER, [f"img-{n}" for n in range(100)])
        await queue.add(KEY, ["img-a", "img-z"])
        async with asyncio.TaskGroup() as group, elsewhere.write() as connection:
            # MariaDB undoes who changed less, PostgreSQL who waited first.
            await connection.execute(more.where(queue_items.c.image_id != "img-a"))
            adding = group.create_task(queue.add(KEY, ["img-a", "img-new", "img-z"]))
            waiting = 0
            while not waiting:
                await asyncio.sleep(0.2)  # who asks MariaDB again within 0.1 s is told the same
                async with elsewhere.read() as other:
                    waiting = (await other.execute(text(WAITING[kind]))).scalar_one()
            await connection.execute(more.where(queue_items.c.image_id == "img-a"))

        assert adding.result() == 1
        assert ("img-new",) in await rows(database, "image_id")
    assert deadlocks == [True]
