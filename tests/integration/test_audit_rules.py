"""Every audit rule on every database: what it must find, and what it must leave alone."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from sqlalchemy import text

from collector.audit.catalogue import load_rules, parameters
from collector.audit.runner import audit, portable_sql
from collector.models import LaneKey, Members, Outcome
from collector.normalize import members
from collector.store.engine import Database
from tests.support.inventory import Answers, disk, image, inventory

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OLD, RECENT = NOW - timedelta(days=40), NOW - timedelta(hours=1)
CONFIGURED = {"shared_outside_allow_list": {"allowed": ["friend", "o'brien"]}}
NOTHING: Answers = MappingProxyType({})
NORTH, EAST = "cn-north-1", "cn-east-2"


class Case(NamedTuple):
    """An account of its own: what two runs see, and what the rule says, with the run's number."""

    found: dict[str, tuple[str, int]]
    first: Answers = NOTHING
    second: Answers = NOTHING
    elsewhere: Answers = NOTHING


def plain(image_id: str, **fields: Any) -> Mapping[str, Any]:
    """An image that no rule minds."""
    calm = {
        "platform": "Ubuntu",
        "osVersion": "24.04",
        "createTime": "2026-11-01 00:00:00",
        "systemDisk": disk("vda", encrypted=True),
        "systemDiskSizeGB": 100,
    }
    return image(image_id, **{**calm, **fields})


def shared(name: str, *pins: str) -> tuple[Mapping[str, Any], Members]:
    content = plain(name, launchPermission="specifiedUsers")
    return content, Members(Outcome.PRESENT, *members({"pins": list(pins)}))


def images(*contents: Mapping[str, Any] | tuple[Mapping[str, Any], Members]) -> Answers:
    def name(content: Any) -> str:
        return str((content[0] if isinstance(content, tuple) else content)["imageId"])

    return {name(content): content for content in contents}


CASES = {
    "unencrypted_disk": Case(
        {
            "bad": ("system disk vda is not encrypted", 1),
            "data": ("data disk {role} is not encrypted", 2),
        },
        images(plain("bad", systemDisk=disk("vda"))),
        images(
            plain("bad", systemDisk=disk("vda")),
            plain("data", dataDisks=[disk("{role}")]),
            plain("public", systemDisk=disk("vda"), imageSource="public"),
            plain("not-said", systemDisk=disk("vda", encrypted=None)),
            plain("mended", systemDisk=disk("vda", encrypted=True)),
        ),
    ),
    "open_to_everyone": Case(
        {"bad": ("launch permission is all", 2)},
        second=images(
            plain("bad", launchPermission="all"),
            plain("official", launchPermission="all", imageSource="public"),
            plain("owner"),
        ),
    ),
    "shared_with_account": Case(
        {"bad": ("shared with account x", 1), "new": ("shared with account friend", 2)},
        images(shared("bad", "x"), shared("stopped", "x")),
        images(shared("bad", "x"), shared("stopped"), shared("new", "friend"), plain("owner")),
    ),
    "shared_outside_allow_list": Case(
        {"bad": ("shared with account x, which is not on the allow-list", 2)},
        second=images(shared("bad", "friend", "x"), shared("good", "friend", "o'brien")),
    ),
    "sharing_unknown": Case(
        {
            "bad": ("shared with accounts that were not read", 2),
            "old": ("shared with accounts that were not read", 1),
        },
        images(shared("old", "x")),
        images(
            plain("bad", launchPermission="specifiedUsers"),
            plain("old", launchPermission="specifiedUsers"),
            shared("known", "x"),
            plain("owner"),
        ),
    ),
    "offline_but_kept": Case(
        {"bad": ("taken off line by its publisher", 2)},
        images(plain("gone", offline=True)),
        {
            **images(
                plain("bad", offline=True, imageSource="public"),
                plain("online", offline=False, imageSource="public"),
                plain("not-said"),
            ),
            "gone": Outcome.NOT_FOUND,
        },
    ),
    "stuck_in_transition": Case(
        {"bad": ("pending in every reading since 2026-10-15 12:00", 2)},
        images(
            plain("bad", status="pending", progress="10"),
            plain("restarted", status="ready"),
            plain("done", status="pending"),
            plain("unread", status="pending"),
        ),
        {
            **images(
                plain("bad", status="pending", progress="20"),
                plain("restarted", status="pending"),
                plain("done", status="ready"),
                plain("fresh", status="pending"),
            ),
            "unread": Outcome.TIMEOUT,
        },
    ),
    "error_status": Case(
        {"bad": ("status is error", 2)},
        second=images(plain("bad", status="error"), plain("good")),
    ),
    "old_image": Case(
        {"bad": ("created 2025-11-23", 2)},
        second=images(
            plain("bad", createTime="2025-11-24 00:00:00"),
            plain("young", createTime="2025-11-25 00:00:00"),
            plain("public", createTime="2020-01-01 00:00:00", imageSource="public"),
        ),
    ),
    "expired_image": Case(
        {"bad": ("expired 2026-11-23", 2)},
        second=images(
            plain("bad", expiredTime="2026-11-23 12:00:00"),
            plain("later", expiredTime="2026-12-24 12:00:00"),
            plain("never", expiredTime=""),
        ),
    ),
    "never_read": Case(
        {
            "bad": ("never read; last outcome denied", 2),
            "tried": ("never read; last outcome timeout", 1),
            "waits": ("never read; last outcome not_attempted", 2),
        },
        {
            **dict.fromkeys(("bad", "healed", "tried"), Outcome.TIMEOUT),
            "absent": Outcome.NOT_FOUND,
            "waits": Outcome.NOT_ATTEMPTED,
        },
        {
            "bad": Outcome.DENIED,
            "healed": plain("healed"),
            **dict.fromkeys(("tried", "waits"), Outcome.NOT_ATTEMPTED),
        },
    ),
    "unread_image": Case(
        {
            "bad": ("last read 2026-10-15 12:00; last outcome denied", 2),
            "left": ("last read 2026-10-15 12:00; last outcome present", 1),
            "waits": ("last read 2026-10-15 12:00; last outcome present", 1),
        },
        {
            **images(plain("bad"), plain("left"), plain("waits"), plain("good"), plain("gone")),
            "never": Outcome.TIMEOUT,
        },
        {
            "bad": Outcome.DENIED,
            "good": plain("good"),
            "gone": Outcome.NOT_FOUND,
            "never": Outcome.TIMEOUT,
            "waits": Outcome.NOT_ATTEMPTED,
        },
    ),
    "unknown_id": Case(
        {
            "bad": ("not found since it was first planned", 2),
            "denied-now": ("not found since it was first planned", 1),
        },
        {
            **dict.fromkeys(("bad", "came", "denied-now"), Outcome.NOT_FOUND),
            "gone": plain("gone"),
        },
        {
            "bad": Outcome.NOT_FOUND,
            "denied-now": Outcome.DENIED,
            "gone": Outcome.NOT_FOUND,
            "came": plain("came"),
            "denied": Outcome.DENIED,
        },
    ),
    "gone_image": Case(
        {"bad": ("{time} was seen to be gone 2026-11-24 11:00", 2)},
        images(plain("bad", name="{time}"), plain("unread"), plain("good")),
        {
            "bad": Outcome.NOT_FOUND,
            "unread": Outcome.TIMEOUT,
            "good": plain("good"),
            "never": Outcome.NOT_FOUND,
        },
    ),
    "same_name_other_content": Case(
        {
            "bad": ("golden has other content in another region", 2),
            "east-bad": ("golden has other content in another region", 2),
        },
        second=images(
            plain("bad", name="golden"),
            plain("copy", name="copied", sizeMB=0),
            plain("one", name="twice"),
            plain("two", name="twice", sizeMB=7),
            plain("upper", name="cased"),
        ),
        elsewhere=images(
            plain("east-bad", name="golden", osVersion="22.04"),
            plain("east-copy", name="copied", snapshotId="other"),
            plain("east-upper", name="CASED", sizeMB=7),
            plain("east-public", name="golden", imageSource="public"),
        ),
    ),
    "surviving_data_disk": Case(
        {"bad": ("data disk vdb is not deleted with its instance", 2)},
        second=images(
            plain("bad", dataDisks=[disk("vdb") | {"autoDelete": False}]),
            plain("good", dataDisks=[disk("vdb")]),
            plain("system", systemDisk=disk("vda", encrypted=True) | {"autoDelete": False}),
        ),
    ),
    "schema_drift": Case(
        {
            "odd": ("image.odd of type number", 2),
            "worse": ("image.status has the unknown value {path}", 2),
        },
        second=images(plain("odd", odd=1), plain("worse", status="{path}"), plain("usual")),
    ),
    "shared_snapshot": Case(
        {
            "bad": ("snapshot s is used by 2 images", 2),
            "disk": ("snapshot s is used by 2 images", 2),
        },
        second=images(
            plain("bad", snapshotId="s"),
            plain("disk", dataDisks=[disk("vdb", snapshotId="s")]),
            plain("own", systemDisk=disk("vda", snapshotId="snapshot-own")),
            plain("none", snapshotId=""),
            plain("empty", snapshotId=""),
            plain("public", snapshotId="s", imageSource="public"),
        ),
        elsewhere=images(plain("east", snapshotId="s")),
    ),
    "system_disk_larger": Case(
        {"bad": ("system disk of 100 GiB, declared 40 GiB", 2)},
        second=images(
            plain("bad", systemDiskSizeGB=40),
            plain("good"),
            plain("data", dataDisks=[disk("vdb", 500)]),
            plain("not-said", systemDiskSizeGB=None),
        ),
    ),
    "end_of_life_os": Case(
        {
            "bad": ("CentOS 8.2, end of life 2021-12-31", 2),
            "win": ("Windows Server 2012 R2 数据中心版, end of life 2023-10-10", 2),
            "deb": ("Other Linux Debian 11, end of life 2026-08-31", 2),
        },
        second=images(
            plain("bad", platform="CentOS", osVersion="8.2"),
            plain("win", platform="Windows Server", osVersion="2012 R2 数据中心版"),
            plain("deb", platform="Other Linux", osVersion="Debian 11"),
            plain("good", platform="Windows Server", osVersion="2019 数据中心版"),
            plain("nine", platform="CentOS", osVersion="9"),
            plain("not-said", platform="CentOS", osVersion=None),
            plain("supported", osVersion="22.04"),
        ),
    ),
}


async def fill(url: str) -> list[int]:
    """Both runs of every case; their ids."""

    def lanes(number: int) -> dict[LaneKey, Answers]:
        found = {LaneKey(name, NORTH): case[number] for name, case in CASES.items() if case[number]}
        if number == 2:
            found |= {
                LaneKey(n, EAST): case.elsewhere for n, case in CASES.items() if case.elsewhere
            }
        return found

    async with inventory(url) as made:
        return [await made.run(lanes(number), at=at) for number, at in ((1, OLD), (2, RECENT))]


async def run_rules(url: str, now: datetime = NOW) -> dict[str, list[tuple[str, str, str, Any]]]:
    """Rule → its findings in the account of its name."""
    found: dict[str, list[tuple[str, str, str, Any]]] = {name: [] for name in CASES}
    async with Database(url, read_only=True) as database:
        chosen = load_rules().values()
        async for rule, finding in audit(database, chosen, parameters(CONFIGURED), now):
            if finding.account == rule.id:
                found[rule.id].append(finding[1:])
    return found


def expected(runs: list[int]) -> dict[str, list[tuple[str, str, str, Any]]]:
    return {
        name: sorted(
            (EAST if image_id.startswith("east-") else NORTH, image_id, reason, runs[run - 1])
            for image_id, (reason, run) in case.found.items()
        )
        for name, case in CASES.items()
    }


def test_every_rule_has_a_case_that_it_finds_and_one_that_it_must_not() -> None:
    """No rule without its test."""
    assert CASES.keys() == load_rules().keys()
    for case in CASES.values():
        assert {*case.first, *case.second, *case.elsewhere} - case.found.keys()


async def test_rules_find_what_they_must_and_nothing_else(database_url: str) -> None:
    """The same findings, reasons and evidence on every database."""
    runs = await fill(database_url)

    assert await run_rules(database_url) == expected(runs)


async def test_nothing_is_found_in_an_empty_database(database_url: str) -> None:
    """Every rule runs where nothing was collected yet."""
    assert not any((await run_rules(database_url)).values())


@pytest.mark.parametrize("allowed", [[], ["friend", "o'brien"]])
async def test_the_sql_to_take_away_finds_the_same(database_url: str, allowed: list[str]) -> None:
    """With its parameters as literals a statement gives the rows that it gives with them bound."""
    await fill(database_url)
    values = parameters({"shared_outside_allow_list": {"allowed": allowed}})
    async with Database(database_url, read_only=True) as database:
        for rule in load_rules().values():
            bound = [tuple(f) async for _, f in audit(database, [rule], values, NOW)]
            sql = portable_sql(rule, values[rule.id], NOW).removesuffix(";")
            async with database.read() as connection:
                rows = await connection.execute(text(sql.replace(":", r"\:")))
                assert [tuple(row) for row in rows] == bound, rule.id


async def test_a_pruned_observation_leaves_the_finding_without_its_run(sqlite_url: str) -> None:
    """Evidence that retention removed is not replaced by another run's."""
    await fill(sqlite_url)
    async with Database(sqlite_url) as database, database.write() as connection:
        await connection.execute(text("DELETE FROM observation_rows"))
    found = await run_rules(sqlite_url)

    without = [("bad", None), ("tried", None), ("waits", None)]
    assert [(row[1], row[3]) for row in found["never_read"]] == without


@pytest.mark.parametrize("rule_id", ["never_read", "unknown_id", "unread_image"])
async def test_evidence_is_not_looked_for_image_by_image(database_url: str, rule_id: str) -> None:
    """No plan has a query for each image, which reads all runs where nothing is left of it."""
    rule = load_rules()[rule_id]
    sql = portable_sql(rule, parameters({})[rule_id], NOW).removesuffix(";")
    async with Database(database_url, read_only=True) as database, database.read() as connection:
        explain = "EXPLAIN QUERY PLAN" if database.kind == "sqlite" else "EXPLAIN"
        rows = await connection.execute(text(f"{explain} {sql}".replace(":", r"\:")))
        plan = " ".join(str(row) for row in rows)

    assert not any(word in plan for word in ("SubPlan", "DEPENDENT SUBQUERY", "CORRELATED"))
