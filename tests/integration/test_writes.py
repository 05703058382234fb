"""The writer on the three databases: one transaction a batch, under the lease, whole or not."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from sqlalchemy import event, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from collector.errors import LeaseLostError, UnavailableError
from collector.models import Item, LaneKey, Members, Outcome, Result
from collector.normalize import fingerprint, normalize
from collector.store import schema
from collector.store.engine import Database
from collector.store.leases import Leases
from collector.store.plan import Opening, Plan
from collector.store.schema import (
    disk_attachments,
    image_versions,
    images,
    member_versions,
    observation_rows,
    run_lanes,
    runs,
    schema_drift,
)
from collector.store.views import VIEWS
from collector.store.writes import BATCH, FIRST, LEAST, SLOW_S, Writer
from tests.support.inventory import START, ZONE, disk, image

NORTH = LaneKey("default", "cn-north-1")
OPENING = Opening("run", "p" * 64, "c" * 64, "0.1.0", "whole", ZONE.key)
SECOND = timedelta(seconds=1)


class Store:
    """A database with a held lease, a run, and the writer."""

    def __init__(self, database: Database, leases: Leases) -> None:
        self.database = database
        self.leases = leases
        self.writer = Writer(database, leases)
        self.items: dict[str, Item] = {}
        self.run_id = 0

    async def plan(self, *ids: str) -> None:
        opened = await Plan.open(self.database, self.leases, OPENING, START, [NORTH])
        await opened.add(NORTH, ids, START)
        await opened.planned(START)
        self.run_id = opened.run_id
        ((number, _),) = (await opened.lanes()).values()
        self.writer.lane(number, NORTH)
        self.items = {item.image_id: item for item in await opened.items(NORTH, ids)}

    def result(
        self, image_id: str, outcome: Outcome, at: datetime, members: Any = None, **fields: Any
    ) -> Result:
        content = None
        if outcome is Outcome.PRESENT:
            content = normalize(image(image_id, **fields), time_zone=ZONE)
        return Result(
            self.items[image_id],
            outcome,
            attempts=2,
            duration_ms=9,
            observed_at=at,
            http_status=200,
            error_code="CODE",
            error_message="message \U0001f680 位",
            request_id="r",
            image=content,
            members=members,
        )

    async def commit(self, *results: Result) -> None:
        await self.writer.commit(results)

    async def rows(self, query: Any) -> list[Any]:
        async with self.database.read() as connection:
            return list((await connection.execute(query)).mappings())

    async def count(self, table: Any) -> int:
        async with self.database.read() as connection:
            query = select(func.count()).select_from(table)
            return int((await connection.execute(query)).scalar_one())


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with Database(database_url) as database:
        leases = Leases(database, {"default": "ak:default"})
        await leases.take_all()
        yield Store(database, leases)


@pytest.fixture
async def on_sqlite(sqlite_url: str) -> AsyncIterator[Store]:
    async with Database(sqlite_url) as database:
        leases = Leases(database, {"default": "ak:default"})
        await leases.take_all()
        yield Store(database, leases)


async def test_a_batch_writes_everything_that_belongs_together(store: Store) -> None:
    """Observation, state, version, disks, members and drift, and the run's counts."""
    await store.plan("img-1", "img-2", "img-3")
    partners = Members(Outcome.PRESENT, '{"pins":["p"]}', "f" * 64, (("p", "name"), ("q", None)))
    await store.commit(
        store.result(
            "img-1",
            Outcome.PRESENT,
            START,
            partners,
            dataDisks=[disk("vdb", 100), disk("vdc", 200, encrypt=True)],
            novelty="位\0",
        ),
        store.result("img-2", Outcome.NOT_FOUND, START),
        store.result("img-3", Outcome.THROTTLED, START),
    )
    (version,) = await store.rows(select(image_versions))
    assert (version["valid_from"], version["valid_to"], version["run_id"]) == (START, None, 1)
    assert version["fingerprint"] == fingerprint(version["payload"])
    assert json.loads(version["payload"])["novelty"] == "位\0"
    assert version["create_time"] == datetime(2025, 1, 28, 8, 49, 5, tzinfo=UTC)
    disks = await store.rows(select(disk_attachments).order_by(disk_attachments.c.id))
    assert [(d["role"], d["position"], d["disk_size_gb"]) for d in disks] == [
        ("system", 0, 40),
        ("data", 1, 100),
        ("data", 2, 200),
    ]
    members = await store.rows(select(VIEWS["current_members"]))
    assert sorted((m["image_id"], m["pin"], m["login_name"]) for m in members) == [
        ("img-1", "p", "name"),
        ("img-1", "q", None),
    ]
    drift = await store.rows(select(schema_drift.c.path, schema_drift.c.seen))
    assert {d["path"] for d in drift} >= {"image.novelty", "image.dataDisks[].cloudDisk.encrypt"}
    states = await store.rows(select(images).order_by(images.c.image_id))
    assert [state["state"] for state in states] == ["present", "unknown", "unknown"]
    assert [state["last_checked_at"] for state in states] == [START, START, None]
    observed = await store.rows(select(VIEWS["observations"]))
    assert {row["image_id"]: row["outcome"] for row in observed} == {
        "img-1": "present",
        "img-2": "not_found",
        "img-3": "throttled",
    }
    for row in observed:
        told = {row["attempts"], row["duration_ms"], row["error_message"], row["observed_at"]}
        assert told == {2, 9, "message \U0001f680 位", START}
    (run,) = await store.rows(select(runs))
    counts = [run[name] for name in ("planned", "present", "not_found", "failed")]
    assert counts == [3, 1, 1, 1]
    assert (run["new_versions"], run["unchanged"]) == (1, 0)


async def test_a_batch_is_written_whole_or_not_at_all(store: Store) -> None:
    """When its last statement fails, not a row of it is there, and no request is counted."""
    await store.plan("img-1", "img-2")

    async def settle(connection: AsyncConnection, batch: Sequence[Result]) -> None:
        raise UnavailableError("the disk is full")

    failing = Writer(store.database, store.leases, settle=settle)
    failing.lane(store.items["img-1"].lane_id, NORTH)
    failing.tally(store.run_id)["requests"] = 5
    with pytest.raises(UnavailableError):
        await failing.commit([store.result("img-1", Outcome.PRESENT, START)])
    assert await store.count(image_versions) == await store.count(disk_attachments) == 0
    (run,) = await store.rows(select(runs))
    assert (run["present"], run["requests"]) == (0, 0)
    outcomes = await store.rows(select(observation_rows.c.outcome))
    assert {row["outcome"] for row in outcomes} == {"not_attempted"}
    await store.commit(store.result("img-1", Outcome.PRESENT, START))
    assert await store.count(image_versions) == 1


async def test_a_late_token_cannot_write(store: Store) -> None:
    """A commit checks the lease in its own transaction: nothing of a late one is there."""
    await store.plan("img-1")
    change = {"token": schema.leases.c.token + 1}
    async with store.database.write() as connection:
        await connection.execute(update(schema.leases).values(change))
    store.writer.tally(store.run_id)["requests"] = 5
    for batch in ([store.result("img-1", Outcome.PRESENT, START)], []):
        with pytest.raises(LeaseLostError):
            await store.commit(*batch)
        store.writer.tally(store.run_id)["requests"] = 5
    assert await store.count(image_versions) == 0
    (run,) = await store.rows(select(runs))
    assert (run["present"], run["requests"]) == (0, 0)


async def test_unchanged_content_writes_no_version(store: Store) -> None:
    """However often it is seen; only the image's dates move, and a 404 dates the closing."""
    for hours in range(3):
        await store.plan("img-1")
        await store.commit(store.result("img-1", Outcome.PRESENT, START + timedelta(hours=hours)))
    assert await store.count(image_versions) == await store.count(disk_attachments) == 1
    assert [(r["new_versions"], r["unchanged"]) for r in await store.rows(select(runs))] == [
        (1, 0),
        (0, 1),
        (0, 1),
    ]
    await store.plan("img-1")
    await store.commit(store.result("img-1", Outcome.NOT_FOUND, START + timedelta(hours=9)))
    (version,) = await store.rows(select(image_versions))
    assert version["last_confirmed_at"] == START + timedelta(hours=2)
    assert version["valid_to"] == START + timedelta(hours=9)
    assert version["closed_run_id"] == store.run_id
    (state,) = await store.rows(select(images))
    assert (state["state"], state["gone_at"]) == ("gone", START + timedelta(hours=9))


async def test_an_answer_older_than_the_last_reading_is_an_observation_only(
    store: Store,
) -> None:
    """It is kept as evidence; neither the image nor its versions move."""
    await store.plan("img-1")
    await store.commit(store.result("img-1", Outcome.PRESENT, START))
    before = await store.rows(select(images))
    await store.plan("img-1")
    await store.commit(store.result("img-1", Outcome.NOT_FOUND, START - SECOND))
    assert await store.rows(select(images)) == before
    (version,) = await store.rows(select(image_versions))
    assert version["valid_to"] is None
    query = select(observation_rows.c.outcome).where(observation_rows.c.run_id == store.run_id)
    assert await store.rows(query) == [{"outcome": "not_found"}]


async def test_drift_tells_its_first_and_last_time_in_whatever_order_answers_come(
    store: Store,
) -> None:
    """Answers of one batch, or of two processes, need not come in the order of their times."""
    await store.plan("img-1", "img-2", "img-3", "img-4")
    hours = [START + timedelta(hours=n) for n in range(4)]
    new = schema_drift.c.path == "image.novelty"
    for some in ((2, 1), (3,), (0,)):
        results = [
            store.result(f"img-{n + 1}", Outcome.PRESENT, hours[n], novelty=True) for n in some
        ]
        await store.commit(*results)
        if some == (2, 1):
            (early,) = await store.rows(select(schema_drift.c.example_image_id).where(new))
            assert early["example_image_id"] == "img-2"
    (drift,) = await store.rows(select(schema_drift).where(new))
    assert (drift["seen"], drift["first_seen_at"], drift["last_seen_at"]) == (
        *(4, hours[0]),
        hours[3],
    )
    assert drift["example_image_id"] == "img-1"


async def test_random_lives_leave_histories_without_overlap(store: Store) -> None:
    """Over random outcomes in random batches: what the tables say is what was answered."""
    chance = random.Random(7)
    ids = [f"img-{number}" for number in range(12)]
    truth: dict[str, list[tuple[datetime, str | None]]] = {one: [] for one in ids}
    at = START
    for _ in range(12):
        await store.plan(*ids)
        batch = []
        for one in ids:
            at += SECOND
            outcome = chance.choice(
                [Outcome.PRESENT, Outcome.PRESENT, Outcome.NOT_FOUND, Outcome.TIMEOUT]
            )
            name = chance.choice("ab")
            batch.append(store.result(one, outcome, at, name=name))
            if outcome.is_reading:
                truth[one].append((at, name if outcome is Outcome.PRESENT else None))
        chance.shuffle(batch)
        await store.commit(*batch[:5])
        await store.commit(*batch[5:])
    history = VIEWS["image_history"].c
    rows = await store.rows(
        select(history.image_id, history.name, history.valid_from, history.valid_to).order_by(
            history.image_id, history.valid_from
        )
    )
    states = {row["image_id"]: row["state"] for row in await store.rows(select(images))}
    for one, readings in truth.items():
        versions = [row for row in rows if row["image_id"] == one]
        for when, name in readings:
            valid = [
                v["name"]
                for v in versions
                if v["valid_from"] <= when and (v["valid_to"] is None or when < v["valid_to"])
            ]
            assert valid == ([] if name is None else [name])
        expected = "unknown"
        if versions:
            expected = "present" if readings[-1][1] is not None else "gone"
        assert states[one] == expected


async def test_members_have_versions_of_their_own(store: Store) -> None:
    """A changed list closes one and opens another; one that could not be read changes nothing."""
    lists = [("f", "p"), ("f", "p"), None, ("g", "q")]
    for hours, members in enumerate(lists):
        await store.plan("img-1")
        found = Members(Outcome.TIMEOUT)
        if members is not None:
            found = Members(Outcome.PRESENT, "{}", members[0] * 64, ((members[1], None),))
        at = START + timedelta(hours=hours)
        await store.commit(store.result("img-1", Outcome.PRESENT, at, found))
    versions = await store.rows(select(member_versions).order_by(member_versions.c.valid_from))
    assert [(v["valid_from"], v["valid_to"], v["last_confirmed_at"]) for v in versions] == [
        (START, START + timedelta(hours=3), START + timedelta(hours=1)),
        (START + timedelta(hours=3), None, START + timedelta(hours=3)),
    ]
    assert await store.count(image_versions) == 1
    outcomes = await store.rows(select(observation_rows.c.members_outcome))
    kinds = [row["members_outcome"] for row in outcomes]
    assert kinds == ["present", "present", "timeout", "present"]


@asynccontextmanager
async def working(writer: Writer) -> AsyncIterator[None]:
    """The writer at work; what it raises ends the block."""
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.work())
        yield
        writer.close()


async def test_the_buffer_is_bounded_and_nothing_is_lost(on_sqlite: Store) -> None:
    """Whoever brings more than there is room for waits; after `drain` everything is there."""
    room = 2 * FIRST
    store, ids = on_sqlite, [f"img-{number:05}" for number in range(room + 2 * BATCH)]
    await store.plan(*ids)
    results = [store.result(one, Outcome.NOT_FOUND, START) for one in ids]
    for one in results[:room]:
        await store.writer.put(one)
    waits = asyncio.ensure_future(store.writer.put(results[room]))
    await asyncio.sleep(0)
    assert not waits.done()
    sizes: list[int] = []
    commit = store.writer.commit

    async def noted(batch: Sequence[Result]) -> None:
        sizes.append(len(batch))
        await commit(batch)

    store.writer.commit = noted
    async with working(store.writer):
        await waits
        for one in results[room + 1 :]:
            await store.writer.put(one)
        await store.writer.drain()
        (run,) = await store.rows(select(runs))
        assert run["not_found"] == len(ids) == sum(sizes)
        assert max(sizes) <= BATCH


async def test_slow_transactions_get_smaller(
    on_sqlite: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a transaction takes long, fewer items go into the next, and nobody brings many more."""
    store, ids = on_sqlite, [f"img-{number:05}" for number in range(1500)]
    await store.plan(*ids)
    monkeypatch.setattr("collector.store.writes.SLOW_S", 1e-6)
    sizes: list[int] = []
    commit = store.writer.commit

    async def noted(batch: Sequence[Result]) -> None:
        sizes.append(len(batch))
        await commit(batch)

    store.writer.commit = noted
    async with working(store.writer):
        for one in ids:
            await store.writer.put(store.result(one, Outcome.NOT_FOUND, START))
        await store.writer.drain()
    assert sizes[0] == FIRST
    assert {*sizes[1:-1]} == {LEAST}
    assert sum(filter(None, sizes)) == len(ids)


async def test_nothing_is_asked_while_a_commit_hangs(
    on_sqlite: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill loses at most a second of finished work, though the database takes minutes."""
    store = on_sqlite
    await store.plan("img-1", "img-2")
    commit, hang = store.writer.commit, asyncio.Event()

    async def hanging(batch: Sequence[Result]) -> None:
        await hang.wait()
        await commit(batch)

    store.writer.commit = hanging
    async with working(store.writer):
        await store.writer.put(store.result("img-1", Outcome.NOT_FOUND, START))
        await store.writer.room()  # there is room as long as it is fresh
        monkeypatch.setattr("collector.store.writes.COMMITTED_S", -1.0)
        asking = asyncio.ensure_future(store.writer.room())
        await store.writer.put(store.result("img-2", Outcome.NOT_FOUND, START))  # was in flight
        await asyncio.sleep(0)
        assert not asking.done()
        monkeypatch.undo()
        hang.set()
        await asking
    (run,) = await store.rows(select(runs))
    assert run["not_found"] == 2


async def test_nobody_is_woken_for_nothing(
    on_sqlite: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands wait with hundreds of lanes: they wake when they may ask, not at every commit."""

    class Counted(asyncio.Event):
        waits = 0

        @override
        async def wait(self) -> Literal[True]:
            self.waits += 1
            return await super().wait()

    store, ids = on_sqlite, [f"img-{number:05}" for number in range(300)]
    await store.plan(*ids)
    monkeypatch.setattr("collector.store.writes.SLOW_S", 1e-6)
    monkeypatch.setattr("collector.store.writes.COMMITTED_S", -1.0)
    store.writer._calm = calm = Counted()
    for one in ids[:100]:
        await store.writer.put(store.result(one, Outcome.NOT_FOUND, START))
    asking = [asyncio.ensure_future(store.writer.room()) for _ in range(50)]
    async with working(store.writer):
        for one in ids[100:]:
            await store.writer.put(store.result(one, Outcome.NOT_FOUND, START))
        await asyncio.gather(*asking)

    assert calm.waits == 50


async def test_lanes_are_counted_together(store: Store) -> None:
    """A transaction of hundreds of lanes takes no statement for each of them."""
    keys = [LaneKey("default", f"cn-{number}") for number in range(60)]
    opened = await Plan.open(store.database, store.leases, OPENING, START, keys)
    results = []
    for number, key in enumerate(keys):
        await opened.add(key, ["img-1"], START)
        (item,) = await opened.items(key, ["img-1"])
        store.writer.lane(item.lane_id, key)
        store.items["img-1"] = item
        outcome = (Outcome.NOT_FOUND, Outcome.TIMEOUT)[number % 2]
        results.append(store.result("img-1", outcome, START))
    told: list[str] = []
    event.listen(
        store.database.engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: told.append(statement),
    )
    await store.commit(*results)

    assert sum(statement.startswith("UPDATE run_lanes") for statement in told) == 2
    counts = await store.rows(select(run_lanes).order_by(run_lanes.c.lane_id))
    assert [(row["not_found"], row["failed"]) for row in counts] == [(1, 0), (0, 1)] * 30


async def test_transactions_grow_as_far_as_they_are_fast(on_sqlite: Store) -> None:
    """Twice as many items, if they would have fitted; a small one says nothing against more."""
    writer = on_sqlite.writer
    for items, took_s, limit in [
        (FIRST, SLOW_S / 10, 2 * FIRST),
        (2 * FIRST, SLOW_S / 1.1, int(2.2 * FIRST)),
        (1, SLOW_S / 2, int(2.2 * FIRST)),
        (100, SLOW_S * 1.25, 80),
        (80, SLOW_S * 100, LEAST),
        (BATCH, SLOW_S / 100, BATCH),
    ]:
        writer._pace(items, took_s)
        assert writer._limit == pytest.approx(limit, abs=1)


async def test_a_result_waits_less_than_a_second_for_its_commit(on_sqlite: Store) -> None:
    """A kill loses at most one second of finished work, however slowly results come."""
    store = on_sqlite
    await store.plan("img-1", "img-2", "img-3")
    committed = asyncio.Event()
    commit = store.writer.commit

    async def noted(batch: Sequence[Result]) -> None:
        await commit(batch)
        committed.set()

    store.writer.commit = noted
    async with working(store.writer):
        for one in ("img-1", "img-2", "img-3"):
            await store.writer.put(store.result(one, Outcome.NOT_FOUND, START))
            async with asyncio.timeout(1.0):
                await committed.wait()
            committed.clear()
            (run,) = await store.rows(select(runs))
            assert run["not_found"] == int(one[-1])


async def test_two_answers_for_one_image_build_on_each_other(on_sqlite: Store) -> None:
    """They never share a batch: the second one's change is judged after the first's commit."""
    store = on_sqlite
    await store.plan("img-1", "img-2")
    async with working(store.writer):
        for number, name in enumerate(["a", "b", "b", "c"]):
            at = START + number * SECOND
            await store.writer.put(store.result("img-1", Outcome.PRESENT, at, name=name))
            await store.writer.put(store.result("img-2", Outcome.PRESENT, at, name=name))
    names = await store.rows(select(image_versions.c.name).order_by(image_versions.c.valid_from))
    assert Counter(row["name"] for row in names) == {"a": 2, "b": 2, "c": 2}
    open_ones = select(image_versions.c.name).where(image_versions.c.valid_to.is_(None))
    assert await store.rows(open_ones) == [{"name": "c"}, {"name": "c"}]


@pytest.mark.parametrize("ticks", range(4))
async def test_the_writer_ends_when_told_to_as_its_batch_is_full(
    on_sqlite: Store, ticks: int
) -> None:
    """A cancellation that meets the last result of a batch is not lost."""
    store = on_sqlite
    ids = [f"img-{number:05}" for number in range(FIRST)]
    await store.plan(*ids)
    working = asyncio.ensure_future(store.writer.work())
    await store.writer.put(store.result(ids[0], Outcome.NOT_FOUND, START))
    for _ in range(4):
        await asyncio.sleep(0)
    for one in ids[1:]:
        await store.writer.put(store.result(one, Outcome.NOT_FOUND, START))
    for _ in range(ticks):
        await asyncio.sleep(0)
    working.cancel()
    await asyncio.wait((working,), timeout=5)
    assert working.cancelled()


async def test_a_failing_database_ends_the_writer(on_sqlite: Store) -> None:
    """It does not go on with the next batch as if nothing had happened."""
    store = on_sqlite
    await store.plan("img-1")
    async with store.database.write() as connection:
        await connection.exec_driver_sql("DROP TABLE run_lanes")
    with pytest.RaisesGroup(pytest.RaisesExc(UnavailableError, match="no such table")):
        async with working(store.writer):
            await store.writer.put(store.result("img-1", Outcome.NOT_FOUND, START))
            await asyncio.Event().wait()


def counts(row: Mapping[str, Any]) -> list[int]:
    return [row[name] for name in ("planned", "present", "not_found", "failed")]


async def test_requests_are_counted_with_or_without_results(store: Store) -> None:
    """Also those of listings, and those that no result has come of yet."""
    await store.plan("img-1")
    tally = store.writer.tally(store.run_id)
    tally["requests"], tally["retries"], tally["throttled"] = 3, 1, 1
    await store.commit()
    tally["requests"] = 2
    await store.commit(store.result("img-1", Outcome.THROTTLED, START))
    await store.commit()
    (run,) = await store.rows(select(runs))
    assert (run["requests"], run["retries"], run["throttled"]) == (5, 1, 1)
    (lane,) = await store.rows(select(run_lanes))
    assert counts(run) == counts(lane) == [1, 0, 0, 1]
