"""The reading side on every database: as of a time, changes of a period, freshness."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL

from collector.models import LaneKey, Members, Outcome
from collector.normalize import members
from collector.store import changes as changes_module
from collector.store import migrate, reads
from collector.store.changes import changes, history
from collector.store.engine import Database
from collector.store.freshness import read_status
from collector.store.plan import finish
from collector.store.reads import Knowledge, plain
from tests.support.inventory import START, disk, image, inventory

NORTH, EAST = LaneKey("main", "cn-north-1"), LaneKey("main", "cn-east-2")
OTHER = LaneKey("other", "cn-north-1")
HOUR = timedelta(hours=1)


def shared(*pins):
    return Members(Outcome.PRESENT, *members({"pins": list(pins)}))


def hour(number, minutes=0):
    return START + timedelta(hours=number, minutes=minutes)


async def told(url, since=START, until=START + timedelta(days=1)):
    """The changes of a period, each as (hour, kind, account, image, everything that differs)."""
    async with Database(url, read_only=True) as database:
        return [
            (
                int((change.at - START) / HOUR),
                change.kind,
                change.account,
                change.image_id,
                [field.field for field in change.fields],
                [(part.part, part.change) for part in change.disks],
                [(f.old, f.new) for f in change.members.fields] if change.members else [],
            )
            async for change in changes(database, since, until)
        ]


@pytest.fixture
async def filled(database_url):
    """Four runs: img-a changes and is unread, img-b goes and returns, img-c is shared and goes."""
    plain = image("img-a", dataDisks=[disk("vdb")])
    async with inventory(database_url) as made:
        await made.run(
            {
                NORTH: {
                    "img-a": plain,
                    "img-b": image("img-b"),
                    "img-c": (image("img-c"), shared("x")),
                    "img-u": Outcome.NOT_FOUND,
                },
                OTHER: {"img-a": plain},
            }
        )
        other = image("img-a", osVersion="8.3", odd=1, dataDisks=[disk("vdb", 200), disk("vdc")])
        await made.run(
            {
                NORTH: {
                    "img-a": other,
                    "img-b": Outcome.NOT_FOUND,
                    "img-c": (image("img-c"), shared("x", "y")),
                    "img-u": Outcome.DENIED,
                },
            }
        )
        await made.run({NORTH: {"img-a": other, "img-c": Outcome.NOT_FOUND}})
        await made.run({NORTH: {"img-a": Outcome.TIMEOUT, "img-b": image("img-b", name="new")}})
    return database_url


async def as_of(url, image_id, at, account="main"):
    async with Database(url, read_only=True) as database, database.read() as connection:
        (found,) = await reads.find(connection, "cn-north-1", image_id, account)
        return await reads.as_of(connection, found, at)


async def test_as_of_a_time_an_image_is_confirmed_assumed_gone_or_not_known(filled):
    """Up to the last sighting it is confirmed, then assumed; between versions gone."""
    second = (await as_of(filled, "img-a", hour(2, 30))).version

    assert (await as_of(filled, "img-a", hour(0))).knowledge is Knowledge.NOT_KNOWN
    for at, known, os_version in (
        (second["valid_from"], Knowledge.CONFIRMED, "8.3"),
        (second["valid_from"] - timedelta(microseconds=1), Knowledge.ASSUMED, "8.2"),
        (second["last_confirmed_at"], Knowledge.CONFIRMED, "8.3"),
        (second["last_confirmed_at"] + timedelta(microseconds=1), Knowledge.ASSUMED, "8.3"),
        (hour(9), Knowledge.ASSUMED, "8.3"),
    ):
        found = await as_of(filled, "img-a", at)
        assert (found.knowledge, found.version["os_version"]) == (known, os_version)
    assert int((second["last_confirmed_at"] - START) / HOUR) == 3
    gone = await as_of(filled, "img-b", hour(2, 30))
    assert (gone.knowledge, gone.version["name"]) == (Knowledge.GONE, "image img-b")
    assert (await as_of(filled, "img-b", hour(4, 30))).version["name"] == "new"
    assert (await as_of(filled, "img-u", hour(9))).knowledge is Knowledge.NOT_KNOWN


async def test_disks_and_members_are_those_of_the_time(filled):
    """A version comes with its own disks, system disk first, and the list that was in effect."""
    first, second = [await as_of(filled, "img-a", hour(n, 30)) for n in (1, 2)]
    sizes = [[d["disk_size_gb"] for d in found.version["disks"]] for found in (first, second)]
    assert sizes == [[40, 100], [40, 200, 100]]
    lists = [(await as_of(filled, "img-c", hour(n, 30))).members for n in (0, 1, 2, 3)]
    pins = [[pin["pin"] for pin in one["pins"]] if one else None for one in lists]
    assert pins == [None, ["x"], ["x", "y"], None]


async def test_every_account_that_has_the_image_is_found(filled):
    """One id may be known to several accounts, in the order of their names."""
    async with Database(filled, read_only=True) as database, database.read() as connection:
        found = await reads.find(connection, "cn-north-1", "img-a")
        nowhere = await reads.find(connection, "cn-east-2", "img-a")
        case = await reads.find(connection, "cn-north-1", "IMG-A")

    assert [row["account"] for row in found] == ["main", "other"]
    assert not nowhere
    assert not case


async def test_changes_tell_fields_disks_members_and_who_came_and_went(filled):
    """Every beginning and end is one change, in the order of time; a failed reading is none."""
    found = await told(filled)

    assert [change[:4] for change in found] == [
        (1, "appeared", "main", "img-a"),
        (1, "appeared", "main", "img-b"),
        (1, "appeared", "main", "img-c"),
        (1, "appeared", "other", "img-a"),
        (2, "changed", "main", "img-a"),
        (2, "vanished", "main", "img-b"),
        (2, "changed", "main", "img-c"),
        (3, "vanished", "main", "img-c"),
        (4, "returned", "main", "img-b"),
    ]
    disks = [("data 1", "changed"), ("data 2", "added")]
    assert found[4][4:] == (["os_version", "extra.odd"], disks, [])
    assert found[6][4:] == ([], [], [(None, "y")])
    assert found[2][6] == [(None, "x")]
    assert found[7][6] == [("x", None), ("y", None)]


async def test_a_change_names_its_run_and_its_image(filled):
    """The evidence is the run that saw it: that which opened, or that which closed."""
    async with Database(filled, read_only=True) as database:
        found = [c async for c in changes(database, START, START + timedelta(days=1))]

    assert [change.run_id for change in found] == [1, 1, 1, 1, 2, 2, 2, 3, 4]
    assert [change.name for change in found[4:]] == [
        *("image img-a", "image img-b", "image img-c", "image img-c", "new")
    ]
    assert plain(found[0])["at"].startswith("2026-01-01T01:00:00.00")


async def test_a_period_has_its_beginning_and_not_its_end(filled):
    """Two periods that meet tell each change once."""
    async with Database(filled, read_only=True) as database:
        times = [c.at async for c in changes(database, START, START + timedelta(days=1))]
    whole = await told(filled)

    for at in times:
        before, after = await told(filled, until=at), await told(filled, since=at)
        assert before + after == whole
        assert len(before) == times.index(at)


async def test_pages_do_not_show(filled, monkeypatch):
    """Few rows at a time give the same changes as many."""
    whole = await told(filled)
    for many in (1, 2, 3):
        monkeypatch.setattr(changes_module, "MANY", many)
        monkeypatch.setattr(reads, "MANY", many)
        assert await told(filled) == whole


async def test_the_history_of_an_image_is_its_share_of_all_changes(filled):
    """`history` and `changes` tell the same of one image."""
    async with Database(filled, read_only=True) as database:
        everything = [c async for c in changes(database, START, START + timedelta(days=1))]
        async with database.read() as connection:
            for image_id in ("img-a", "img-b", "img-c", "img-u"):
                (found,) = await reads.find(connection, "cn-north-1", image_id, "main")
                *_, told = await history(connection, found)
                mine = [c for c in everything if (c.account, c.image_id) == ("main", image_id)]
                assert told == mine


def test_a_file_of_any_name_is_read(sqlite_url, tmp_path):
    """What means something in a URI means nothing in a file's name."""
    path = tmp_path / "a b%20?mode=rwc#c.db"
    Path(sqlite_url.removeprefix("sqlite:///")).rename(path)
    url = URL.create("sqlite", database=str(path)).render_as_string()

    async def check():
        async with Database(url, read_only=True) as database:
            await migrate.require_head(database)

    asyncio.run(check())
    assert list(tmp_path.iterdir()) == [path]


async def test_status_is_judged_by_the_newest_complete_whole_run(database_url):
    """Narrowed and partial runs make nothing fresh; the age counts from the end of the run."""

    async def stale(at):
        async with Database(database_url, read_only=True) as database:
            status = await read_status(database, at, 2 * HOUR)
        return status.stale, status.last_run["status"] if status.last_run else None

    good, bad = {NORTH: {"img-a": image("img-a")}}, {NORTH: {"img-a": Outcome.TIMEOUT}}
    async with inventory(database_url) as made:
        assert await stale(hour(0)) == (True, None)
        await made.run(good, scope="narrowed")
        assert await stale(hour(1)) == (True, None)
        await made.run(bad)
        assert await stale(hour(2)) == (True, "failed")
        await made.run(good)
        finished = made.now
        assert await stale(hour(4)) == (False, "complete")
        await made.run(bad)
        assert await stale(hour(5)) == (False, "failed")
        assert await stale(finished + 2 * HOUR) == (False, "failed")
        assert await stale(finished + 2 * HOUR + timedelta(microseconds=1)) == (True, "failed")
        await made.run(good, finish=False)
        assert await stale(hour(6)) == (True, "failed")


async def test_status_counts_a_run_that_was_resumed_after_a_newer_one(database_url):
    """The last complete run is the one that was finished last, whatever its number."""
    good = {NORTH: {"img-a": image("img-a")}}
    async with inventory(database_url) as made:
        older = await made.run(good, finish=False)
        await made.run(good, trigger="schedule", account="main")
        await finish(made.database, older, hour(9))
        status = await read_status(made.database, hour(10), 2 * HOUR)

    assert not status.stale
    assert status.last_run["id"] == status.accounts[0].complete["id"] == older


async def test_runs_that_end_in_one_instant_are_not_taken_for_each_other(database_url):
    """The one of the higher number was the last; a run counts for the accounts that it has."""
    good, bad = {NORTH: {"img-a": image("img-a")}}, {NORTH: {"img-a": Outcome.TIMEOUT}}
    other = {OTHER: {"img-b": image("img-b")}}
    main, also = (
        {"trigger": "schedule", "account": account, "finish": False}
        for account in ("main", "other")
    )
    ends = []
    async with inventory(database_url) as made:
        for answers, how in (
            (good, {"finish": False}),
            (bad, main),
            (good | other, {"finish": False}),
            (other, also),
            (bad, main),
            (bad, {"finish": False}),
            (other, also),
        ):
            run_id = await made.run(answers, **how)
            await finish(made.database, run_id, hour(9))
            status = await read_status(made.database, hour(10), 2 * HOUR)
            assert status.last_run["id"] == run_id
            ends.append([(a.account, a.last["id"], a.complete["id"]) for a in status.accounts])

    assert ends == [
        [("main", 1, 1)],
        [("main", 2, 1)],
        [("main", 3, 3), ("other", 3, 3)],
        [("main", 3, 3), ("other", 4, 4)],
        [("main", 5, 3), ("other", 4, 4)],
        [("main", 6, 3)],
        [("main", 6, 3), ("other", 7, 7)],
    ]


async def test_each_account_is_judged_by_its_own_runs(database_url):
    """A run of one account makes no other one fresh; an account left out is judged no more."""
    a, b = {NORTH: {"img-a": image("img-a")}}, {OTHER: {"img-b": image("img-b")}}

    async def accounts(at):
        async with Database(database_url, read_only=True) as database:
            status = await read_status(database, at, 2 * HOUR)
        return {state.account: state.stale for state in status.accounts}

    async with inventory(database_url) as made:
        await made.run(a | b)
        assert await accounts(hour(2)) == {"main": False, "other": False}
        await made.run(a, at=hour(5), trigger="schedule", account="main")
        assert await accounts(hour(6)) == {"main": False, "other": True}
        await made.run(b, at=hour(6), trigger="schedule", account="other")
        assert await accounts(hour(7)) == {"main": False, "other": False}
        await made.run(a, at=hour(8))
        assert await accounts(hour(9)) == {"main": False}
        await made.run(b, at=hour(10), trigger="schedule", account="other")
        assert await accounts(hour(10)) == {"main": False, "other": False}


async def test_status_tells_coverage_the_oldest_reading_and_what_is_unread(filled):
    """Coverage is that of each account's last finished run; the unread have outcome and since."""
    async with Database(filled, read_only=True) as database:
        status = await read_status(database, datetime.now(UTC), HOUR)

    (lane,) = status.lanes
    assert (lane["run_id"], lane["region"], lane["planned"], lane["present"]) == (
        *(4, "cn-north-1"),
        *(2, 1),
    )
    assert lane["coverage"] == 0.5
    assert (status.oldest_reading["account"], status.oldest_reading["image_id"]) == (
        "other",
        "img-a",
    )
    assert status.unread["by_outcome"] == {"denied": 1, "timeout": 1}
    assert [row["image_id"] for row in status.unread["examples"]] == ["img-u", "img-a"]
    assert status.queue == {"queued": 0, "dead": 0}
    assert status.document()["unread"]["images"] == 2
