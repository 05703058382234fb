"""`verify` and `db` as a person uses them: output and exit codes, on each database."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from collector.cli.main import main
from collector.store.engine import Database
from collector.store.leases import Leases
from tests.support.sealed import history

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """A function that runs a command and returns exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLLECTOR_DATABASE__URL", raising=False)
    monkeypatch.delenv("COLLECTOR_CONFIG", raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        return code, *capfd.readouterr()

    return run


def fill(url: str, *statements: str) -> list[str]:
    """Seal a history, then forge it."""

    async def work() -> list[str]:
        async with Database(url) as database:
            digests = await history(database)
            async with database.write() as connection:
                for statement in statements:
                    await connection.execute(text(statement))
        return digests

    return asyncio.run(work())


def test_verify(database_url: str, run: Run) -> None:
    """A clean database: exit 0, and the last digest to keep."""
    *_, last = fill(database_url)

    code, output, error = run("verify", "--database", database_url, "--expect", f"3:{last}")
    assert (code, error) == (0, "")
    assert output == f"nothing differs\nlast digest: 3:{last}\n"


def test_verify_differs(database_url: str, run: Run) -> None:
    """A forged one: exit 1 and a line for each thing that differs; as JSON one document."""
    *_, last = fill(database_url, "UPDATE runs SET requests = 5 WHERE id = 1")

    code, output, _ = run("verify", "--database", database_url)
    assert code == 1
    assert output.splitlines() == [
        "run  run 1: requests is 5, sealed as 0",
        "findings: 1",
        f"last digest: 3:{last}",
    ]

    code, output, _ = run("verify", "--database", database_url, "--json")
    assert code == 1
    assert json.loads(output) == {
        "findings": [{"kind": "run", "where": "run 1", "what": "requests is 5, sealed as 0"}],
        "unsealed": [],
        "last": {"run_id": 3, "digest": last},
        "ok": False,
    }


def test_verify_expected(sqlite_url: str, run: Run) -> None:
    """Another digest than the one kept, or none, is a difference; nonsense is a usage error."""
    fill(sqlite_url)
    for expected in ("3:" + "a" * 64, "9:" + "a" * 64):
        code, output, _ = run("verify", "--database", sqlite_url, "--expect", expected)
        assert (code, output.startswith("expected  run")) == (1, True)
    for nonsense in ("3", "x:y", "3:" + "g" * 64, ":" + "a" * 64):
        code, output, error = run("verify", "--database", sqlite_url, "--expect", nonsense)
        assert (code, output) == (2, "")
        assert "allowed: RUN_ID:DIGEST" in error


def test_verify_expects_one_digest_of_a_run(sqlite_url: str, run: Run) -> None:
    """Of two digests of one run none is passed over; the same one twice is one."""
    *_, last = fill(sqlite_url)
    right, wrong = ("--expect", f"3:{last}"), ("--expect", "3:" + "a" * 64)

    assert run("verify", "--database", sqlite_url, *right, *right)[0] == 0
    code, output, error = run("verify", "--database", sqlite_url, *wrong, *right)
    assert (code, output) == (2, "")
    assert "two digests" in error


def test_verify_hostile_text(sqlite_url: str, run: Run) -> None:
    """What was forged cannot write to the terminal."""
    fill(sqlite_url, "UPDATE image_versions SET name = '\x1b[31m\u202eevil' WHERE id = 1")

    code, output, _ = run("verify", "--database", sqlite_url)
    assert code == 1
    assert r"\x1b[31m\u202eevil" in output
    assert "\x1b" not in output


def test_verify_needs_a_database_of_ours(sqlite_url: str, run: Run, tmp_path: Path) -> None:
    """Absent: 69; empty or another program's: 78."""
    assert run("verify", "--database", f"sqlite:///{tmp_path}/absent.db")[0] == 69
    empty = tmp_path / "empty.db"
    empty.touch()
    assert run("verify", "--database", f"sqlite:///{empty}")[0] == 78


def test_status(new_database: Callable[..., str], database_url: str, run: Run) -> None:
    """At head without drift: 0; drifted or empty: 78."""
    code, output, _ = run("db", "status", "--database", database_url, "--json")
    assert (code, json.loads(output)["ok"]) == (0, True)

    async def drift() -> None:
        async with Database(database_url) as database, database.write() as connection:
            await connection.execute(text("ALTER TABLE runs ADD COLUMN more INTEGER"))
            await connection.execute(text("DROP VIEW run_coverage"))

    asyncio.run(drift())
    code, output, _ = run("db", "status", "--database", database_url)
    assert code == 78
    assert "drift: remove_column runs more" in output
    assert "drift: view run_coverage is missing" in output

    empty = new_database("sqlite", migrated=False)
    Path(empty.removeprefix("sqlite:///")).touch()
    code, output, _ = run("db", "status", "--database", empty)
    assert code == 78
    assert "`collector db upgrade` creates its tables" in output


def test_a_newer_database_is_78_for_every_command(database_url: str, run: Run) -> None:
    """Migrating it with this program is no way; the line says what is."""

    async def newer() -> None:
        async with Database(database_url) as database, database.write() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    asyncio.run(newer())
    for words in (("upgrade",), ("downgrade", "base"), ("status",)):
        code, output, error = run("db", words[0], "--database", database_url, *words[1:])
        assert code == 78, words
        assert "upgrade the program, or `collector db downgrade` with the newer one" in (
            output if words == ("status",) else error
        )
    code, output, _ = run("db", "status", "--database", database_url, "--json")
    assert (code, json.loads(output)["revision"]) == (78, "9999")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql"])
def test_upgrade_and_downgrade(kind: str, new_database: Callable[..., str], run: Run) -> None:
    """Up, status, down to nothing, up again; a revision that is not there is a usage error."""
    url = new_database(kind, migrated=False)
    for words, code, said in (
        (("upgrade",), 0, "at revision"),
        (("status",), 0, "head"),
        (("upgrade", "head"), 0, "at revision"),
        (("upgrade", "7777"), 2, ""),
        (("downgrade", ""), 2, ""),
        (("downgrade", "base"), 0, "is empty"),
        (("status",), 78, "the database is empty"),
        (("upgrade",), 0, "at revision"),
    ):
        found, output, error = run("db", words[0], "--database", url, *words[1:])
        assert (found, said in output) == (code, True), (words, output, error)
        assert "Traceback" not in error
        if words == ("upgrade", "7777"):
            assert "identified by '7777'; allowed: base, 0001, head" in error
    for words, revision in ((("upgrade",), "0001"), (("downgrade", "base"), None)):
        code, output, _ = run("db", words[0], "--database", url, *words[1:], "--json")
        assert (code, json.loads(output)) == (0, {"revision": revision})


def test_no_migration_under_a_process_at_work(database_url: str, run: Run) -> None:
    """Who holds an account looked at the revision when it began; nothing changes: no matter."""

    async def hold() -> None:
        async with Database(database_url) as database:
            await Leases(database, {"one": "ak:1"}).take_all()

    async def let_go() -> None:
        async with Database(database_url) as database, database.write() as connection:
            await connection.execute(text("DELETE FROM leases"))

    asyncio.run(hold())
    where = ("--database", database_url)
    code, output, error = run("db", "downgrade", "base", *where)
    assert (code, output) == (75, "")
    assert "account one is held by another process" in error
    assert run("db", "upgrade", *where)[0] == 0
    asyncio.run(let_go())
    assert run("db", "downgrade", "base", *where)[0] == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize("way", ["upgrade", "downgrade"])
def test_a_signal_in_the_midst_of_a_migration(
    kind: str, way: str, new_database: Callable[..., str], run: Run
) -> None:
    """It is as if nothing had been done; where that is not possible, all of it is done."""
    url, begin = new_database(kind, migrated=way == "downgrade"), "CREATE TABLE"
    words = ("upgrade", "--database", url)
    if way == "downgrade":
        words, begin = ("downgrade", "--database", url, "base"), "DROP TABLE"
    told: list[str] = []

    def signalled(*arguments: Any) -> None:
        if arguments[2].lstrip().startswith(begin) and not told:
            told.append(arguments[2])
            os.kill(os.getpid(), signal.SIGTERM)

    event.listen(Engine, "before_cursor_execute", signalled)
    try:
        code, output, error = run("db", *words)
    finally:
        event.remove(Engine, "before_cursor_execute", signalled)
    assert told
    assert (code, error) == (0 if kind == "mysql" else 143, "")
    assert bool(output) == (kind == "mysql")
    at_head = (way == "upgrade") == (kind == "mysql")
    assert run("db", "status", "--database", url)[0] == (0 if at_head else 78)
    assert run("db", "upgrade", "--database", url)[0] == 0
    assert run("db", "status", "--database", url)[0] == 0


@pytest.mark.parametrize(
    ("dialect", "word"),
    [
        ("sqlite", "WITHOUT ROWID"),
        ("postgresql", 'COLLATE "C"'),
        ("mysql", "/*M! utf8mb4_nopad_bin */ /*!80017 utf8mb4_0900_bin */"),  # MariaDB's, MySQL's
    ],
)
def test_sql(dialect: str, word: str, run: Run) -> None:
    """The DDL of each kind, without a database or a configuration."""
    code, output, _ = run("db", "sql", "--dialect", dialect)

    assert code == 0
    assert word in output
    assert "CREATE VIEW run_coverage" in output
    assert "RETURNING" not in output  # SQLite before 3.35 has no such word


def test_sql_is_of_the_configured_kind(sqlite_url: str, run: Run) -> None:
    """Without --dialect it is the configured database's."""
    assert "WITHOUT ROWID" in run("db", "sql", "--database", sqlite_url)[1]
    assert run("db", "sql")[0] == 78


def test_an_old_sqlite(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not keep a plan of a thousand images is refused before there is a file."""
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.26.0")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 26, 0))

    code, output, error = run("db", "upgrade", "--database", "sqlite:///a.db")

    told = "collector: database sqlite:///a.db: SQLite is 3.26.0; needed: 3.34 or newer\n"
    assert (code, output, error) == (78, "", told)
    assert not list(tmp_path.iterdir())


def test_prune(database_url: str, run: Run) -> None:
    """What is older goes, what was forged stays and is named, and verify accepts it."""
    fill(database_url, "UPDATE observation_rows SET attempts = 9 WHERE run_id = 2")
    code, output, _ = run("db", "prune", "--database", database_url, "--older-than", "99999d")
    assert (code, output) == (0, "pruned 0 observations of 0 runs\n")

    # The history is of January 2026.
    code, output, _ = run("db", "prune", "--database", database_url, "--older-than", "1d")
    assert code == 1
    assert output.splitlines() == [
        "pruned 32 observations of 2 runs",
        "run 2 is not what was sealed and stays; see `collector verify`",
    ]
    assert run("verify", "--database", database_url)[1].count("run 2, block 0") == 1


def test_prune_by_configuration(sqlite_url: str, run: Run, tmp_path: Path) -> None:
    """Without --older-than, [retention] decides; one that keeps everything prunes nothing."""
    fill(sqlite_url)
    target = '[[targets]]\naccount="default"\nregion="cn-north-1"\nimages=["img-1"]\n'
    account = '[[accounts]]\nname="default"\ncredentials="env"\n'
    settings = tmp_path / "collector.toml"
    for kept, code, said in (("0", 2, ""), ("99999d", 0, "pruned 0"), ("1d", 0, "pruned 48")):
        settings.write_text(
            f'[database]\nurl="{sqlite_url}"\n[retention]\nobservations="{kept}"\n{account}{target}'
        )
        found, output, error = run("db", "prune")
        assert (found, output.startswith(said)) == (code, True), error


def test_copy(database_url: str, new_database: Callable[..., str], run: Run) -> None:
    """Every row arrives and verifies; a second copy into it is refused."""
    *_, last = fill(database_url)
    target = new_database("sqlite", migrated=False)
    code, output, _ = run("db", "copy", "--database", database_url, "--to", target, "--json")
    assert (code, json.loads(output)["rows"]["observation_rows"]) == (0, 48)
    assert run("verify", "--database", target, "--expect", f"3:{last}")[0] == 0

    code, _, error = run("db", "copy", "--database", database_url, "--to", target)
    assert code == 2
    assert "is not empty" in error
    code, _, error = run("db", "copy", "--database", database_url, "--to", "nonsense")
    assert (code, error.startswith("collector: --to: found ")) == (78, True)


DOCUMENT = Path(__file__).parents[2] / "docs" / "tamper-evidence.md"


def recipes() -> dict[str, str]:
    """The shell recipes of the document, by their first comment."""
    blocks = DOCUMENT.read_text().split("```sh\n")[1:]
    found = [block.split("```")[0] for block in blocks]
    return {block.splitlines()[0].removeprefix("# "): block for block in found}


@pytest.fixture
def shell(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A function that runs a recipe where `collector` is this program on a sealed database."""
    fill(sqlite_url)
    tools = tmp_path / "bin"
    tools.mkdir()
    program = "import sys; from collector.cli.main import main; sys.exit(main())"
    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(program)} "$@"\n'
    for name, content in {"collector": script, **STAND_INS}.items():
        (tools / name).write_text(content)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("COLLECTOR_DATABASE__URL", sqlite_url)
    monkeypatch.setenv("PATH", f"{tools}:{Path('/usr/bin')}:{Path('/bin')}")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "auditor")
        monkeypatch.setenv(f"{name}_EMAIL", "auditor@example.com")

    def run(script: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-euc", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


STAND_INS = {
    # There is no journal and no authority here: a file, and one that openssl makes.
    "systemd-cat": '#!/bin/sh\ncat >> "$HOME/journal"\n',
    "journalctl": '#!/bin/sh\ncat "$HOME/journal"\n',
    "curl": '#!/bin/sh\nexec sh "$HOME/authority.sh"\n',
}

AUTHORITY = """\
cd "$HOME"
openssl ts -reply -queryfile digest.tsq -out digest.tsr -config authority.cnf 2>authority.log
"""


@pytest.mark.parametrize("name", ["journald", "git", "RFC 3161"])
def test_recipes_keep_the_digest(
    name: str, shell: Callable[[str], str], sqlite_url: str, tmp_path: Path
) -> None:
    """What the document says to keep elsewhere finds a chain that was rewritten whole."""
    if name == "RFC 3161":
        make_authority(tmp_path, shell)
    keep, check = (recipes()[f"{name}: {step}"] for step in ("keep", "check"))
    shell(keep)
    shell(check)

    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE ledger SET digest = replace(digest, substr(digest, 1, 1), 'x')")
    with pytest.raises(AssertionError):
        shell(check)
    kept = (tmp_path / KEPT[name]).read_bytes()
    if name == "journald":
        shell(keep)  # its last command is the journal's
    else:
        with pytest.raises(AssertionError):
            shell(keep)
    assert (tmp_path / KEPT[name]).read_bytes() in {kept, b""}


KEPT = {"journald": "journal", "git": "digests/digests.txt", "RFC 3161": "digest.txt"}
"""Where a recipe keeps the digest, here."""


def make_authority(folder: Path, shell: Callable[[str], Any]) -> None:
    """A time stamping authority of this test."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    (folder / "authority.sh").write_text(AUTHORITY)
    (folder / "serial").write_text("01\n")
    (folder / "authority.cnf").write_text(
        "[req]\ndistinguished_name = name\nx509_extensions = stamping\nprompt = no\n"
        "[name]\nCN = test authority\n"
        "[stamping]\nextendedKeyUsage = critical, timeStamping\n"
        "[tsa]\ndefault_tsa = one\n"
        "[one]\nserial = serial\nsigner_cert = tsa.pem\ncerts = tsa.pem\nsigner_key = tsa.key\n"
        "signer_digest = sha256\ndefault_policy = 1.2.3.4\ndigests = sha256\n"
    )
    shell(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout tsa.key -out tsa.pem -days 1"
        " -config authority.cnf 2>/dev/null"
    )


@pytest.mark.parametrize("revision", ["7777", "-1", "0001:head"])
def test_a_revision_that_is_not_there_creates_no_file(
    revision: str, tmp_path: Path, run: Run
) -> None:
    """It is refused before anything is done."""
    code, _, error = run(
        "db", "upgrade", "--database", f"sqlite:///{tmp_path}/a.db", "--", revision
    )
    assert (code, error.count("\n")) == (2, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("downgrade", "base"), ("downgrade", "0001"), ("status",)])
def test_an_absent_file_stays_absent(words: tuple[str, ...], tmp_path: Path, run: Run) -> None:
    """Only `upgrade` creates a database."""
    code, _, error = run("db", words[0], "--database", f"sqlite:///{tmp_path}/a.db", *words[1:])
    assert code == 69
    assert "there is no such file" in error or "unable to open" in error
    assert list(tmp_path.iterdir()) == []
