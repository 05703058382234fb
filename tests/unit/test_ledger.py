"""Tamper evidence on SQLite: what is sealed, and that any single forgery is found and named."""

import asyncio
import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collector.models import LaneKey, Outcome
from collector.store import evidence, ledger
from collector.store.engine import Database
from collector.store.prune import prune
from collector.store.schema import ledger as ledger_table
from collector.store.schema import metadata
from collector.store.verify import Finding
from tests.support.inventory import START, Inventory, image
from tests.support.sealed import NORTH, findings, history

REFERRED = {key.column for table in metadata.tables.values() for key in table.foreign_keys}
KEPT = {
    column
    for table in metadata.tables.values()
    for column in table.c
    if column.autoincrement is True and column not in REFERRED
} | {metadata.tables["images"].c.first_planned_at}
"""Surrogate keys that nothing refers to, and what is no evidence."""

EDITED = sorted(metadata.tables.keys() - {"leases", "queue_items", "schema_drift"})
"""Every table but those that prove nothing."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks a run."""
    monkeypatch.setattr(evidence, "BLOCK", 5)


@pytest.fixture(scope="session")
def sealed_template(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Path:
    """A sealed history that nobody writes to."""
    path = tmp_path_factory.mktemp("sealed") / "sealed.db"
    shutil.copy(sqlite_template, path)

    async def fill() -> None:
        async with Database(f"sqlite:///{path}") as database:
            await history(database)

    before, evidence.BLOCK = evidence.BLOCK, 5  # type: ignore[misc]  # as `small_blocks` does
    try:
        asyncio.run(fill())
    finally:
        evidence.BLOCK = before  # type: ignore[misc]
    return path


@pytest.fixture
def sealed(sealed_template: Path, tmp_path: Path) -> Path:
    """A sealed history."""
    return Path(shutil.copy(sealed_template, tmp_path / "sealed.db"))


def forge(path: Path, *statements: str) -> None:
    """What somebody with the file can do, constraints or not."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            connection.execute(statement)


def verified(path: Path, expected: dict[int, str] | None = None) -> list[Finding]:
    return asyncio.run(findings(f"sqlite:///{path}", expected))


def digests(path: Path) -> dict[int, str]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT id, digest FROM runs").fetchall())


async def seal_all(path: Path) -> None:
    async with Database(f"sqlite:///{path}") as database:
        for run_id in digests(path):
            await ledger.seal(database, run_id)


def test_sealed_history_verifies(sealed: Path) -> None:
    """What was written by the program differs in nothing, also against digests kept elsewhere."""
    assert verified(sealed, digests(sealed)) == []


def test_several_blocks(sealed: Path) -> None:
    """The tests below meet runs of several blocks."""
    with closing(sqlite3.connect(sealed)) as connection:
        query = "SELECT max(number) FROM run_blocks WHERE kind = 'observations'"
        assert connection.execute(query).fetchone()[0] >= 2


def test_digest_by_hand(sealed: Path) -> None:
    """The recipe of docs/tamper-evidence.md, with nothing of this program, gives the digests."""

    def line(row: dict[str, Any]) -> str:
        kept = {name: value for name, value in row.items() if value is not None}
        return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"

    def sha256(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    with closing(sqlite3.connect(sealed)) as connection:
        connection.row_factory = lambda cursor, row: {
            column[0]: value for column, value in zip(cursor.description, row, strict=True)
        }
        previous = "0" * 64
        for run in connection.execute("SELECT * FROM runs ORDER BY id").fetchall():
            query = "SELECT * FROM observations WHERE run_id = ? ORDER BY account, region, image_id"
            rows = connection.execute(query, [run["id"]]).fetchall()
            lines = [line({k: v for k, v in row.items() if k != "run_id"}) for row in rows]
            query = "SELECT * FROM run_blocks WHERE run_id = ? AND kind = ? ORDER BY number"
            blocks = connection.execute(query, [run["id"], "observations"]).fetchall()
            for number, block in enumerate(blocks):
                assert block["digest"] == sha256("".join(lines[number * 5 : number * 5 + 5]))

            text = previous + "\nrun\n"
            text += line({k: v for k, v in run.items() if k not in ("id", "digest")})
            for kind in evidence.KINDS:
                for block in connection.execute(query, [run["id"], kind]).fetchall():
                    del block["run_id"]
                    text += json.dumps(block, separators=(",", ":")) + "\n"
            previous = sha256(text)
            assert run["digest"] == previous


async def test_seal_once(sqlite_url: str) -> None:
    """Sealing again returns the same digest and appends nothing, also at the same time."""
    async with Database(sqlite_url) as database:
        run_id = await Inventory(database).run({NORTH: {"img-1": image("img-1")}})
        first = await asyncio.gather(*(ledger.seal(database, run_id) for _ in range(4)))

        assert len({*first, await ledger.seal(database, run_id)}) == 1
        assert await ledger.last(database) == ledger.Sealed(run_id, first[0])
    assert await findings(sqlite_url) == []


async def test_seals_at_the_same_time_make_one_chain(sqlite_url: str) -> None:
    """Runs that are sealed concurrently follow one another in one chain."""
    async with Database(sqlite_url) as database:
        inventory = Inventory(database)
        lanes = [LaneKey(f"account-{n}", "cn-north-1") for n in range(4)]
        run_ids = [await inventory.run({lane: {"img-1": image("img-1")}}) for lane in lanes]
        await asyncio.gather(*(ledger.seal(database, run_id) for run_id in run_ids))
        digest = await ledger.seal(
            database, await inventory.run({NORTH: {"img-1": image("img-1")}})
        )
        last = await ledger.last(database)
        assert last is not None
        assert last.digest == digest
    assert await findings(sqlite_url) == []


async def test_only_finished_runs_are_sealed(sqlite_url: str) -> None:
    """A run that still works, and one that is not there, have no digest."""
    async with Database(sqlite_url) as database:
        run_id = await Inventory(database).run({NORTH: {"img-1": image("img-1")}}, finish=False)
        for number in (run_id, 99):
            with pytest.raises(ValueError, match="not finished"):
                await ledger.seal(database, number)

        assert await ledger.last(database) is None
    assert [f.kind for f in await findings(sqlite_url)] == ["unsealed"]
    assert not any(f.differs for f in await findings(sqlite_url))


async def test_empty_database_verifies(sqlite_url: str) -> None:
    """Nothing collected is nothing forged; an expected digest is missing all the same."""
    assert await findings(sqlite_url) == []
    assert [f.kind for f in await findings(sqlite_url, {1: "0" * 64})] == ["expected"]


NAMED = [
    (
        (
            "UPDATE observation_rows SET outcome = 'denied' WHERE run_id = 1 AND image_pk ="
            " (SELECT id FROM images WHERE account = 'default' AND image_id = 'img-404')"
        ),
        Finding(
            "observations",
            "run 1, block 1 (default/cn-north-1/img-2 … default/cn-north-1/img-5), "
            "default/cn-north-1/img-404",
            "edited after its seal",
        ),
    ),
    (
        (
            "DELETE FROM observation_rows WHERE run_id = 1 AND image_pk ="
            " (SELECT id FROM images WHERE account = 'default' AND image_id = 'img-404')"
        ),
        Finding(
            "observations",
            "run 1, block 1 (default/cn-north-1/img-2 … default/cn-north-1/img-5), "
            "default/cn-north-1/img-404",
            "removed",
        ),
    ),
    (
        (
            "INSERT INTO observation_rows (run_id, lane_id, image_pk, outcome, attempts)"
            " SELECT 3, lane_id, image_pk, 'not_found', 1 FROM observation_rows WHERE run_id = 1"
            " AND image_pk = (SELECT id FROM images WHERE image_id = 'img-404')"
        ),
        Finding(
            "observations",
            "run 3, block 1 (default/cn-north-1/img-5 … default/cn-north-1/img-never), "
            "default/cn-north-1/img-404",
            "added after its seal",
        ),
    ),
    (
        "UPDATE runs SET planned = 99 WHERE id = 2",
        Finding("run", "run 2", "planned is 99, sealed as 16"),
    ),
    ("DELETE FROM runs WHERE id = 2", Finding("run", "run 2", "its row was removed")),
    (
        (
            "INSERT INTO runs SELECT 9, trigger, status, started_at, planned_at, finished_at,"
            " planned, present, not_found, failed, new_versions, unchanged, requests, retries,"
            " throttled, listings_failed, plan_digest, config_digest, NULL, tool_version,"
            " time_zone, account, scope FROM runs WHERE id = 1"
        ),
        Finding(
            "run",
            "run 9",
            "finished and not sealed: killed before it, or added; the next run seals it",
        ),
    ),
    (
        (
            "UPDATE image_versions SET name = 'evil' WHERE image_pk ="
            " (SELECT id FROM images WHERE account = 'default' AND image_id = 'img-5')"
        ),
        Finding(
            "version",
            "default/cn-north-1/img-5 from 2026-01-01 01:00:00.006000",
            "name is 'evil', its payload says 'image img-5'",
        ),
    ),
    (
        (
            f"UPDATE image_versions SET id = {-(2**63)}, name = 'evil' WHERE image_pk ="
            " (SELECT id FROM images WHERE account = 'default' AND image_id = 'img-5')"
        ),
        Finding(
            "version",
            "default/cn-north-1/img-5 from 2026-01-01 01:00:00.006000",
            "name is 'evil', its payload says 'image img-5'",
        ),
    ),
    (
        (
            "UPDATE image_versions SET payload = replace(payload, 'CentOS', 'Ubuntu')"
            " WHERE image_pk ="
            " (SELECT id FROM images WHERE account = 'default' AND image_id = 'img-5')"
        ),
        Finding(
            "version",
            "default/cn-north-1/img-5 from 2026-01-01 01:00:00.006000",
            "the payload's SHA-256 is not its fingerprint",
        ),
    ),
    (
        (
            "UPDATE disk_attachments SET encrypted = 1 WHERE role = 'data' AND image_version_id ="
            " (SELECT id FROM image_versions WHERE payload LIKE '%img-5%' AND account = 'default')"
        ),
        Finding(
            "disk",
            "default/cn-north-1/img-5 from 2026-01-01 01:00:00.006000, data disk 1",
            "encrypted is 1, its payload says false",
        ),
    ),
    (
        (
            "DELETE FROM disk_attachments WHERE role = 'data' AND image_version_id ="
            " (SELECT id FROM image_versions WHERE payload LIKE '%img-5%' AND account = 'default')"
        ),
        Finding(
            "disk",
            "default/cn-north-1/img-5 from 2026-01-01 01:00:00.006000, data disk 1",
            "it was removed: its payload has it",
        ),
    ),
    (
        "UPDATE images SET state = 'present' WHERE state = 'gone' AND account = 'other'",
        Finding("image", "other/cn-north-1/img-0", "state is 'present', its history says 'gone'"),
    ),
    (
        (
            "UPDATE images SET failing_since = NULL, last_outcome = 'present',"
            " last_attempt_at = last_checked_at WHERE image_id = 'img-e1'"
        ),
        Finding("image", "default/cn-east-1/img-e1", "run 2 did not read it, which is untold"),
    ),
    (
        "UPDATE images SET failing_since = last_attempt_at WHERE image_id = 'img-never'",
        Finding("image", "default/cn-north-1/img-never", "run 1 did not read it, which is untold"),
    ),
    (
        (
            "UPDATE images SET last_attempt_at = failing_since, last_outcome = 'denied'"
            " WHERE image_id = 'img-never'"
        ),
        Finding("image", "default/cn-north-1/img-never", "run 3 did not read it, which is untold"),
    ),
    (
        (
            "UPDATE run_lanes SET failed = 7 WHERE run_id = 3 AND lane_id ="
            " (SELECT id FROM lanes WHERE account = 'other')"
        ),
        Finding(
            "lanes",
            "run 3, block 0 (default/cn-north-1 … other/cn-north-1), other/cn-north-1",
            "edited after its seal",
        ),
    ),
    (
        "UPDATE run_blocks SET digest = '0' WHERE run_id = 2 AND kind = 'closed'",
        Finding("closed", "run 2, block 0", "run_blocks was edited"),
    ),
    (
        "UPDATE ledger SET content = '{}' WHERE seq = 2",
        Finding("chain", "entry 2, run 2", "its content was edited"),
    ),
    (
        "UPDATE ledger SET digest = 'f' WHERE seq = 2",
        Finding(
            "chain",
            "entry 2, run 2",
            "it does not follow from the entry before it, the run's row and its blocks",
        ),
    ),
    (
        (
            "INSERT INTO ledger SELECT -5, 'prune', NULL, json_object('runs', json_array(digest)),"
            " 'f' FROM runs WHERE id = 2"
        ),
        Finding("chain", "entry -5", "it follows entry 0"),
    ),
    ("DELETE FROM ledger WHERE seq = 2", Finding("chain", "entry 3", "it follows entry 1")),
    (
        "DELETE FROM ledger WHERE seq = 3",
        Finding("run", "run 3", "it has a digest, and the ledger has no entry of it"),
    ),
    (
        "UPDATE image_members SET pin = 'evil' WHERE position = 1",
        Finding(
            "members",
            "other/cn-north-1/img-0 from 2026-01-01 01:00:00.015000",
            "its rows are not what its payload says",
        ),
    ),
    (
        "UPDATE member_versions SET valid_to = '2026-02-01 00:00:00.000000' WHERE valid_to IS NULL",
        Finding(
            "members",
            "other/cn-north-1/img-1 from 2026-01-01 01:00:00.016000",
            "valid_to and closed_run_id contradict each other",
        ),
    ),
    (
        "UPDATE observation_rows SET request_id = CAST(request_id AS BLOB) WHERE run_id = 2",
        Finding(
            "observations",
            "run 2, block 0 (default/cn-east-1/img-e0 … default/cn-north-1/img-1)",
            "several of its 5 rows were edited after its seal",
        ),
    ),
    (
        "UPDATE observation_rows SET error_code = CAST(x'ff' AS TEXT) WHERE run_id = 2",
        Finding(
            "unreadable",
            "ledger",
            "Could not decode to UTF-8 column 'error_code' with text '\N{REPLACEMENT CHARACTER}'",
        ),
    ),
]


@pytest.mark.parametrize(("statement", "finding"), NAMED, ids=range(len(NAMED)))
def test_forgery_is_named(sealed: Path, statement: str, finding: Finding) -> None:
    """What differs is named: the run, the block and the row, the version, the disk, the image."""
    forge(sealed, statement)

    assert finding in verified(sealed)


class Forger:
    """Edits, adds or removes one row, at random."""

    def __init__(self, connection: sqlite3.Connection, table: str, rng: random.Random) -> None:
        self.connection, self.table, self.rng = connection, table, rng
        self.names = [column.name for column in metadata.tables[table].c]
        key = metadata.tables[table].primary_key
        self.key = [column.name for column in key]
        rows = connection.execute(f"SELECT {', '.join(self.names)} FROM {table}").fetchall()
        self.row = dict(zip(self.names, rng.choice(rows), strict=True))

    def forge(self) -> str:
        """Change the database; tell what was done."""
        adds = self.table not in ("images", "lanes")  # one that nothing refers to is no evidence
        act: Callable[[], str] = self.rng.choice(
            [self.edit, self.edit, self.remove, *([self.add] if adds else [])]
        )
        return act()

    def edit(self) -> str:
        columns = metadata.tables[self.table].c
        name = self.rng.choice([name for name in self.names if columns[name] not in KEPT])
        value = self.other(self.row[name])
        self._run(f"UPDATE {self.table} SET {name} = ? WHERE {self._where()}", value)
        return f"{name} of {self.row} is {value!r}"

    def remove(self) -> str:
        self._run(f"DELETE FROM {self.table} WHERE {self._where()}")
        return f"{self.row} removed"

    def add(self) -> str:
        row = dict(self.row)
        for name in self.key:
            row[name] = self.fresh(row[name])
        for name in ("valid_from", "position"):
            if name in row:
                row[name] = self.fresh(row[name])
        if self.table == "ledger":
            row["run_id"] = None
        if {"valid_to", "closed_run_id"} <= row.keys():
            row |= {"valid_to": row["valid_from"] + "1", "closed_run_id": row["run_id"]}
        marks = ", ".join("?" * len(row))
        sql = f"INSERT INTO {self.table} ({', '.join(row)}) VALUES ({marks})"
        self._run(sql, *row.values())
        return f"{row} added"

    def fresh(self, value: Any) -> Any:
        if isinstance(value, int):
            return value + self.rng.choice([1, 100])
        return self.moved(value) or f"{value}x"

    def other(self, value: Any) -> Any:
        if value is None:
            return self.rng.choice([0, 1, "", "x", str(START.replace(tzinfo=None))])
        if isinstance(value, int):
            return self.rng.choice([value + 1, value - 1, -value - 1, None])
        cut = self.rng.randrange(len(value) + 1)
        options = [value[:cut] + "x" + value[cut:], f"{value} ", value.encode(), None]
        options += ["present", "not_found", "gone"]
        choices = [self.moved(value) or options[0], *(o for o in options if o != value)]
        return self.rng.choice(choices)

    def moved(self, value: str) -> str | None:
        """A time a little earlier or later."""
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            return None
        by = timedelta(microseconds=self.rng.choice([-1, 1, 10**6, -(10**9)]))
        return (time + by).isoformat(" ", "microseconds")

    def _where(self) -> str:
        return " AND ".join(f"{name} = '{self.row[name]}'" for name in self.key)

    def _run(self, sql: str, *values: Any) -> None:
        before = self.connection.total_changes
        self.connection.execute(sql, values)
        if self.connection.total_changes == before:
            raise sqlite3.IntegrityError("nothing changed")


FORGERIES = 20
"""Of each table; 12 tables."""


@pytest.mark.parametrize("table", EDITED)
def test_random_forgeries_are_found(sealed_template: Path, tmp_path: Path, table: str) -> None:
    """Any single edited, added or removed row is found, whatever the value."""
    rng = random.Random(f"forge {table}")
    done = 0
    while done < FORGERIES:
        path = Path(shutil.copy(sealed_template, tmp_path / "forged.db"))
        try:
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("PRAGMA ignore_check_constraints = ON")
                what = Forger(connection, table, rng).forge()
        except sqlite3.IntegrityError:
            continue  # the database refuses it
        done += 1
        told = f"verify does not see that {what}: a row is sealed (evidence.KINDS) or derived again"
        assert any(f.differs for f in verified(path)), told


def test_whole_chain_rewritten(sealed: Path) -> None:
    """Who reseals everything is found by a digest that was kept elsewhere, and only so."""
    kept = digests(sealed)
    forge(
        sealed,
        "UPDATE observation_rows SET duration_ms = 1 WHERE run_id = 1",
        "DELETE FROM run_blocks",
        "DELETE FROM ledger",
        f"UPDATE ledger_head SET seq = 0, digest = '{'0' * 64}'",
        "UPDATE runs SET digest = NULL",
    )
    asyncio.run(seal_all(sealed))

    assert verified(sealed) == []
    assert [f.where for f in verified(sealed, kept)] == ["run 1", "run 2", "run 3"]


async def test_pruning_keeps_everything_else_provable(sealed: Path) -> None:
    """Old runs' observations go by policy; digests stay, and later edits are still found."""
    kept = digests(sealed)
    before = START + timedelta(hours=2, minutes=30)  # between the second and the third run
    async with Database(f"sqlite:///{sealed}") as database:
        pruned = await prune(database, before)
        assert (pruned.runs, pruned.rows, pruned.refused) == ((1, 2), 34, ())
        assert (await prune(database, before)).runs == ()
    url = f"sqlite:///{sealed}"
    assert await findings(url, kept) == []

    for statement in (
        "UPDATE runs SET planned = 1 WHERE id = 1",
        "DELETE FROM run_lanes WHERE run_id = 1",
        "UPDATE image_versions SET valid_to = '2026-01-01 02:30:00.000000' WHERE closed_run_id = 2",
        "UPDATE ledger SET content = replace(content, 'before', 'after') WHERE kind = 'prune'",
        "DELETE FROM ledger WHERE kind = 'prune'",
        "UPDATE images SET last_seen_at = '2027-01-01 00:00:00.000000'",
        "UPDATE images SET last_checked_at = NULL, last_attempt_at = NULL WHERE state = 'gone'",
        (
            "INSERT INTO observation_rows (run_id, lane_id, image_pk, outcome, attempts)"
            " VALUES (1, 1, 1, 'not_attempted', 0)"
        ),
    ):
        forged = sealed.with_name("forged.db")
        shutil.copy(sealed, forged)
        forge(forged, statement)
        assert any(f.differs for f in await findings(f"sqlite:///{forged}")), statement


async def test_pruning_in_many_steps(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each transaction takes whole runs and appends its own entry."""
    monkeypatch.setattr("collector.store.prune._ROWS", 1)
    async with Database(f"sqlite:///{sealed}") as database:
        pruned = await prune(database, START + timedelta(days=1))
        async with database.read() as connection:
            rows = (await connection.execute(ledger_table.select())).all()
    assert pruned.runs == (1, 2, 3)
    assert [row.kind for row in rows] == ["run", "run", "run", "prune", "prune", "prune"]
    assert await findings(f"sqlite:///{sealed}") == []


async def test_a_pruning_that_is_killed_is_completed_by_the_next(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is pruned at once, and what is left verifies."""
    monkeypatch.setattr("collector.store.prune._ROWS", 1)
    before = START + timedelta(days=1)

    def kill(text: str) -> None:
        if text == "run 2 (2 of 3)":
            raise KeyboardInterrupt

    async with Database(f"sqlite:///{sealed}") as database:
        with pytest.raises(KeyboardInterrupt):
            await prune(database, before, progress=kill)
        assert await findings(f"sqlite:///{sealed}") == []
        assert (await prune(database, before)).runs == (2, 3)
    assert await findings(f"sqlite:///{sealed}") == []


async def test_pruning_hides_nothing(sealed: Path) -> None:
    """A run whose observations are not what was sealed is not pruned."""
    forge(sealed, "UPDATE observation_rows SET attempts = 2 WHERE run_id = 2")
    async with Database(f"sqlite:///{sealed}") as database:
        pruned = await prune(database, START + timedelta(days=1))

    assert (pruned.runs, pruned.refused) == ((1, 3), (2,))
    assert {f.kind for f in await findings(f"sqlite:///{sealed}")} == {"observations"}


async def test_unsealed_runs_are_not_pruned(sqlite_url: str) -> None:
    """A run without a digest keeps its observations, however old."""
    async with Database(sqlite_url) as database:
        await Inventory(database).run({NORTH: {"img-1": Outcome.DENIED}})

        assert (await prune(database, START + timedelta(days=900))).runs == ()
