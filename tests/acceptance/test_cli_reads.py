"""`show`, `changes`, `status` and `export` as installed: output, exit codes, no writing."""

import asyncio
import csv
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.models import LaneKey, Members, Outcome
from collector.normalize import members
from tests.support.forked import forker
from tests.support.inventory import disk, image, inventory

NORTH, OTHER = LaneKey("main", "cn-north-1"), LaneKey("other", "cn-north-1")
EVIL = "=\x1b]0;owned\x07\x1b[31m\u202ename"
ENTRY = "import sys; from collector.cli.main import main; sys.exit(main())"
DAY = ("--since", "2026-01-01", "--until", "2026-01-02T00:00+00:00")


async def fill(url, recent):
    first = image("img-a", name=EVIL, dataDisks=[disk("vdb")])
    shared = Members(Outcome.PRESENT, *members({"pins": ["friend"]}))
    async with inventory(url) as made:
        await made.run(
            {
                NORTH: {"img-a": first, "img-b": image("img-b"), "img-u": Outcome.DENIED},
                OTHER: {"img-a": (image("img-a"), shared)},
            }
        )
        second = image("img-a", name=EVIL, osVersion="8.3", dataDisks=[disk("vdb", 200)])
        await made.run({NORTH: {"img-a": second, "img-b": Outcome.NOT_FOUND}})
        await made.run({NORTH: {"img-a": second}, OTHER: {"img-a": image("img-a")}}, at=recent)


@pytest.fixture(scope="module")
def database(sqlite_template, tmp_path_factory):
    """Two runs on 2026-01-01 at 01:00 and 02:00, and one an hour ago, read-only from here on."""
    folder = tmp_path_factory.mktemp("reads")
    path = folder / "inventory.db"
    shutil.copy(sqlite_template, path)
    asyncio.run(fill(f"sqlite:///{path}", datetime.now(UTC) - timedelta(hours=1)))
    path.chmod(0o444)
    return f"sqlite:///{path}"


def start(database, *words, **options):
    clean = {name: text for name, text in os.environ.items() if not name.startswith("COLLECTOR_")}
    words = [sys.executable, "-c", ENTRY, words[0], "--database", database, *words[1:]]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", env=clean, **options
    )


def run(database, *words):
    """Exit code, standard output and standard error of a command."""
    return forker().run(Path("/"), words[0], "--database", database, *words[1:], constants={})


def document(database, *words, code=0):
    returned, out, err = run(database, *words, "--json")
    assert (returned, err) == (code, "")
    return json.loads(out)


def test_show_tells_each_account_and_no_control_character(database):
    """An image is shown for every account that has it; its name cannot drive the terminal."""
    code, out, err = run(database, "show", "cn-north-1/img-a")

    assert (code, err) == (0, "")
    assert "main cn-north-1/img-a\n  present, last seen" in out
    assert "other cn-north-1/img-a" in out
    assert r"=\x1b]0;owned\x07\x1b[31m\u202ename" in out
    assert set(out) - {"\n"} == {char for char in out if char.isprintable()}
    assert "disk_size_gb 200" in out
    only = document(database, "show", "cn-north-1/img-a", "--account", "other")["images"]
    assert [(one["account"], one["version"]["name"]) for one in only] == [("other", "image img-a")]
    assert only[0]["members"]["pins"] == [{"pin": "friend", "login_name": None}]


@pytest.mark.parametrize(
    ("image_id", "at", "knowledge", "code"),
    [
        ("img-b", "2026-01-01T09:00:00.002+08:00", "confirmed", 0),
        ("img-b", "2026-01-01T01:30", "assumed", 0),
        ("img-b", "2026-01-02", "gone", 0),
        ("img-b", "2025-12-31", "not known", 1),
        ("img-u", "1h", "not known", 1),
    ],
)
def test_show_at_says_what_is_known(database, image_id, at, knowledge, code):
    """As of a time an image is confirmed, assumed, gone or not known: in words and in JSON."""
    words = ("show", f"cn-north-1/{image_id}", "--at", at)
    returned, out, _ = run(database, *words)
    found = document(database, *words, code=code)

    assert returned == code
    assert f"{knowledge} as of 20" in out
    assert " UTC" in out
    assert [one["knowledge"] for one in found["images"]] == [knowledge]
    assert (found["images"][0]["version"] is None) == bool(code)


def test_a_time_that_is_told_can_be_handed_back(database):
    """The time of a change, as it is printed, shows what was changed, not what was before."""
    out = run(database, "changes", "--since", "2026-01-01", "--until", "2026-01-02")[1]
    told = next(line for line in out.splitlines() if "appeared main cn-north-1/img-b" in line)
    at = told.partition(" appeared")[0]

    code, out, _ = run(database, "show", "cn-north-1/img-b", "--at", at)
    assert (code, f"confirmed as of {at}\n" in out) == (0, True)
    assert f"version from         {at} (run 1)" in out


def test_show_tells_no_failure_before_it_began(database):
    """As of a time before the first failed attempt nothing was unread."""
    words = ("show", "cn-north-1/img-u", "--at")
    out = run(database, *words, "2026-01-02")[1]

    assert "unread since 2026-01-01 01:00:00.003000 UTC: denied" in out
    assert "unread" not in run(database, *words, "2025-12-31")[1]


def test_show_history_tells_what_changed_in_each_version(database):
    """Every version comes with its period and what it changed, disks too."""
    found = document(database, "show", "cn-north-1/img-a", "--history", "--account", "main")
    first, second = found["images"][0]["versions"]

    assert (first["valid_to"], second["valid_to"]) == (second["valid_from"], None)
    assert first["changes"]["kind"] == "appeared"
    assert second["changes"] == {
        "kind": "changed",
        "fields": [{"field": "os_version", "old": "8.2", "new": "8.3"}],
        "disks": [
            {
                "role": "data",
                "position": 1,
                "change": "changed",
                "fields": [{"field": "disk_size_gb", "old": 100, "new": 200}],
            }
        ],
    }
    code, out, _ = run(database, "show", "cn-north-1/img-a", "--history")
    assert code == 0
    assert "  os_version 8.2 → 8.3\n  ~ disk data 1 changed: disk_size_gb 100 → 200\n" in out
    assert "+ members added: friend added" in out
    assert (
        "vanished main cn-north-1/img-b"
        in run(database, "show", "cn-north-1/img-b", "--history")[1]
    )


def test_show_finds_nothing_with_exit_code_1(database):
    """No such image: one line, an empty document, exit 1."""
    code, out, err = run(database, "show", "cn-east-2/img-a", "--json")

    assert (code, json.loads(out)["images"]) == (1, [])
    assert err == "collector: the database has no image cn-east-2/img-a\n"
    assert run(database, "show", "cn-north-1/img-a", "--account", "x")[::2] == (
        *(1, "collector: the database has no image cn-north-1/img-a of account x\n"),
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("show", "img-a"), "REGION/ID: found 'img-a'; allowed: REGION/ID"),
        (("show", "cn-north-1/img-a", "--at", "soon"), "found 'soon'; allowed: a date, ISO 8601"),
        (("show", "cn-north-1/img-a", "--at", "1h", "--history"), "exclude each other"),
        (("changes", "--since", "1h", "--until", "2h"), "is not before --until"),
        (("status", "--max-age", "0"), "found '0'; allowed: as 30m, 26h, 7d"),
        (("export", "current_imags", "--format", "csv"), "did you mean current_images?"),
        (("export", "images", "--format", "xls"), "'csv', 'jsonl', 'parquet'"),
        (("export", "images", "--format", "csv", "--output", "/no/x"), "/no/x: No such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(database, words, told):
    """The line says what was found and what is allowed."""
    code, out, err = run(database, *words)

    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_changes_are_one_array_of_everything_that_changed(database):
    """Fields, disks, members, who appeared and who vanished, in the order of time."""
    found = document(database, "changes", *DAY)

    assert [(change["kind"], change["account"], change["image_id"]) for change in found] == [
        ("appeared", "main", "img-a"),
        ("appeared", "main", "img-b"),
        ("appeared", "other", "img-a"),
        ("changed", "main", "img-a"),
        ("vanished", "main", "img-b"),
    ]
    assert found[3]["fields"] == [{"field": "os_version", "old": "8.2", "new": "8.3"}]
    assert found[2]["members"]["fields"] == [{"field": "member", "old": None, "new": "friend"}]
    assert found[0]["name"] == EVIL
    code, out, _ = run(database, "changes", *DAY)
    assert code == 0
    assert "\nchanges from 2026-01-01 00:00:00 UTC until 2026-01-02 00:00:00 UTC: 5\n" in out
    assert set(out) - {"\n"} == {char for char in out if char.isprintable()}


def test_without_changes_the_array_is_empty(database):
    """The default is the last 24 hours, in which nothing changed."""
    assert document(database, "changes") == []
    assert run(database, "changes")[1].endswith(": 0\n")


def test_status_ends_with_3_when_it_is_stale(database):
    """Fresh within the age that is allowed; else stale, in the first word and the exit code."""
    assert document(database, "status")["stale"] is False
    assert document(database, "status", "--max-age", "30m", code=3)["stale"] is True
    code, out, _ = run(database, "status")
    assert (code, out.split()[0]) == (0, "fresh")
    assert "last finished run: 3 (run), complete" in out
    assert "planned, 0 failed\n" in out
    assert "unread images: 1 denied\n  main cn-north-1/img-u: denied since 2026-01-01" in out
    assert "queue: 0 waiting or in flight, 0 dead letters" in out
    out = run(database, "status", "--max-age", "59m")[1]
    assert out.startswith("STALE")
    assert "--max-age 59.0 min\n" in out
    assert "--max-age 60 s\n" in run(database, "status", "--max-age", "1m")[1]


def test_status_says_that_newer_runs_do_not_count(database, tmp_path):
    """Only when there are some: why the run that it names is not the last one there is."""
    path = tmp_path / "inventory.db"
    shutil.copyfile(database.removeprefix("sqlite:///"), path)

    async def collect():
        async with inventory(f"sqlite:///{path}") as made:
            for trigger in ("run", "queue"):
                answers = {NORTH: {"img-a": image("img-a")}}
                await made.run(answers, at=datetime.now(UTC), scope="narrowed", trigger=trigger)

    asyncio.run(collect())
    out = run(f"sqlite:///{path}", "status")[1]
    assert "last finished run: 3 (run), complete" in out
    assert "0 failed; narrowed and queue runs since do not count: 2\n" in out


def test_export_is_exact_but_for_the_guard_of_csv(database, tmp_path):
    """A name that a spreadsheet would run is guarded in CSV alone."""
    _, text, _ = run(database, "export", "current_images", "--format", "csv")
    names = [row["name"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    _, lines, _ = run(database, "export", "current_images", "--format", "jsonl")

    assert names == [f"'{EVIL}", "image img-a"]
    assert json.loads(lines.splitlines()[0])["name"] == EVIL
    path = tmp_path / "out.parquet"
    code, out, _ = run(
        database, "export", "current_images", "--format", "parquet", "--output", str(path)
    )
    assert (code, out) == (0, "")
    piped = start(database, "export", "current_images", "--format", "parquet").communicate()[0]
    assert piped == path.read_bytes()
    assert piped.startswith(b"PAR1")


def test_reading_writes_nothing(database):
    """The database is open read-only: the file is as it was, and has no companions."""
    path = Path(database.removeprefix("sqlite:///"))

    def state():
        return path.stat().st_mtime_ns, path.read_bytes(), list(path.parent.iterdir())

    before = state()
    for words in (("show", "cn-north-1/img-a"), ("changes",), ("status",)):
        run(database, *words)

    assert state() == before


def test_a_database_that_is_not_there_is_69_and_a_strange_one_78(tmp_path):
    """It is never created, and never migrated."""
    absent, strange = tmp_path / "absent.db", tmp_path / "strange.db"
    with closing(sqlite3.connect(strange)) as connection:
        connection.execute("CREATE TABLE other (x)")
    for words in (
        ("show", "r/i"),
        ("changes",),
        ("status",),
        ("export", "runs", "--format", "csv"),
    ):
        assert run(f"sqlite:///{absent}", *words)[0] == 69
        assert run(f"sqlite:///{strange}", *words)[0] == 78
    assert not absent.exists()


def test_a_signal_ends_an_export_and_leaves_no_part_of_it(database, tmp_path):
    """SIGTERM is exit 143; neither the file nor its temporary one stays."""
    reader, writer = os.pipe()
    path = tmp_path / "out.csv"
    slow = (
        "import os, sys, asyncio\n"
        "from collector import export\n"
        "async def batches(*_):\n"
        f"    os.write({writer}, b'.')\n"
        "    await asyncio.sleep(60)\n"
        "    yield []\n"
        "export.pages = batches\n"
    )
    words = ("export", "runs", "--database", database, "--format", "csv", "--output", str(path))
    process = subprocess.Popen(
        [sys.executable, "-c", slow + ENTRY, *words], pass_fds=[writer], cwd="/"
    )
    os.close(writer)
    assert os.read(reader, 1) == b"."
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=30) == 143
    assert not list(tmp_path.iterdir())
    os.close(reader)


@pytest.mark.parametrize(
    ("table", "forged"),
    [("images", "last_seen_at"), ("images", "first_seen_at"), ("runs", "finished_at")],
)
def test_a_forged_null_is_named_and_ends_no_reader(database, tmp_path, table, forged):
    """Whoever makes a time NULL is found by `verify`; the readers tell what is left."""
    path = shutil.copy(database.removeprefix("sqlite:///"), tmp_path / "forged.db")
    path.chmod(0o600)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE {table} SET {forged} = NULL")
    url = f"sqlite:///{path}"
    assert run(url, "show", "cn-north-1/img-a")[0] == 0
    assert run(url, "show", "cn-north-1/img-a", "--history")[0] == 0
    assert run(url, "changes", "--since", "2026-01-01")[0] == 0
    assert run(url, "status")[0] == (3 if table == "runs" else 0)
    assert run(url, "report", "--output", str(tmp_path / "report.html"))[0] == 0
    if table == "images":  # the runs of this history are not sealed
        code, out, _ = run(url, "verify")
        assert (code, forged in out) == (1, True)
