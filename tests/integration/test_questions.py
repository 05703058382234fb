"""The SQL of the documentation: it runs unchanged on every database, and answers."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.models import LaneKey, Members, Outcome
from collector.normalize import members
from collector.store.engine import Database
from collector.store.reads import plain
from tests.support.inventory import disk, image, inventory

DOCS = Path(__file__).parents[2] / "docs"
NORTH, EAST = LaneKey("default", "cn-north-1"), LaneKey("default", "cn-east-2")
OTHER = LaneKey("other", "cn-north-1")
BEFORE, DURING, AFTER = (datetime(2026, m, 1, 12, tzinfo=UTC) for m in (6, 7, 8))
HOUR = timedelta(hours=1)
ONE = "img-m5s0000029"


def blocks(page):
    """Heading → SQL, for every query of a page."""
    parts = re.split(r"^## ", (DOCS / page).read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for part in parts:
        heading = part.splitlines()[0]
        for number, sql in enumerate(re.findall(r"```sql\n(.*?);\n```", part, re.DOTALL)):
            found[f"{heading} ({number})" if number else heading] = sql
    return found


QUESTIONS = blocks("questions.md")
QUERIES = blocks("querying.md") | QUESTIONS


def shared(*pins):
    return Members(Outcome.PRESENT, *members({"pins": list(pins)}))


async def fill(url):
    """An inventory in which every question has an answer."""
    first = image(ONE, launchPermission="ownerOnly", odd=1)
    friends = (image("img-shared", launchPermission="specifiedUsers"), shared("x", "y"))
    async with inventory(url) as made:
        await made.run(
            {
                NORTH: {
                    ONE: (first, shared("friend")),
                    "img-open": image("img-open", launchPermission="all", snapshotId="s"),
                    "img-twin": image("img-twin", name="twin", snapshotId="s"),
                    "img-gone": image("img-gone"),
                    "img-back": image("img-back"),
                    "img-shared": friends,
                    "img-never": Outcome.DENIED,
                },
                EAST: {"img-twin": image("img-twin", name="twin", osVersion="7.9")},
                OTHER: {ONE: first},
            },
            at=BEFORE,
        )
        changed = image(ONE, launchPermission="all", dataDisks=[disk("vdb", encrypted=True)])
        await made.run(
            {
                NORTH: {
                    ONE: (changed, shared("friend", "stranger")),
                    "img-gone": Outcome.NOT_FOUND,
                    "img-back": Outcome.NOT_FOUND,
                    "img-new": image("img-new"),
                }
            },
            at=DURING,
        )
        last = {"img-back": image("img-back"), ONE: Outcome.TIMEOUT}
        await made.run({NORTH: last}, at=AFTER, scope="narrowed")
        await made.run({NORTH: {ONE: Outcome.DENIED}}, at=AFTER + HOUR, scope="narrowed")
        await made.run({NORTH: {ONE: changed}}, at=AFTER + 2 * HOUR, scope="narrowed")


async def answers(url):
    """The rows of every query, as text."""
    found = {}
    async with Database(url, read_only=True) as database, database.read() as connection:
        for heading, sql in QUERIES.items():
            rows = await connection.exec_driver_sql(sql.replace("%", "%%"))
            found[heading] = [[_text(value) for value in row] for row in rows.all()]
    return found


def _text(value):
    """A value as every driver has it: SQLite gives times as text and booleans as numbers."""
    if isinstance(value, datetime):
        value = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        return plain(value)[:-1].replace("T", " ")
    return str(int(value)) if isinstance(value, bool) else str(value)


def test_there_are_twenty_questions_in_order():
    """Each question has its number, and exactly one query."""
    assert [heading.split(". ")[0] for heading in QUESTIONS] == [str(n + 1) for n in range(20)]
    assert len(QUERIES) == 26


async def test_every_query_of_the_documentation_has_an_answer(database_url):
    """On an inventory in which something happened, no question comes out empty."""
    await fill(database_url)
    found = await answers(database_url)

    assert [heading for heading, rows in found.items() if not rows] == []


async def test_every_database_answers_alike(new_database):
    """The same questions of the same inventory have the same answers, in the same order."""
    first, *others = [new_database(kind) for kind in ("sqlite", "postgresql", "mysql")]
    await fill(first)
    expected = await answers(first)
    for url in others:
        await fill(url)
        found = await answers(url)
        for heading, rows in expected.items():
            assert found[heading] == rows, heading


async def test_the_inventory_of_a_time_is_found_by_an_index(sqlite_url):
    """No table is read from end to end, however many versions there are."""
    queries = {
        name: sql for name, sql in QUERIES.items() if name.startswith(("The inv", "What ch"))
    }
    assert len(queries) == 3
    async with Database(sqlite_url, read_only=True) as database, database.read() as connection:
        for name, sql in queries.items():
            rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")
            told = [row[-1] for row in rows]
            assert [line for line in told if line.startswith("SCAN")] == [], name
            indexes = {line.split(" INDEX ")[1].split()[0] for line in told if " INDEX " in line}
            assert any(index.startswith("ix_image_versions_") for index in indexes), name


async def test_the_evidence_of_an_image_is_looked_up_run_by_run(sqlite_url):
    """Years of other images' observations are not read."""
    (sql,) = (sql for name, sql in QUESTIONS.items() if name.startswith("19."))
    async with Database(sqlite_url, read_only=True) as database, database.read() as connection:
        rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")
        told = [row[-1] for row in rows]
    by_key = "SEARCH observation_rows USING PRIMARY KEY (run_id=? AND lane_id=? AND image_pk=?)"
    assert by_key in told


async def test_what_is_streamed_is_planned_to_be_read_to_its_end(new_database):
    """PostgreSQL's own 0.1 gives the first rows of a sorted rule soon, and the last ones late."""
    url = new_database("postgresql")
    async with Database(url, read_only=True) as database, database.read() as connection:
        rows = await connection.exec_driver_sql("SHOW cursor_tuple_fraction")
        assert rows.scalar_one() == "1"


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("The inventory as it was", [["default", "6"], ["other", "1"]]),
        (
            "What changed in a period",
            [
                ["changed", "default", ONE],
                ["vanished", "default", "img-gone"],
                ["vanished", "default", "img-back"],
                ["appeared", "default", "img-new"],
            ],
        ),
        (
            "What could not be read in a period",
            [
                ["img-never", "None", "2026-06-01 12:00:00.007000", "None", "1"],
                [
                    ONE,
                    "2026-07-01 12:00:00.001000",
                    "2026-08-01 12:00:00.001000",
                    "2026-08-01 14:00:00.001000",
                    "2",
                ],
            ],
        ),
        (
            "17. How complete was the last run of each region?",
            [
                ["1", "default", "cn-east-2", "1", "1"],
                ["2", "default", "cn-north-1", "2", "2"],
                ["1", "cn-north-1", "1", "1"],
            ],
        ),
        ("7. Which private images may everybody use?", [["default", ONE], ["default", "img-open"]]),
        ("9. With whom was an image shared at a given time?", [["friend", "None"]]),
        ("14. Which images does more than one account see?", [["cn-north-1", ONE, "2"]]),
    ],
)
async def test_the_answers_are_right(sqlite_url, heading, expected):
    """The first columns of some answers, in full."""
    await fill(sqlite_url)
    rows = (await answers(sqlite_url))[heading]
    wanted = {cell for row in expected for cell in row}
    picked = [[cell for cell in row if cell in wanted] for row in rows]

    assert picked == expected
