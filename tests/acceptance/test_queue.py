"""`collector queue` as an operator types it: what it prints, and its exit codes."""

import json
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.site import Site

TWO = {"default": "env", "other": "file:other.toml"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def die(site: Site, image_id: str, outcome: str | None, error: str | None) -> None:
    """Make a waiting item a dead letter."""
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute(
            "UPDATE queue_items SET deliveries = 5, dead_at = '2026-01-02 03:04:05.000006',"
            " last_outcome = ?, last_error = ? WHERE image_id = ?",
            (outcome, error, image_id),
        )


def test_what_is_added_waits_once(site: Site) -> None:
    """The first add makes the database; a duplicate collapses; the table and JSON count alike."""
    empty = site.run("queue", "status")
    assert empty.code == 69  # there is no database yet
    assert site.run("queue", "add", "cn-north-1/a", "cn-east-1/b").out == (
        "2 ids added to the queue\n"
    )
    lines = "cn-north-1/a\n# a comment\ncn-north-1/c\n"
    piped = site.run("queue", "add", "--json", "--ids-file", "-", stdin=lines)
    assert piped.document == {"added": 1}
    told = "0 ids added to the queue; 3 waited already, or came twice\n"
    assert site.run("queue", "add", "cn-north-1/a", "cn-north-1/a", "cn-north-1/c").out == told
    shown = site.run("queue", "status").out.splitlines()
    assert shown[0].startswith("account  region")
    assert shown[0].endswith("failed  oldest waiting  oldest in flight")
    assert [line.split()[:6] for line in shown[1:]] == [
        ["default", "cn-east-1", "1", "0", "0", "0"],
        ["default", "cn-north-1", "2", "0", "0", "0"],
    ]
    document = site.run("queue", "status", "--json").document
    assert [(lane["region"], lane["ready"]) for lane in document["lanes"]] == [
        ("cn-east-1", 1),
        ("cn-north-1", 2),
    ]
    assert document["holders"] == []


def test_an_empty_listing_adds_nothing(site: Site) -> None:
    """`discover` prints nothing for an account without images: for the pipe that is no mistake."""
    for stdin in ("", "# nothing today\n"):
        piped = site.run("queue", "add", "--ids-file", "-", stdin=stdin)
        assert (piped.code, piped.out) == (0, "0 ids added to the queue\n")


def test_an_empty_queue_and_who_holds_an_account(site: Site) -> None:
    """Nothing waits, and somebody is at work: both commands that tell of it name the process."""
    assert site.run("db", "upgrade").code == 0
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute(
            "INSERT INTO leases (name, account, holder, boot_id, pid, pid_started, token, expires,"
            " free_at) VALUES ('ak:1', 'default', 'far away, pid 7', 'b', 7, 7, 1,"
            " '2999-01-01 00:00:00.000000', '2000-01-01 00:00:00.000000')"
        )
    assert site.run("queue", "status").out.splitlines() == [
        "the queue is empty",
        "default is held by far away, pid 7",
    ]
    assert "far away, pid 7" in site.run("status").out


def test_dead_letters_are_listed_and_taken_back(site: Site) -> None:
    """Each with its last error; by id, by REGION/ID, or all; an unknown one is 1."""
    ids = [f"cn-north-1/{name}" for name in "abcd"]
    assert site.run("queue", "add", *ids).code == 0
    die(site, "a", "denied", "HTTP_FORBIDDEN: no\x1b[31m")
    die(site, "b", "timeout", None)
    die(site, "c", None, None)
    listed = site.run("queue", "failed").out.splitlines()
    assert [line.split(" (")[0] for line in listed] == [
        "default cn-north-1/a: denied HTTP_FORBIDDEN: no\\x1b[31m",
        "default cn-north-1/b: timeout",
        "default cn-north-1/c: no reason known",
    ]
    assert all("5 deliveries, dead since 2026-01-02T03:04:05.000006Z" in line for line in listed)
    letters = [json.loads(line) for line in site.run("queue", "failed", "--json").out.splitlines()]
    assert [letter["image_id"] for letter in letters] == ["a", "b", "c"]
    assert site.run("queue", "retry", "nobody").code == 1
    some = site.run("queue", "retry", "cn-north-1/a", "cn-east-1/a")
    assert (some.code, some.out) == (1, "1 dead letter retried\n")
    assert some.line == "collector: cn-east-1/a is no dead letter to retry"
    told = {"retried": 1, "unknown": []}
    assert site.run("queue", "retry", "b", "--json").document == told
    assert site.run("queue", "retry", "--all").code == 0
    assert site.run("queue", "failed").out == ""
    assert site.run("queue", "retry", "--all").code == 0
    (line,) = site.run("queue", "status").out.splitlines()[1:]
    assert line.split()[2] == "4"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("add",), "give REGION/ID or --ids-file"),
        (("add", "no-slash"), "REGION/ID"),
        (("retry",), "either --all or the ids"),
        (("retry", "--all", "a"), "either --all or the ids"),
        (("retry", "--all", "--account", "nobody"), "no account 'nobody'"),
        (("retry", "--all", "--account", ""), "no account ''"),
        (("add", "--account", "", "cn-north-1/a"), "no account ''"),
    ],
)
def test_mistakes_are_one_line(site: Site, words: tuple[str, ...], text: str) -> None:
    """Nothing is done, and the line says what is wanted."""
    ended = site.run("queue", *words)
    assert (ended.code, ended.out) == (2, "")
    assert text in ended.line


def test_the_account_must_be_named_when_there_are_several(site: Site) -> None:
    """An id belongs to one account; with two, the command does not guess."""
    site.configure('account = "default"\nregion = "cn-north-1"\nimages = ["a"]', accounts=TWO)
    ended = site.run("queue", "add", "cn-north-1/a")
    assert ended.code == 2
    assert "--account" in ended.line
    assert site.run("queue", "add", "--account", "other", "cn-north-1/a").code == 0
    (lane,) = site.run("queue", "status", "--json").document["lanes"]
    assert (lane["account"], lane["ready"]) == ("other", 1)


@pytest.mark.parametrize(
    "words", ["queue status", "queue failed", "queue retry --all", "db status"]
)
def test_a_signal_while_the_database_says_nothing(site: Site, words: str) -> None:
    """Nobody has to wait for what may never answer; nothing but the exit code tells of it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        site.configure(database=f"postgresql://root@127.0.0.1:{silent.getsockname()[1]}/x")
        with site.popen(*words.split()) as process:
            taken, _ = silent.accept()
            ended = site.end(process, number=signal.SIGTERM)
            taken.close()
    assert ended == (143, "", "")
