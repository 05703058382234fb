"""What can befall the process at every stage of a run: signals, limits, a clock, a second copy."""

import asyncio
import resource
import signal
import time
from pathlib import Path

import pytest

from tests.faults import world
from tests.faults.cells import PROCESS, SEALED, Cell
from tests.faults.place import settled, told
from tests.support.forked import short_lease
from tests.support.site import until

SHORT = short_lease(1.0)

BUSY = ("writing", "in a transaction")
"""Stages where a run must be met with something left to ask."""


def cases(*faults):
    return [(fault, stage) for fault in faults for stage in PROCESS[fault]]


def ready(place, stage, **options):
    """A run that comes to the stage; from there on a busy one hears nothing before `let_go`."""
    if stage == "listing":
        place.target = f'region = "{world.REGION}"\ndiscover = ["private"]'
    place.configure(place.target, concurrency=2 if stage in BUSY else 16)
    if stage in BUSY:
        place.simulator.intercept = held(asked=[])
    return place.forker.running(place.directory, "run", "--quiet", before=stage, **options)


def held(asked):
    """Answers three requests; the others wait until there is no interceptor any more."""

    async def intercept(request):
        asked.append(request)
        while len(asked) > 3 and not intercept.over:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.005)

    intercept.over = False
    return intercept


def let_go(place):
    """Let the endpoint answer; the next run is an ordinary one."""
    if place.simulator.intercept:
        place.simulator.intercept.over = True
    place.configure(place.target)


@pytest.mark.parametrize(("fault", "stage"), cases("SIGTERM", "SIGINT", "SIGKILL"))
def test_a_signal(place, fault, stage):
    """Stopped, it commits what it heard; killed, it loses what was in flight and no more."""
    cell = PROCESS[fault][stage]
    with ready(place, stage) as run:
        run.reached()
        run.kill(signal.Signals[fault])
        let_go(place)
        run.go()
        done = run.end()
    assert done.code == cell.code, done
    assert "Traceback" not in done.err
    settled(place, cell)
    assert max(place.simulator.hits.values()) <= 2


def stopped(place, stage, *, constants, seconds, code=75):
    """Stop a run at a stage, let a successor do all of it, and let the stopped one go on."""
    cell = PROCESS["stopped beyond its lease"][stage]
    with ready(place, stage, constants=constants) as run:
        run.reached()
        run.kill(signal.SIGSTOP)
        began = time.monotonic()
        let_go(place)
        # Held; on a server also locked, until it ends the stopped one's transaction.
        until(lambda: place.collect(constants=constants).code not in (69, 75), 60.0)
        until(lambda: time.monotonic() - began > seconds, seconds + 10.0)
        images, found = place.check(), place.runs()
        requests = place.simulator.requests.copy()
        run.kill(signal.SIGCONT)
        run.go()
        done = run.end()
    # It may find that its run is complete and sealed before it notices that it lost its lease.
    assert done.code == code or (done.code, stage) == (0, "sealing"), done
    assert len(done.err.splitlines()) == (done.code != 0)
    assert place.simulator.requests == requests
    assert (place.check(), place.runs()) == (images, found)
    settled(place, cell, runs=1)


@pytest.mark.parametrize("stage", [s for s in PROCESS["stopped beyond its lease"] if s[:2] != "in"])
def test_stopped_beyond_its_lease(place, stage):
    """Another process took over; whoever wakes up late sends nothing and writes nothing."""
    stopped(place, stage, constants=SHORT, seconds=0.0)


def test_stopped_in_a_transaction_of_sqlite(place):
    """It has the file's lock: nobody takes over, nothing was missed, and it goes on."""
    stage = "in a transaction"
    cell = PROCESS["stopped beyond its lease"][stage]
    impatient = SHORT | {"collector.store.engine:_WAIT_S": 0.3}
    with ready(place, stage, constants=SHORT) as run:
        run.reached()
        run.kill(signal.SIGSTOP)
        let_go(place)
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 1.2)
        successor = place.collect(constants=impatient)
        assert (successor.code, "locked" in successor.err) == (69, True)
        run.kill(signal.SIGCONT)
        run.go()
        told(run.end(), cell)
    settled(place, cell)


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["PostgreSQL", "MariaDB"])
def test_stopped_in_a_transaction_of_a_server(served, fault):
    """The server ends the transaction after ten seconds; the lease passes on."""
    stopped(served, "in a transaction", constants={}, seconds=60.0, code=69)


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", ["writing", "sealing"])
def test_stopped_for_a_minute(place, stage):
    """The same with the real lease of 15 seconds."""
    stopped(place, stage, constants={}, seconds=60.0)


@pytest.mark.parametrize(("fault", "stage"), cases("a second copy"))
def test_a_second_copy(place, fault, stage):
    """It is told who holds the account, calls nothing, and the first one works on."""
    cell = PROCESS[fault][stage]
    with ready(place, stage) as run:
        run.reached()
        before = place.simulator.requests.total()
        second = place.collect()
        told(second, cell)
        assert f"pid {run.pid}" in second.err
        let_go(place)
        assert place.simulator.requests.total() == before or stage in BUSY
        run.go()
        assert run.end().code == 0
    settled(place, cell)


def open_files(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize("stage", ["opening", "writing"])
def test_out_of_file_descriptors(place, stage):
    """None is left at the beginning: one line; later it needs no more."""
    cell = PROCESS["out of file descriptors"][stage]
    with ready(place, stage) as run:
        run.reached()
        number = open_files(run.pid)
        resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (number, number))
        run.go()
        let_go(place)
        done = run.end()
    if stage == "writing" and done.code == 0:
        cell = Cell(0, SEALED)
    told(done, cell)
    settled(place, cell)


def test_out_of_file_descriptors_for_calls(tmp_path, place):
    """What gets no connection is a network error, and proves nothing."""
    cell = PROCESS["out of file descriptors"]["calling"]
    more = [f"img-more-{number:02}" for number in range(60)]
    with world.world(latency=0.5) as slow:
        for one in more:
            slow.add(world.REGION, one)
        place.endpoint = slow.url
        place.configure(
            f'region = "{world.REGION}"\nimages = {more!r}'.replace("'", '"'),
            concurrency=64,
            max_attempts=1,
        )
        done = place.collect(limits={"NOFILE": 40})
        assert done.code in (cell.code, 3), done
        assert len(done.err.splitlines()) == 1
        outcomes = place.column("SELECT outcome FROM observations WHERE run_id = 2")
        assert set(outcomes) <= {"present", "network_error", "not_attempted"} != {"present"}
        place.collect()  # it may resume the run that has the errors
        assert place.collect().code == 0
        assert {place.check()[one].state for one in more} == {"present"}


@pytest.mark.parametrize(("fault", "stage"), cases("out of memory"))
def test_out_of_memory(place, fault, stage):
    """Nothing more can be allocated: one line, and nothing that was written is half."""
    cell = PROCESS[fault][stage]
    with ready(place, stage) as run:
        run.reached()
        pages = int(Path(f"/proc/{run.pid}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize()
        resource.prlimit(run.pid, resource.RLIMIT_AS, (limit, limit))
        let_go(place)
        run.go()
        done = run.end()
    told(done, cell)
    assert done.err == "collector: out of memory\n"
    settled(place, cell)


@pytest.mark.parametrize(("fault", "stage"), cases("clock set back"))
def test_clock_set_back(fresh_place, fault, stage):
    """Answers that seem older than what is known are observations and nothing else."""
    cell, place = PROCESS[fault][stage], fresh_place
    told(place.collect(clock_s=-300.0), cell)
    found = place.check()
    for one in world.IDS:
        assert found[one][:3] == place.before[one][:3]
        assert found[one].outcome in ("present", "not_found")
    settled(place, cell)
