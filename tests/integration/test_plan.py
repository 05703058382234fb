"""The durable plan on the three databases: what waits, what adds up, who may resume and seal."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from collector.errors import LeaseLostError
from collector.models import Item, LaneKey, Members, Outcome, Result
from collector.normalize import normalize
from collector.store import ledger, plan, schema
from collector.store.engine import Database
from collector.store.leases import Leases, void
from collector.store.plan import CHUNK, PAGE, RESUMABLE, Opening, Plan
from collector.store.schema import images, observation_rows, run_lanes, runs
from collector.store.views import VIEWS
from collector.store.writes import Writer
from tests.support.inventory import START, ZONE, image

NORTH, EAST = LaneKey("default", "cn-north-1"), LaneKey("default", "cn-east-1")
OTHER = LaneKey("other", "cn-north-1")
OPENING = Opening("run", "p" * 64, "c" * 64, "0.1.0", "whole", ZONE.key)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url) as database:
        yield database


@pytest.fixture
async def leases(database: Database) -> Leases:
    leases = Leases(database, {"default": "ak:default"})
    await leases.take_all()
    return leases


async def row_of(database: Database, run_id: int) -> Any:
    async with database.read() as connection:
        return (await connection.execute(select(runs).where(runs.c.id == run_id))).one()


async def outcomes(database: Database, run_id: int) -> dict[str, Counter[str]]:
    """Outcomes by region, as the view `observations` has them."""
    seen = VIEWS["observations"].c
    query = select(seen.region, seen.outcome, func.count()).where(seen.run_id == run_id)
    found: dict[str, Counter[str]] = {}
    async with database.read() as connection:
        rows = await connection.execute(query.group_by(seen.region, seen.outcome))
        for region, outcome, count in rows:
            found.setdefault(region, Counter())[outcome] = count
    return found


async def check_counts(database: Database, run_id: int, *, finished: bool) -> None:
    """Run and lanes count what their observations are; nothing is ever in two places or none."""
    seen = await outcomes(database, run_id)
    async with database.read() as connection:
        coverage = VIEWS["run_coverage"]
        query = select(coverage).where(coverage.c.run_id == run_id)
        lanes = (await connection.execute(query)).all()
    row = await row_of(database, run_id)
    for counted, real in [
        *((lane, seen.get(lane.region, Counter())) for lane in lanes),
        (row, sum(seen.values(), Counter())),
    ]:
        waiting = real["not_attempted"]
        assert counted.planned == real.total()
        assert (counted.present, counted.not_found) == (real["present"], real["not_found"])
        failed = real.total() - real["present"] - real["not_found"] - (0 if finished else waiting)
        assert counted.failed == failed
    assert row.planned == sum(lane.planned for lane in lanes)


def result(item: Item, outcome: Outcome, at: datetime, **fields: Any) -> Result:
    content = None
    if outcome is Outcome.PRESENT:
        content = normalize(image(item.image_id), time_zone=ZONE)
    return Result(item, outcome, attempts=1, duration_ms=1, observed_at=at, image=content, **fields)


async def waiting(opened: Plan, lane: int) -> list[Item]:
    found: list[Item] = []
    async for page in opened.waiting(lane):
        assert len(page) <= PAGE
        found += page
    return found


async def opened_with(
    database: Database, leases: Leases, planned: dict[LaneKey, Sequence[str]]
) -> Plan:
    opened = await Plan.open(database, leases, OPENING, START, planned)
    for key, ids in planned.items():
        await opened.add(key, ids, START)
    await opened.planned(START)
    return opened


async def test_every_id_is_planned_once(database: Database, leases: Leases) -> None:
    """Repetitions, within a call and between calls, leave one row an item, not yet attempted."""
    many = [f"img-{number % 1500:04}" for number in range(2 * CHUNK)]
    opened = await opened_with(database, leases, {NORTH: many, EAST: ["img-0001", "img-0001"]})
    await opened.add(NORTH, ["img-0001", "IMG-0001", "img-0001 "[:8]], START)
    await opened.planned(START)
    assert await outcomes(database, opened.run_id) == {
        "cn-north-1": {"not_attempted": 1501},  # ids are case-sensitive
        "cn-east-1": {"not_attempted": 1},
    }
    await check_counts(database, opened.run_id, finished=False)
    lanes = await opened.lanes()
    assert {key: count for key, (_, count) in lanes.items()} == {NORTH: 1501, EAST: 1}
    ids = [item.image_id for item in await waiting(opened, lanes[NORTH][0])]
    assert len(ids) == len(set(ids)) == 1501
    async with database.read() as connection:
        states = await connection.execute(select(images.c.state).distinct())
        assert list(states.scalars()) == ["unknown"]


async def test_a_resumed_run_reads_only_what_waits(database: Database, leases: Leases) -> None:
    """What has an outcome, a failure too, is never asked for again; counts hold all the way."""
    ids = [f"img-{number:04}" for number in range(PAGE + 30)]
    opened = await opened_with(database, leases, {NORTH: ids, EAST: ids[:3]})
    lanes, writer = await opened.lanes(), Writer(database, leases)
    for key, (number, _) in lanes.items():
        writer.lane(number, key)
    items = await waiting(opened, lanes[NORTH][0])
    writer.tally(opened.run_id)["requests"] = 7
    done = [Outcome.PRESENT, Outcome.NOT_FOUND, Outcome.SERVER_ERROR, Outcome.DENIED]
    await writer.commit([result(i, o, START) for i, o in zip(items, done, strict=False)])
    await check_counts(database, opened.run_id, finished=False)
    late = START + timedelta(minutes=1)
    status = await plan.finish(database, opened.run_id, late, interrupted=True)
    assert status == "interrupted"
    await check_counts(database, opened.run_id, finished=True)

    for _ in range(2):  # killed after it was resumed, and resumed again
        found = await plan.unfinished(database, "p" * 64, START + timedelta(hours=1))
        assert found == opened.run_id
        again = Plan(database, leases, found)
        await again.resume()
        await check_counts(database, found, finished=False)
        row = await row_of(database, found)
        assert (row.status, row.finished_at, row.requests) == ("running", None, 7)
    left = await waiting(again, lanes[NORTH][0])
    assert [item.image_id for item in left] == ids[4:]
    await writer.commit([result(item, Outcome.PRESENT, late) for item in left[:PAGE]])
    await writer.commit([result(item, Outcome.PRESENT, late) for item in left[PAGE:]])
    east = await waiting(again, lanes[EAST][0])
    await writer.commit([result(item, Outcome.NOT_FOUND, late) for item in east])
    await check_counts(database, found, finished=False)
    assert await plan.finish(database, found, late) == "partial"
    await check_counts(database, found, finished=True)
    assert (await row_of(database, found)).unchanged == 0


async def test_runs_and_accounts_do_not_mix(database: Database) -> None:
    """One id in two accounts is two images; one image in two runs is two items."""
    leases = Leases(database, {"default": "ak:default", "other": "ak:other"})
    await leases.take_all()
    first = await opened_with(database, leases, {NORTH: ["img-1", "img-2"], OTHER: ["img-1"]})
    second = await opened_with(database, leases, {OTHER: ["img-1"]})
    later = LaneKey("other", "cn-east-1")
    await second.add(later, ["img-9"], START)  # a lane that was not named before
    numbers = {key: number for key, (number, _) in (await first.lanes()).items()}
    async with database.read() as connection:
        attempts = await connection.execute(select(observation_rows.c.attempts).distinct())
        assert list(attempts.scalars()) == [0]

    writer = Writer(database, leases)
    writer.lane(numbers[OTHER], OTHER)
    (item,) = await waiting(first, numbers[OTHER])
    await writer.commit([result(item, Outcome.NOT_FOUND, START)])
    third = await opened_with(database, leases, {NORTH: ["img-2"]})
    every = (first, second, third)
    lanes = [{key: n for key, (_, n) in (await one.lanes()).items()} for one in every]
    assert lanes == [{NORTH: 2, OTHER: 0}, {OTHER: 1, later: 1}, {NORTH: 1}]
    assert await waiting(first, numbers[OTHER]) == []
    assert [one.run_id for one in await waiting(second, numbers[OTHER])] == [second.run_id]

    for opened in (first, second):
        await opened.planned(START)
        await opened.listing_failed()
        await opened.listing_failed()
        assert (await row_of(database, opened.run_id)).listings_failed == 2
        await plan.finish(database, opened.run_id, START, interrupted=True)
        await opened.resume()
        assert (await row_of(database, opened.run_id)).failed == 0


@pytest.mark.parametrize(
    ("done", "options", "status"),
    [
        ([Outcome.PRESENT, Outcome.NOT_FOUND], {}, "complete"),
        ([Outcome.PRESENT, Outcome.NOT_FOUND], {"interrupted": True}, "complete"),
        ([Outcome.PRESENT, Outcome.DENIED], {}, "partial"),
        ([Outcome.NOT_FOUND], {}, "partial"),
        ([Outcome.NOT_FOUND], {"interrupted": True}, "interrupted"),
        ([Outcome.DENIED, Outcome.TIMEOUT], {}, "failed"),
        ([], {}, "failed"),
        ([], {"cut": True}, "partial"),
        ([], {"interrupted": True}, "interrupted"),
    ],
)
async def test_a_run_ends_by_what_was_read(
    sqlite_url: str, done: list[Outcome], options: dict[str, bool], status: str
) -> None:
    """Complete, partial, failed or interrupted, as the outcomes of its two items say."""
    async with Database(sqlite_url) as database:
        leases = Leases(database, {"default": "ak:default"})
        await leases.take_all()
        opened = await opened_with(database, leases, {NORTH: ["img-1", "img-2"]})
        ((number, _),) = (await opened.lanes()).values()
        writer, items = Writer(database, leases), await waiting(opened, number)
        writer.lane(number, NORTH)
        await writer.commit([result(i, o, START) for i, o in zip(items, done, strict=False)])
        assert await plan.finish(database, opened.run_id, START, **options) == status
        assert (await row_of(database, opened.run_id)).status == status
        await check_counts(database, opened.run_id, finished=True)


async def test_a_failed_listing_or_unread_members_make_it_partial(sqlite_url: str) -> None:
    """Though every item was read."""
    async with Database(sqlite_url) as database:
        leases = Leases(database, {"default": "ak:default"})
        await leases.take_all()
        for unread, unlisted in ((True, False), (False, True), (False, False)):
            opened = await opened_with(database, leases, {NORTH: ["img-1"]})
            ((number, _),) = (await opened.lanes()).values()
            writer, (item,) = Writer(database, leases), await waiting(opened, number)
            writer.lane(number, NORTH)
            members = Members(Outcome.DENIED if unread else Outcome.PRESENT, "{}", "f" * 64)
            found = result(item, Outcome.PRESENT, datetime.now(UTC), members=members)
            await writer.commit([found])
            if unlisted:
                await opened.listing_failed()
            status = await plan.finish(database, opened.run_id, START)
            assert (status == "partial") == (unread or unlisted)


async def test_an_empty_run_is_complete_only_when_its_plan_was_whole(sqlite_url: str) -> None:
    """A listing that is whole and empty is complete; one that was cut short says nothing."""
    async with Database(sqlite_url) as database:
        leases = Leases(database, {"default": "ak:default"})
        await leases.take_all()
        whole = await opened_with(database, leases, {NORTH: []})
        assert await plan.finish(database, whole.run_id, START) == "complete"
        cut = await Plan.open(database, leases, OPENING, START, [NORTH])
        await cut.add(NORTH, ["img-1"], START)
        status = await plan.finish(database, cut.run_id, START, interrupted=True)
        assert status == "interrupted"
        await check_counts(database, cut.run_id, finished=True)


async def test_which_run_can_be_resumed(database: Database, leases: Leases) -> None:
    """The newest of the plan that was planned whole, is not finished, and is under a day old."""
    now = START + timedelta(hours=1)
    assert await plan.unfinished(database, "p" * 64, now) is None
    unplanned = await Plan.open(database, leases, OPENING, START, [NORTH])
    assert await plan.unfinished(database, "p" * 64, now) is None
    opened = await opened_with(database, leases, {NORTH: ["img-1"]})
    assert await plan.unfinished(database, "p" * 64, now) == opened.run_id
    assert await plan.unfinished(database, "q" * 64, now) is None
    late = START + RESUMABLE
    assert await plan.unfinished(database, "p" * 64, late - timedelta(seconds=1)) == opened.run_id
    assert await plan.unfinished(database, "p" * 64, late) is None
    assert opened.run_id != unplanned.run_id
    newer = await opened_with(database, leases, {NORTH: ["img-1"]})
    assert await plan.unfinished(database, "p" * 64, now) == newer.run_id
    await plan.finish(database, newer.run_id, now, interrupted=True)
    await ledger.seal(database, newer.run_id)  # as `--fresh` does
    assert await plan.unfinished(database, "p" * 64, now) == opened.run_id
    await plan.finish(database, opened.run_id, now)
    assert await plan.unfinished(database, "p" * 64, now) is None


async def test_who_may_seal_which_run(database: Database) -> None:
    """What nobody resumes, by whoever holds all its accounts, from the very first moment."""
    leases = Leases(database, {"default": "ak:default", "other": "ak:other"})
    await leases.take_all()
    now = START + timedelta(hours=1)

    async def mine(accounts: Sequence[str] = ("default",), **options: Any) -> list[int]:
        at = options.pop("at", now)
        return await plan.unsealed(database, accounts, at, keep=options.pop("keep", ()))

    unplanned = (await Plan.open(database, leases, OPENING, START, [NORTH])).run_id
    foreign = (await Plan.open(database, leases, OPENING, START, [NORTH, OTHER])).run_id
    resumable = (await opened_with(database, leases, {EAST: ["img-1"]})).run_id
    queued = await Plan.open(database, leases, Opening("queue", *OPENING_REST), START, [NORTH])
    await queued.planned(START)
    assert await mine() == [unplanned, queued.run_id]
    assert await mine(keep={queued.run_id}) == [unplanned]
    assert await mine(accounts=("other",)) == []
    assert await mine(accounts=("default", "other")) == [unplanned, foreign, queued.run_id]
    assert resumable in await mine(at=START + RESUMABLE)
    finished = (await opened_with(database, leases, {EAST: ["img-2"]})).run_id
    await plan.finish(database, finished, now)
    assert await mine() == [unplanned, queued.run_id, finished]
    await plan.finish(database, resumable, now, interrupted=True)
    assert resumable not in await mine()
    for run_id in await mine():
        await plan.finish(database, run_id, now, interrupted=True)
        await ledger.seal(database, run_id)
    assert await mine() == []


async def test_a_run_of_an_account_that_nobody_holds_any_more(database: Database) -> None:
    """Renamed or no longer configured, it has no next holder: whoever comes a day later may."""
    lost = Leases(database, {"default": "ak:default", "other": "ak:other"})
    await lost.take_all()
    both = {NORTH: ["img-1"], OTHER: ["img-1"]}
    run_id = (await opened_with(database, lost, both)).run_id
    late = await Plan.open(database, lost, OPENING, START, [OTHER])
    lease, day = schema.leases.c, RESUMABLE.total_seconds()

    async def mine(ago_s: float, at: datetime = START + RESUMABLE) -> list[int]:
        async with database.write() as connection:
            old = update(schema.leases).where(lease.account == "other")
            await connection.execute(old.values(expires=database.now(-ago_s)))
        return await plan.unsealed(database, ["default"], at, keep=())

    assert await mine(day + 60) == [run_id, late.run_id]
    assert await mine(day + 60, START + RESUMABLE - timedelta(seconds=1)) == []
    assert await mine(day - 60) == []  # a short night, and it may come back

    await void(database, RESUMABLE)
    await late.add(OTHER, ["img-2"], START)
    await void(database, RESUMABLE / 2)
    with pytest.raises(LeaseLostError):
        await late.add(OTHER, ["img-3"], START)
    async with database.read() as connection:
        query = select(lease.account, lease.token).order_by(lease.account)
        assert [tuple(row) for row in await connection.execute(query)] == [
            *(("default", 1), ("other", 2))
        ]


OPENING_REST = [getattr(OPENING, name) for name in Opening.__slots__ if name != "trigger"]


@pytest.mark.parametrize("options", [{}, {"interrupted": True}])
async def test_a_finished_run_keeps_its_end(
    database: Database, leases: Leases, options: dict[str, bool]
) -> None:
    """Killed before it was sealed, it is closed a day later: nothing was read on that day."""
    opened = await opened_with(database, leases, {NORTH: ["img-1"]})
    status = await plan.finish(database, opened.run_id, START, **options)
    before = await row_of(database, opened.run_id)
    later = START + timedelta(days=1)
    assert await plan.finish(database, opened.run_id, later, interrupted=True) == status
    assert await row_of(database, opened.run_id) == before


async def test_which_run_of_an_account_was_the_last_whole_one(database: Database) -> None:
    """The newest over all targets that has a lane of the account; the schedule counts from it."""
    leases = Leases(database, {"default": "ak:default", "other": "ak:other"})
    await leases.take_all()
    narrowed = replace(OPENING, scope="narrowed")
    later = START + timedelta(hours=1)

    async def last(account: str = "default") -> tuple[datetime, bool] | None:
        return await plan.last_whole(database, account)

    await Plan.open(database, leases, narrowed, START, [NORTH])
    assert await last() is None
    first = await Plan.open(database, leases, OPENING, START, [NORTH, EAST])
    assert (await last(), await last("other")) == ((START, False), None)
    await plan.finish(database, first.run_id, later, interrupted=True)
    assert await last() == (START, False)
    await first.resume()
    await plan.finish(database, first.run_id, later)
    assert await last() == (START, True)
    await Plan.open(database, leases, OPENING, later, [NORTH, OTHER])
    assert (await last(), await last("other")) == ((later, False), (later, False))
    await Plan.open(database, leases, narrowed, later, [NORTH])
    await Plan.open(database, leases, OPENING, later + timedelta(hours=1), [OTHER])
    assert await last() == (later, False)


async def test_planned_ids_are_items_in_the_order_that_was_asked_for(database: Database) -> None:
    """Each with the key of its own account's and region's image."""
    leases = Leases(database, {"default": "ak:default", "other": "ak:other"})
    await leases.take_all()
    ids = ["img-2", "img-3", "img-1"]
    planned = {OTHER: ids, EAST: ids, NORTH: ["img-1", "img-2", "img-3", "img-4"]}
    opened = await opened_with(database, leases, planned)
    lanes = await opened.lanes()
    for key in planned:
        number, _ = lanes[key]
        of = {item.image_id: item for item in await waiting(opened, number)}
        assert await opened.items(key, ids) == [of[image_id] for image_id in ids]
    assert await opened.items(NORTH, []) == []


async def test_a_sealed_run_stays_as_it_is(database: Database, leases: Leases) -> None:
    """Whoever finishes it again, or late, changes nothing."""
    opened = await opened_with(database, leases, {NORTH: ["img-1"]})
    await plan.finish(database, opened.run_id, START)
    digest = await ledger.seal(database, opened.run_id)
    before = await row_of(database, opened.run_id)
    later = START + timedelta(hours=3)
    assert await plan.finish(database, opened.run_id, later, cut=True) == "failed"
    assert await ledger.seal(database, opened.run_id) == digest
    assert await row_of(database, opened.run_id) == before


async def test_known_images_are_those_that_may_still_be_there(
    database: Database, leases: Leases
) -> None:
    """Not gone, and last seen with one of the sources; page by page in the order of ids."""
    ids = [f"img-{number:04}" for number in range(1200)]
    opened = await opened_with(database, leases, {NORTH: [*ids, "shared", "gone", "unseen"]})
    ((number, _),) = (await opened.lanes()).values()
    writer = Writer(database, leases)
    writer.lane(number, NORTH)
    items = await waiting(opened, number)

    async def read(ids: set[str], at: datetime, **fields: Any) -> None:
        found = [
            Result(
                item,
                Outcome.PRESENT,
                1,
                1,
                at,
                image=normalize(image(item.image_id, **fields), time_zone=ZONE),
            )
            for item in items
            if item.image_id in ids
        ]
        for start in range(0, len(found), 500):
            await writer.commit(found[start : start + 500])

    await read({*ids, "gone"}, START)
    await read({"shared", "img-0007"}, START + timedelta(seconds=1), imageSource="shared")
    (gone,) = (item for item in items if item.image_id == "gone")
    await writer.commit([result(gone, Outcome.NOT_FOUND, START + timedelta(seconds=2))])

    async def known(*sources: str) -> list[str]:
        found: list[str] = []
        async for page in plan.known_images(database, NORTH, sources):
            assert len(page) <= CHUNK
            found += page
        return found

    assert await known("private") == [one for one in ids if one != "img-0007"]
    assert await known("shared") == ["img-0007", "shared"]
    assert await known("private", "shared") == [*ids, "shared"]
    assert await known("public") == []
    for elsewhere in (EAST, OTHER):
        assert [page async for page in plan.known_images(database, elsewhere, ["private"])] == []


async def test_a_late_process_changes_nothing(database: Database, leases: Leases) -> None:
    """Whose lease passed on can neither plan, resume, count nor finish: the run is another's."""
    opened = await opened_with(database, leases, {NORTH: ["img-1"]})
    async with database.write() as connection:  # as a successor does
        await connection.execute(update(schema.leases).values(token=schema.leases.c.token + 1))
    before = await row_of(database, opened.run_id)
    for late in (
        opened.add(NORTH, ["img-2"], START),
        opened.lane(EAST),
        opened.planned(START),
        opened.resume(),
        opened.listing_failed(),
        plan.finish(database, opened.run_id, START, cut=True, leases=leases),
        Plan.open(database, leases, OPENING, START, [NORTH]),
    ):
        with pytest.raises(LeaseLostError):
            await late
    assert await row_of(database, opened.run_id) == before
    async with database.read() as connection:
        for table, count in ((runs, 1), (run_lanes, 1), (observation_rows, 1), (images, 1)):
            query = select(func.count()).select_from(table)
            assert (await connection.execute(query)).scalar_one() == count
