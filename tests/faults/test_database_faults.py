"""Every fault of a database at every stage of a run: one line, its code, and nothing lost."""

import resource
import shutil
import sqlite3
import subprocess
import threading
from contextlib import closing, contextmanager, suppress

import pytest
from sqlalchemy import make_url

from tests.conftest import server
from tests.faults import world
from tests.faults.cells import DATABASE
from tests.faults.commits import commit_proxy
from tests.faults.place import settled, told
from tests.support.forked import QUICK, short_lease

DEAF = short_lease(2.0) | {
    "collector.store.engine:ANSWER_S": 1.0,
    "collector.session:RELEASE_S": 0.3,
}
IMPATIENT = QUICK | {"collector.store.engine:_WAIT_S": 0.3}
SMALL_BYTES = 2048
"""Less than any write to a database needs, enough for a line on standard error."""


def cases(*faults):
    """Fault and stage of the cells of some rows of the matrix."""
    return [(fault, stage) for fault in faults for stage in DATABASE[fault]]


def strike(place, fault, stage, apply, undo=lambda: None, **options):
    """A run that meets the fault at the stage; then the fault goes away."""
    cell = DATABASE[fault][stage]
    try:
        with place.forker.running(
            place.directory, "run", "--quiet", before=stage, **options
        ) as run:
            run.reached()
            apply(run)
            run.go()
            told(run.end(), cell)
    finally:
        undo()
    settled(place, cell)


@contextmanager
def locked(path):
    """Somebody else's write transaction."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        yield other


@pytest.mark.parametrize(("fault", "stage"), cases("locked longer than we wait"))
def test_locked_for_long(place, fault, stage):
    """Another program keeps SQLite's write lock, and the run gives up."""
    with locked(place.database) as other:
        strike(
            place,
            fault,
            stage,
            lambda _: other.execute("BEGIN IMMEDIATE"),
            lambda: other.execute("ROLLBACK"),
            constants=IMPATIENT,
        )


@pytest.mark.parametrize(("fault", "stage"), cases("locked for a moment"))
def test_locked_for_a_moment(place, fault, stage):
    """It is waited for, and nobody need know."""
    with locked(place.database) as other:

        def lock(_):
            other.execute("BEGIN IMMEDIATE")
            timers.append(threading.Timer(0.3, lambda: other.execute("ROLLBACK")))
            timers[0].start()

        timers = []
        strike(place, fault, stage, lock, lambda: [timer.join() for timer in timers])


def test_a_reader_delays_the_opening(place):
    """SQLite's journal cannot be switched while somebody reads: it is waited for too."""
    with locked(place.database) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM images").fetchall()
        timer = threading.Timer(0.5, lambda: reader.execute("ROLLBACK"))
        timer.start()
        told(place.collect(), DATABASE["locked for a moment"]["opening"])
        timer.join()
    world.exact(place.simulator, place.check())


@pytest.fixture
def disk(place):
    """The place's database on a disk of its own."""
    path = place.directory / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(path)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    try:
        place.move(path / "collector.db")
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize(("fault", "stage"), cases("disk full"))
def test_disk_full(place, disk, fault, stage):
    """Not a byte is left; what was committed stays, and with room again the run goes on."""
    filler = disk / "filler"

    def fill(_):
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        assert shutil.disk_usage(disk).free == 0

    strike(place, fault, stage, fill, filler.unlink)


@pytest.mark.parametrize(("fault", "stage"), cases("not a byte may be written"))
def test_not_a_byte_may_be_written(place, fault, stage):
    """A quota, or a medium that fails: the same as a full disk, whatever the error's name."""

    def limit(run):
        resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (SMALL_BYTES, SMALL_BYTES))

    strike(place, fault, stage, limit)


@pytest.mark.parametrize(("fault", "stage"), cases("read-only"))
def test_read_only(place, disk, fault, stage):
    """A database that is being used cannot become read-only; a next run can find it so."""

    def remount(how):
        subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)

    strike(place, fault, stage, lambda _: remount("ro"), lambda: remount("rw"))


@pytest.mark.parametrize(("fault", "stage"), cases("schema too old", "schema too new"))
def test_another_schema(place, fault, stage):
    """Nothing is migrated and nothing is written without being asked."""
    cell = DATABASE[fault][stage]
    constants, said = dict(QUICK), "`collector db upgrade`"
    if fault == "schema too old":
        constants["collector.store.migrate:_revisions"] = ["0001", "9999"]
        done = place.collect(constants=constants)
    else:
        said = "`collector db downgrade`"
        revise = "UPDATE alembic_version SET version_num = '{}'"
        world.write(place.database, revise.format("9999"))
        done = place.collect()
        world.write(place.database, revise.format("0001"))
    told(done, cell)
    assert said in done.err
    settled(place, cell)


def kill_connections(place):
    """What an administrator, or a restarting server, does to a client."""
    name = make_url(place.url).database
    if place.kind == "postgresql":
        ours = f"pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        server("postgresql")([f"SELECT pg_terminate_backend(pid) FROM {ours}"])
        return
    listed = f"information_schema.processlist WHERE db = '{name}' AND id <> connection_id()"
    for (number,) in world.rows(place.url, f"SELECT id FROM {listed}"):
        server("mysql")([f"KILL CONNECTION {number}"])


@pytest.mark.parametrize(
    ("fault", "stage"),
    cases("PostgreSQL kills our connections", "MariaDB kills our connections"),
)
def test_connections_killed(served, fault, stage):
    """Between transactions a new connection serves as well; within one, the work is repeated."""
    strike(served, fault, stage, lambda _: kill_connections(served))


@pytest.fixture
def proxied(served):
    """A proxy between the place and its server."""
    direct = served.url
    url = make_url(direct)
    port = url.port or {"postgresql": 5432, "mysql": 3306}[served.kind]
    with commit_proxy(url.host, port) as proxy:
        through = url.set(port=proxy.port).render_as_string(hide_password=False)
        served.move(through)
        served.url = direct
        yield proxy


@pytest.mark.parametrize(
    ("fault", "stage"), cases("PostgreSQL out of reach", "MariaDB out of reach")
)
def test_out_of_reach(served, proxied, fault, stage):
    """A server that is restarted: connections break and new ones are refused, for a while."""
    strike(served, fault, stage, lambda _: proxied.call("cut"), lambda: proxied.call("restore"))


@pytest.mark.parametrize(
    ("fault", "stage"), cases("PostgreSQL says no more", "MariaDB says no more")
)
def test_says_no_more(served, proxied, fault, stage):
    """Connections stay and nothing is answered, as by a hung disk: the lease cannot be renewed."""
    strike(
        served,
        fault,
        stage,
        lambda _: proxied.call("stall"),
        lambda: proxied.call("flow"),
        constants=DEAF,
    )


@pytest.mark.parametrize(
    ("fault", "stage"),
    cases(*(fault for fault in DATABASE if "COMMIT" in fault)),
)
def test_dropped_in_commit(served, proxied, fault, stage):
    """Whether it was committed cannot be known; the next run finds out, and nothing is doubled."""

    def arm(_):
        proxied.armed = "before" if "never arrives" in fault else "after"

    strike(served, fault, stage, arm)
    assert proxied.cuts == 1
