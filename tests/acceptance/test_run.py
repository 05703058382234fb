"""`collector run` as an operator meets it: exit codes, kills, signals, resumption, faults."""

import fcntl
import json
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from collector.simulator.faults import Faults
from tests.support.simulator import Simulator
from tests.support.site import ENTRY, REGIONS, Site, simulated, until

CONCURRENCY = 16
EVERYWHERE = [f'region = "{region}"\ndiscover = ["private", "shared"]' for region in REGIONS]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One that nobody changes; its counts are reset before each test."""
    with simulated(images=1200) as simulator:
        yield simulator


@pytest.fixture
def site(tmp_path: Path, simulator: Simulator) -> Site:
    simulator.requests.clear()
    simulator.hits.clear()
    simulator.faults = Faults()
    return Site(tmp_path, simulator.url)


def ids(simulator: Simulator, region: str, *sources: str) -> list[str]:
    found = []
    for image_id in simulator.ids(region):
        image = simulator.image(region, image_id)
        if image is not None and (not sources or image["imageSource"] in sources):
            found.append(image_id)
    return found


def listed(simulator: Simulator, count: int, region: str = "cn-north-1") -> str:
    """Lines for `--ids-file`."""
    return "".join(f"{region}/{one}\n" for one in ids(simulator, region)[:count])


def check_database(site: Site) -> None:
    """What must hold after anything: whole file, one row an item, counts that add up."""
    assert site.column("PRAGMA integrity_check") == ["ok"]
    assert site.column("PRAGMA foreign_key_check") == []
    for planned, present, not_found, failed, items in site.sql(
        "SELECT planned, present, not_found, failed, (SELECT count(*) FROM observation_rows"
        " WHERE run_id = runs.id) FROM runs WHERE status <> 'running'"
    ):
        assert planned == present + not_found + failed == items
    double = (
        "SELECT image_pk FROM image_versions WHERE valid_to IS NULL GROUP BY 1 HAVING count(*) > 1"
    )
    assert site.sql(double) == []


def test_a_run_collects_what_is_there(site: Site, simulator: Simulator) -> None:
    """Listed images of four regions; again, nothing new; `--json` is one document."""
    site.configure(*EVERYWHERE, rate_limit=2000)
    expected = {
        (region, image_id)
        for region in REGIONS
        for image_id in ids(simulator, region, "private", "shared")
    }
    ended = site.run("run", "--json")
    assert ended.code == 0
    first = ended.document
    assert (first["status"], first["planned"], first["present"]) == (
        "complete",
        len(expected),
        len(expected),
    )
    assert (first["new_versions"], first["unchanged"], first["resumed"]) == (
        len(expected),
        0,
        False,
    )
    assert first["requests"] == sum(simulator.requests.values())
    assert {lane["region"]: lane["coverage"] for lane in first["lanes"]} == dict.fromkeys(
        REGIONS, 1.0
    )
    assert set(site.sql("SELECT region, image_id FROM current_images")) == expected
    assert len(first["digest"]) == 64

    ended = site.run("run")
    assert ended.code == 0
    assert "complete" in ended.out
    assert f"0 new versions, {len(expected)} unchanged" in ended.out
    assert all(json.loads(line) for line in ended.err.splitlines())
    check_database(site)
    assert not Path(f"{site.database}-wal").exists()


def test_quiet_says_nothing_when_all_is_well(site: Site, simulator: Simulator) -> None:
    """Not a byte for cron to mail; one line when it is not well."""
    ended = site.run("run", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    simulator.faults = Faults.parse("403=1")
    ended = site.run("run", "--quiet")
    assert (ended.code, ended.out) == (3, "")
    (line,) = ended.err.splitlines()
    assert "1 listing failed" in line
    assert line.count("permission denied") == 1
    simulator.faults = Faults.parse("401=1")
    ended = site.run("run", "--quiet")
    assert (ended.code, ended.out) == (77, "")
    (line,) = ended.err.splitlines()
    assert "credentials refused" in line


def test_metrics_that_cannot_be_written_are_told(site: Site) -> None:
    """The inventory is none the worse for it; the line says where they were to be."""
    env = {"COLLECTOR_METRICS__TEXTFILE": "none/collector.prom"}
    ended = site.run("run", "--quiet", env=env)
    assert (ended.code, ended.out) == (0, "")
    path = site.directory / "none/collector.prom"
    assert ended.line == (
        f"collector: metrics.textfile: {path} is not written: No such file or directory"
    )
    path.parent.mkdir()
    ended = site.run("run", "--quiet", env=env)
    assert (ended.code, ended.err) == (0, "")
    assert "collector_" in path.read_text()


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_an_empty_one(site: Site, closed: str) -> None:
    """The collection is the same, and the database does not get the number of what was closed."""
    ended = site.run(args=["sh", "-c", f'exec "$0" -c "$1" run {closed}', sys.executable, ENTRY])
    assert ended.code == 0
    assert site.run("verify").code == 0


@pytest.mark.parametrize(
    ("words", "stdin", "code", "text"),
    [
        (["--image", "img-1"], "", 2, "REGION/ID: found 'img-1'; allowed: REGION/ID"),
        (["--image", "cn-north-1/a b"], "", 2, "which has ' ' at position 2"),
        (["--ids-file", "-"], "cn-north-1/a\n\n/b\n", 2, "standard input: line 3: "),
        (["--ids-file", "-"], "", 2, "selects no image at all"),
        (["--ids-file", "none.txt"], "", 2, "none.txt: No such file"),
        (["--ids-file", ""], "", 2, "--ids-file"),
        (["--discover", "private", "--region", "../x"], "", 2, "--region: found '../x'"),
        (["--region", ""], "", 2, "--region: found '', which is empty"),
        (["--min-coverage", "2"], "", 2, "--min-coverage"),
        (["--min-coverage", "nan"], "", 2, "found 'nan'; allowed: 0.0<=x<=1.0"),
        (["--account", "nobody"], "", 2, "there are: default"),
        (["--discover", "secret"], "", 2, "--discover"),
        (["--config", "none.toml"], "", 78, "none.toml"),
    ],
)
def test_a_mistake_is_one_line(
    site: Site, words: list[str], stdin: str, code: int, text: str
) -> None:
    """It is told before anything is called or written."""
    ended = site.run("run", *words, stdin=stdin)
    assert (ended.code, ended.out) == (code, "")
    assert text in ended.line
    assert not site.database.exists()


def test_coverage_decides_the_exit_code(site: Site, simulator: Simulator) -> None:
    """3 under `--min-coverage`, 0 at it; the run is partial either way, and says why."""
    simulator.faults = Faults.parse("region:cn-east-1=403")
    words = [f"--image=cn-north-1/{one}" for one in ids(simulator, "cn-north-1")[:3]]
    words.append("--image=cn-east-1/img-1")
    ended = site.run("run", *words, "--json")
    assert (ended.code, ended.document["status"]) == (3, "partial")
    (failure,) = ended.document["failures"]
    assert (failure["region"], failure["outcome"], failure["items"]) == ("cn-east-1", "denied", 1)
    assert site.run("run", *words, "--min-coverage", "0.75").code == 0
    ended = site.run("run", *words, "--min-coverage", "0.76")
    assert ended.code == 3
    assert "1 denied in default/cn-east-1, such as img-1: HTTP_FORBIDDEN" in ended.out


def test_nothing_that_listens_is_69(site: Site) -> None:
    """No connection at all; the run is failed, every item tells why."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    site.endpoint = f"http://127.0.0.1:{port}"
    site.configure(max_attempts=1)
    for words in (["--image", "cn-north-1/img-1"], []):
        ended = site.run("run", "--json", *words)
        assert (ended.code, ended.document["status"]) == (69, "failed")
    assert site.column("SELECT outcome FROM observations") == ["network_error"]


def test_an_endpoint_that_answers_errors_is_partial(site: Site, simulator: Simulator) -> None:
    """5xx to everything is an endpoint that was reached: 3, not 69; and nothing is lost."""
    assert site.run("run", "--quiet").code == 0
    before = site.sql("SELECT image_id, last_checked_at FROM images ORDER BY 1")
    simulator.faults = Faults.parse("500=1")
    site.configure(max_attempts=2)
    assert site.run("run", "--quiet").code == 3
    assert site.column("SELECT status FROM runs") == ["complete", "failed"]
    assert site.sql("SELECT image_id, last_checked_at FROM images ORDER BY 1") == before
    assert len(before) == len(site.sql("SELECT * FROM current_images"))


def test_a_wrong_secret_is_77(site: Site) -> None:
    """One request tells; nothing was readable; the secret is nowhere."""
    ended = site.run("run", env={"JDCLOUD_SECRET_KEY": "not-the-secret"})
    assert ended.code == 77
    assert "credentials_refused" in ended.err
    assert "not-the-secret" not in ended.out + ended.err


def test_a_database_out_of_reach_is_69(site: Site) -> None:
    """A directory that is not there, or is one itself."""
    for url, text in (
        (f"sqlite:///{site.directory}/none/c.db", "No such file or directory"),
        (f"sqlite:///{site.directory}", "Is a directory"),
    ):
        ended = site.run("run", env={"COLLECTOR_DATABASE__URL": url})
        assert (ended.code, ended.out) == (69, "")
        assert text in ended.line


def in_namespace(site: Site, before: str, after: str = ":") -> tuple[int, str]:
    """Run with mounts of its own; exit code and standard error."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    script = f'{before} || exit 250; "$0" -c "$1" run --quiet; code=$?; {after}; exit $code'
    words = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", script]
    ended = site.run(executable="unshare", args=[*words, sys.executable, ENTRY])
    if ended.code == 250 or ended.err.startswith("unshare:"):
        pytest.skip(f"this kernel mounts nothing for us: {ended.err}")
    return ended.code, ended.err


def test_a_read_only_database_is_69(site: Site) -> None:
    """An existing one on a medium that takes no writes; one line."""
    assert site.run("run", "--quiet").code == 0
    here = site.directory
    code, err = in_namespace(site, f"mount --bind {here} {here} && mount -o remount,bind,ro {here}")
    assert code == 69
    assert len(err.splitlines()) == 1
    assert "read" in err.lower()
    check_database(site)


def test_a_full_disk_is_69_and_loses_nothing(site: Site) -> None:
    """What was committed is there, the file is whole, and with room the run goes on."""
    site.configure(
        *(f'region = "{region}"\ndiscover = ["public", "private"]' for region in REGIONS),
        rate_limit=60,
    )
    full = site.directory / "full"
    full.mkdir()
    configuration = site.config.read_text()
    site.config.write_text(configuration.replace(str(site.database), f"{full}/collector.db"))
    code, err = in_namespace(
        site,
        f"mount -t tmpfs -o size=2560k none {full}",
        f"cp {full}/collector.db* {site.directory}",
    )
    assert code == 69
    assert len(err.splitlines()) <= 2  # the lease could not be given back either
    assert "full" in err.splitlines()[-1]
    read = site.column("SELECT count(*) FROM observations WHERE outcome = 'present'")[0]
    assert 0 < read < 828
    check_database(site)
    site.config.write_text(configuration)
    ended = site.run("run", "--json")
    assert (ended.code, ended.document["status"]) == (0, "complete")
    check_database(site)


def test_a_file_size_limit_is_69(site: Site) -> None:
    """`ulimit -f` is a disk that is full in another way."""
    limit = 400 * 1024
    ended = site.run(
        "run",
        "--quiet",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert ended.code == 69
    assert site.run("run", "--quiet").code == 0
    check_database(site)


def test_a_second_copy_at_once_is_75(site: Site, simulator: Simulator) -> None:
    """It names the holder at once, calls nothing, and the first is not disturbed."""
    site.configure(rate_limit=1, account_rate_limit=0)
    with site.running("run", "--json") as first:
        until(lambda: simulator.requests["describeImage"] > 1)
        calls = simulator.requests["describeImages"]
        ended = site.run("run", "--json")
        assert first.poll() is None  # it did not wait for the first one's end
        assert (ended.code, ended.out) == (75, "")
        assert f"pid {first.pid}" in ended.line
        assert simulator.requests["describeImages"] == calls
        assert site.run("discover").code == 75
        stopped = site.end(first, number=signal.SIGTERM)
        assert stopped.code == 143


def test_two_first_runs_at_once_share_one_database(site: Site) -> None:
    """Both find none and create it; one works, the other is refused, neither fails."""
    for _ in range(3):
        with site.running("run", "--quiet") as one, site.running("run", "--quiet") as two:
            ended = sorted((site.end(one), site.end(two)), key=lambda end: end.code)
        assert [end.code for end in ended] in ([0, 75], [0, 0]), ended
        check_database(site)
        site.database.unlink()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("DROP TABLE alembic_version", "belongs to another program"),
        ("DROP TABLE alembic_version", "`collector db upgrade`"),
        ("DELETE FROM alembic_version", "no revision"),
        ("UPDATE alembic_version SET version_num = '9999'", "it is newer"),
        ("UPDATE alembic_version SET version_num = NULL", "belongs to another program"),
    ],
)
def test_a_database_that_is_not_ours_is_78(
    site: Site, sqlite_template: Path, change: str, text: str
) -> None:
    """It stays as it was, and the line says which command mends it."""
    shutil.copy(sqlite_template, site.database)
    with closing(sqlite3.connect(site.database)) as connection:
        connection.execute(change.replace("= NULL", "= '0000'"))
        connection.commit()
    before = site.sql("SELECT name FROM sqlite_master ORDER BY 1")
    ended = site.run("run")
    assert (ended.code, ended.out) == (78, "")
    assert text in ended.line or "does not know" in ended.line
    assert site.sql("SELECT name FROM sqlite_master ORDER BY 1") == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_ids_are_awaited(site: Site, number: int, code: int) -> None:
    """Whoever fills the pipe takes his time: nothing is begun yet, and nothing is left."""
    with site.popen("run", "--ids-file", "-") as process:
        os.write(process.stdin.fileno(), b"cn-north-1/img-1\n")
        until(lambda: not _unread(process.stdin.fileno()), 60)
        process.send_signal(number)
        assert (process.wait(60), process.stderr.read()) == (code, b"")
    assert not site.database.exists()


def _unread(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_at_once_by_the_first_ones_code(
    site: Site, simulator: Simulator, number: int, code: int
) -> None:
    """Whoever asks twice does not wait for what is in flight."""
    simulator.faults = Faults.parse("hang=1")
    with site.running("run") as process:
        until(lambda: simulator.requests.total() > 0)
        process.send_signal(number)
        time.sleep(0.2)
        ended = site.end(process, number=signal.SIGTERM)
    assert (ended.code, ended.out, ended.err) == (code, "", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_drains_and_the_next_run_resumes(
    site: Site, simulator: Simulator, number: int, code: int
) -> None:
    """What is in flight is heard and committed: no image is asked for twice."""
    lines = listed(simulator, 200)
    site.configure(rate_limit=100)
    with site.running("run", "--json", "--ids-file", "-", stdin=lines) as process:
        until(lambda: simulator.requests["describeImage"] > 50)
        ended = site.end(process, number=number)
    assert ended.code == code
    first = ended.document
    assert first["status"] == "interrupted"
    assert first["present"] == simulator.requests["describeImage"] < 200
    assert first["digest"] is None
    check_database(site)
    resumed = site.run("run", "--json", "--ids-file", "-", stdin=lines)
    assert resumed.code == 0
    assert (resumed.document["id"], resumed.document["resumed"]) == (first["id"], True)
    assert resumed.document["requests"] == 200
    assert set(simulator.hits.values()) == {1}
    assert site.column("SELECT id FROM runs") == [1]


def test_kills_lose_what_was_in_flight_and_a_second(site: Site, simulator: Simulator) -> None:
    """kill -9 three times, standard input the same: every image once, few of them asked twice."""
    rate, kills, chance = 200, 3, random.Random()
    lines = listed(simulator, 300) + listed(simulator, 300, "cn-east-1")
    site.configure(rate_limit=rate)
    for number in range(kills):
        goal = simulator.requests["describeImage"] + chance.randrange(20, 150)
        with site.running("run", "--quiet", "--ids-file", "-", stdin=lines) as process:
            until(lambda goal=goal: simulator.requests["describeImage"] >= goal)
            process.kill()
            process.wait()
        assert site.column("SELECT count(*) FROM runs") == [1], number
    ended = site.run("run", "--json", "--ids-file", "-", stdin=lines)
    assert (ended.code, ended.document["status"]) == (0, "complete")
    assert ended.document["present"] == 600
    asked = simulator.requests["describeImage"]
    assert asked <= 600 + kills * 2 * (CONCURRENCY + rate)
    assert len(simulator.hits) == 600
    check_database(site)


def test_fresh_replaces_an_unfinished_run(site: Site, simulator: Simulator) -> None:
    """The old one is sealed as interrupted, the new one asks for everything."""
    lines = listed(simulator, 100)
    site.configure(rate_limit=150)
    with site.running("run", "--quiet", "--ids-file", "-", stdin=lines) as process:
        until(lambda: simulator.requests["describeImage"] > 50)
    ended = site.run("run", "--fresh", "--json", "--ids-file", "-", stdin=lines)
    assert (ended.code, ended.document["id"], ended.document["resumed"]) == (0, 2, False)
    assert ended.document["present"] == 100
    assert simulator.requests["describeImage"] > 150
    (old, new) = site.sql("SELECT status, digest, planned, finished_at FROM runs ORDER BY id")
    assert old[0] == "interrupted"
    assert None not in old + new
    assert process.returncode == -signal.SIGKILL
    check_database(site)


def test_another_plan_leaves_an_unfinished_run_alone(site: Site, simulator: Simulator) -> None:
    """It can still be resumed by its own plan."""
    site.configure(rate_limit=150)
    lines = listed(simulator, 100)
    with site.running("run", "--quiet", "--ids-file", "-", stdin=lines):
        until(lambda: simulator.requests["describeImage"] > 50)
    assert site.run("run", "--quiet", f"--image={lines.split()[0]}").code == 0
    ended = site.run("run", "--json", "--ids-file", "-", stdin=lines)
    assert (ended.document["id"], ended.document["resumed"]) == (1, True)
    assert site.column("SELECT status FROM runs ORDER BY id") == ["complete", "complete"]
    check_database(site)


def test_deletions_are_seen_by_their_404(tmp_path: Path) -> None:
    """A known image that the listing no longer has is asked for by its id, and comes back too."""
    with simulated(images=200) as simulator:
        site = Site(tmp_path, simulator.url)
        assert site.run("run", "--quiet").code == 0
        there = ids(simulator, "cn-north-1", "private")
        victim, changed = there[0], there[1]
        simulator.delete("cn-north-1", victim)
        simulator.change("cn-north-1", changed, desc="changed")
        document = site.run("run", "--json").document
        assert (document["status"], document["planned"]) == ("complete", len(there))
        assert (document["not_found"], document["new_versions"]) == (1, 1)
        gone = "SELECT image_id FROM images WHERE state = 'gone'"
        assert site.column(gone) == [victim]
        # Gone and not listed: nobody asks for it any more.
        assert site.run("run", "--json").document["planned"] == len(there) - 1
        simulator.restore("cn-north-1", victim)
        assert site.run("run", "--json").document["new_versions"] == 1
        assert site.column(gone) == []
        history = (
            "SELECT valid_to IS NULL FROM image_history WHERE image_id = ? ORDER BY valid_from"
        )
        assert site.column(history, victim) == [0, 1]
        check_database(site)


def test_a_listing_that_fails_is_partial_and_deletes_nothing(tmp_path: Path) -> None:
    """The known images are still read, a deleted one among them is seen by its 404."""
    with simulated(images=200) as simulator:
        site = Site(tmp_path, simulator.url)
        assert site.run("run", "--quiet").code == 0
        there = ids(simulator, "cn-north-1", "private")
        simulator.delete("cn-north-1", there[0])

        async def refuse(request: object) -> object:
            from aiohttp import web

            if "imageSource" in request.query_string:
                return web.json_response({"error": {"code": 403, "status": "NO"}}, status=403)
            return None

        simulator.intercept = refuse
        ended = site.run("run", "--json")
        assert (ended.code, ended.document["status"]) == (3, "partial")
        counts = [ended.document[n] for n in ("planned", "not_found", "failed", "listings_failed")]
        assert counts == [len(there), 1, 0, 1]
        assert site.column("SELECT image_id FROM images WHERE state = 'gone'") == [there[0]]
        check_database(site)


def test_no_fault_looks_like_a_deletion(tmp_path: Path) -> None:
    """Under every kind of trouble, single and batch: what is there never becomes gone."""
    faults = [
        "500=0.2,429=0.1,reset=0.1,truncate=0.1,404=0.1",
        "403=0.2,empty=0.1,no_image=0.1,wrong_id=0.1,malformed=0.1,html=0.1",
        "region:cn-east-1=404,region:cn-east-2=down,region:cn-south-1=403",
        "401=0.02,503=0.1,null_image=0.1,close=0.1,disconnect=0.1",
    ]
    with simulated(images=160) as simulator:
        site = Site(tmp_path, simulator.url)
        site.configure(*EVERYWHERE)
        assert site.run("run", "--quiet").code == 0
        versions = "SELECT id, image_pk, valid_from, valid_to, fingerprint FROM image_versions"
        truth = site.sql(versions)
        checked = dict(site.sql("SELECT id, last_checked_at FROM images"))
        for number, spec in enumerate(faults):
            simulator.faults = Faults.parse(spec)
            fetch = ("single", "batch")[number % 2]
            site.configure(*EVERYWHERE, fetch=fetch, max_attempts=2, timeout=2.0, adaptive=False)
            # 0: where few calls are made, none of them may have met a fault.
            assert site.run("run", "--quiet", "--fresh").code in (0, 3, 77)
            # A false id of a listing is planned too. A batch may answer with the same one, and what
            # is asked for singly later is not there.
            gone = site.column("SELECT id FROM images WHERE state = 'gone'")
            assert checked.keys().isdisjoint(gone)
            assert [row for row in site.sql(versions) if row[1] in checked] == truth
            run = site.column("SELECT max(id) FROM runs")[0]
            for pk, outcome, last in site.sql(
                "SELECT images.id, outcome, last_checked_at FROM images"
                " JOIN observation_rows ON image_pk = images.id AND run_id = ?",
                run,
            ):
                if pk in checked:
                    assert (last != checked[pk]) == (outcome == "present")
                    checked[pk] = last
        read = {
            outcome
            for pk, outcome in site.sql("SELECT image_pk, outcome FROM observation_rows")
            if pk in checked
        }
        assert read >= {"present", "denied", "invalid_response", "server_error"}
        assert "not_found" not in read
        simulator.faults = Faults()
        site.configure(*EVERYWHERE)
        assert site.run("run", "--json").document["unchanged"] == len(truth)
        check_database(site)


@pytest.mark.parametrize("fetch", ["single", "batch"])
def test_members_are_collected_beside_the_images(
    site: Site, simulator: Simulator, fetch: str
) -> None:
    """With both ways to fetch, the same images, versions and members."""
    site.configure(fetch=fetch, members=True)
    document = site.run("run", "--json").document
    private = ids(simulator, "cn-north-1", "private")
    assert (document["status"], document["present"]) == ("complete", len(private))
    expected = {(one, pin) for one in private for pin in simulator.members("cn-north-1", one)}
    assert set(site.sql("SELECT image_id, pin FROM current_members")) == expected != set()
    calls = simulator.requests
    assert calls["describeImageMembers"] == len(private)
    assert calls["describeImage"] == (len(private) if fetch == "single" else 0)


def test_a_deadline_ends_a_run_as_partial(site: Site, simulator: Simulator) -> None:
    """Nothing new is begun after it; what waits is not attempted; the next run is another one."""
    site.configure(rate_limit=50, deadline="2s")
    lines = listed(simulator, 200)
    ended = site.run("run", "--json", "--ids-file", "-", stdin=lines)
    assert (ended.code, ended.document["status"]) == (3, "partial")
    (failure,) = ended.document["failures"]
    assert failure["outcome"] == "not_attempted"
    assert 0 < ended.document["present"] == 200 - failure["items"]
    assert ended.document["digest"] is not None
    again = site.run("run", "--json", "--ids-file", "-", stdin=lines)
    assert (again.document["id"], again.document["resumed"]) == (2, False)


def test_secrets_are_nowhere(site: Site) -> None:
    """Neither in what is printed nor in what is stored, whatever goes wrong."""
    secrets = {
        "JDCLOUD_ACCESS_KEY": "AK-VERY-OPEN",
        "JDCLOUD_SECRET_KEY": "SK+very/secret==",
        "JDCLOUD_SECURITY_TOKEN": "token-very-secret",
    }
    env = secrets | {"COLLECTOR_LOG__LEVEL": "debug"}
    outputs = []
    for words in (["--json"], ["--image", "cn-north-1/img-1"]):
        ended = site.run("run", *words, env=env)
        outputs.append(ended.out + ended.err)
        assert ended.code == 77
    site.endpoint = "http://127.0.0.1:1"
    site.configure(max_attempts=1)
    outputs.append("".join(map(str, site.run("run", env=env))))
    outputs.append(site.run("check", env=env).err)
    stored = b"".join(path.read_bytes() for path in site.directory.glob("collector.db*"))
    for secret in secrets.values():
        assert secret not in "".join(outputs)
        assert secret.encode() not in stored


def test_a_dry_run_calls_and_writes_nothing(site: Site, simulator: Simulator) -> None:
    """It counts distinct items, calls and time; with a listing it calls just that."""
    lines = "cn-north-1/a\ncn-north-1/a\ncn-east-1/b\n"
    ended = site.run("run", "--dry-run", "--json", "--ids-file", "-", stdin=lines)
    assert ended.code == 0
    plan = ended.document
    assert (plan["items"], plan["calls"]) == (2, {"single": 2, "batch": 2})
    assert not site.database.exists()
    assert not simulator.requests
    site.configure('region = "cn-north-1"\nimages = ["img-1"]', members=True)
    told = site.run("run", "--dry-run").out
    assert told.endswith("that is new or changed; none of that was written\n")
    assert "fetch = 'single': at most 2 calls" in told, told  # whether it is private is not known
    site.configure('region = "cn-north-1"\ndiscover = ["private"]')
    ended = site.run("run", "--dry-run", "--json")
    assert ended.document["items"] == len(ids(simulator, "cn-north-1", "private"))
    assert set(simulator.requests) == {"describeImages"}
    assert site.column("SELECT count(*) FROM runs") == [0]


def test_discover_prints_what_is_listed(site: Site, simulator: Simulator) -> None:
    """A line an image, made to be piped into a run; a listing that fails is 3."""
    ended = site.run("discover", "--source", "private", "--source", "shared")
    assert ended.code == 0
    expected = ids(simulator, "cn-north-1", "private", "shared")
    assert sorted(ended.out.split()) == sorted(f"cn-north-1/{one}" for one in expected)
    piped = site.run("run", "--json", "--ids-file", "-", stdin=ended.out)
    assert piped.document["present"] == len(expected)
    simulator.faults = Faults.parse("403=1")
    ended = site.run("discover")
    assert (ended.code, ended.out) == (3, "")


@pytest.mark.parametrize(
    ("faults", "code", "reasons"),
    [
        ("401=1", 77, ["denied", "not asked"]),
        ("403=1", 3, ["denied", "denied"]),
        ("reset=1", 69, ["network_error", "network_error"]),
    ],
)
def test_listings_that_fail(
    site: Site, simulator: Simulator, faults: str, code: int, reasons: list[str]
) -> None:
    """Discover, a dry run and a run end alike; each listing is told, asked or not."""
    site.configure('region = "cn-north-1"\ndiscover = ["private", "shared"]', max_attempts=1)
    simulator.faults = Faults.parse(faults)
    assert site.run("discover", "--source", "private", "--source", "shared").code == code
    ended = site.run("run", "--dry-run", "--json")
    assert ended.code == code
    expected = list(zip(("private", "shared"), reasons, strict=True))
    for line, (source, reason) in zip(ended.document["listings_failed"], expected, strict=True):
        assert line.startswith(f"default/cn-north-1 {source}: {reason}")
    ended = site.run("run")
    assert ended.code == code
    for source, reason in expected:
        assert f"listing failed: default/cn-north-1 {source}: {reason}" in ended.out
    assert "100.0%" not in ended.out + site.run("run", "--quiet").err  # of nothing


@pytest.mark.parametrize(("third", "codes"), [("", (77, 77, 77, 77)), ("good", (3, 3, 3, 3))])
def test_one_account_refused_and_one_without_an_answer(
    site: Site, third: str, codes: tuple[int, ...]
) -> None:
    """When nothing at all could be read the refusal counts; else it is partial, `check` too."""
    names = [name for name in ("refused", "down", third) if name]
    targets = []
    for name in names:
        key = "simulator" if name == "good" else f"key-of-{name}"
        path = site.directory / f"{name}.toml"
        path.write_text(f'access_key = "{key}"\nsecret_key = "simulator"\n')
        path.chmod(0o600)
        targets.append(f'account = "{name}"\nregion = "cn-north-1"\ndiscover = ["private"]')
    accounts = {name: f"file:{name}.toml" for name in names}
    site.configure(*targets, accounts=accounts, max_attempts=1)
    down = 'name = "down"\nendpoint = "http://127.0.0.1:1"'
    site.config.write_text(site.config.read_text().replace('name = "down"', down, 1))
    words = (["run"], ["run", "--dry-run"], ["discover"], ["check"])
    assert tuple(site.run(*some).code for some in words) == codes


def test_a_database_that_is_removed_while_a_run_writes_to_it(
    site: Site, simulator: Simulator
) -> None:
    """SQLite goes on writing to what nobody can find any more: that is not complete."""

    async def remove(_: object) -> None:
        site.database.unlink(missing_ok=True)

    simulator.intercept = remove
    ended = site.run("run", "--quiet")
    assert (ended.code, ended.out) == (69, "")
    # The one where a connection more was needed after that.
    assert "unable to open" in ended.line or "removed or replaced meanwhile" in ended.line
    assert not site.database.exists()


def test_a_region_that_is_not_published_is_warned_of(site: Site) -> None:
    """Wherever it is named; the configuration's are warned of once."""
    for words in (
        ["run", "--dry-run", "--image", "cn-west-9/img-1"],
        ["queue", "add", "cn-west-9/a"],
    ):
        ended = site.run(*words)
        assert ended.code == 0
        assert json.loads(ended.line)["region"] == "cn-west-9"
    assert site.run("run", "--dry-run", "--image", "cn-north-1/img-1").err == ""
