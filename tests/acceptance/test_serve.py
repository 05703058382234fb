"""`collector serve`: queue and schedule, draining, handover, outages, sd_notify."""

import asyncio
import signal
import socket
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import make_url

from collector.models import LaneKey
from collector.queue.database import DatabaseQueue
from collector.store.engine import Database
from tests.support.arrivals import punctual
from tests.support.proxy import proxied
from tests.support.service import KEYS, configuration, process, rows, serving, target, until
from tests.support.simulator import SimulatorOptions, running

KEY = LaneKey("default", "cn-north-1")
IDS = [f"img-{n:06}" for n in range(60)]


@asynccontextmanager
async def simulator(**options):
    options = SimulatorOptions(images=40, **options)
    async with running(options) as server, punctual(server):
        yield server


async def add(url: str, ids, key: LaneKey = KEY) -> None:
    async with Database(url) as database:
        await DatabaseQueue(database, max_deliveries=5).add(key, ids)


def queue_is_empty(database):
    async def check():
        return await rows(database, "SELECT count(*) FROM queue_items") == [(0,)]

    return check


def runs(database, trigger):
    name = "`trigger`" if database.kind == "mysql" else "trigger"
    columns = "status, planned, not_found, digest IS NOT NULL"
    return rows(database, f"SELECT {columns} FROM runs WHERE {name} = '{trigger}' ORDER BY id")


async def test_schedule_and_queue(tmp_path, database_url):
    """A whole run of the account at the start, then the queue; every run is sealed."""
    async with simulator() as api:
        path = configuration(
            tmp_path, api.url, database_url, every="1h", targets=target(), rate_limit=100
        )
        async with serving(path) as service:
            await until(lambda: runs(service.database, "schedule"))
            await add(database_url, IDS)
            await until(queue_is_empty(service.database))
        async with Database(database_url) as database:
            (scheduled,) = await runs(database, "schedule")
            queued = await runs(database, "queue")
            assert scheduled[0] == "complete"
            assert sum(run[1] for run in queued) == len(IDS) == sum(run[2] for run in queued)
            assert {(run[0], bool(run[3])) for run in queued} == {("complete", True)}
            assert await rows(database, "SELECT count(*) FROM leases WHERE expires > '2100-01-01'")


async def test_queue_goes_before_the_schedule(tmp_path, sqlite_url):
    """While a long scheduled run is at work, what is added to the queue is asked for first."""
    async with simulator() as api:
        text = "\n".join(f"img-{n:06}" for n in range(1000, 3000))
        (tmp_path / "ids.txt").write_text(text)
        targets = '[[targets]]\naccount = "default"\nregion = "cn-north-1"\nids_file = "ids.txt"\n'
        path = configuration(
            tmp_path, api.url, sqlite_url, every="1h", targets=targets, rate_limit=50
        )
        async with serving(path) as service:
            await until(lambda: api.requests["describeImage"] > 20)
            await add(sqlite_url, IDS)
            await until(queue_is_empty(service.database))

            order = [image_id for _, image_id in api.hits]  # as they were asked for first
            assert max(map(order.index, IDS)) < 1000
            assert all(api.hits[KEY.region, image_id] == 1 for image_id in IDS)
        async with Database(sqlite_url) as database:
            (scheduled,) = await runs(database, "schedule")
            assert scheduled[0] == "interrupted"


async def test_twice_waits_for_the_next_run(tmp_path, sqlite_url):
    """An id that is added again after it was read belongs to another run."""
    async with simulator(latency=0.2) as api:
        path = configuration(tmp_path, api.url, sqlite_url, rate_limit=100)
        async with serving(path) as service:
            await add(sqlite_url, IDS)
            await until(lambda: api.hits[KEY.region, IDS[0]] == 1)
            await add(sqlite_url, IDS[:1])
            await until(queue_is_empty(service.database))
            assert api.hits[KEY.region, IDS[0]] == 2
        async with Database(sqlite_url) as database:
            assert len(await runs(database, "queue")) == 2


async def test_sigterm_drains(tmp_path, sqlite_url):
    """SIGTERM: what is in flight is committed, the rest goes back, exit 143 within 30 seconds."""
    async with simulator(latency=1.0) as api:
        path = configuration(tmp_path, api.url, sqlite_url, rate_limit=100, concurrency=8)
        await add(sqlite_url, IDS)
        async with process("serve", "--config", str(path)) as worker:
            await until(lambda: len(api.hits) >= 8)
            worker.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                await worker.wait()
            assert worker.returncode == 143
        async with Database(sqlite_url) as database:
            left = await rows(database, "SELECT deliveries, token FROM queue_items")
            assert set(left) == {(0, None)}
            read = sum(run[2] for run in await runs(database, "queue"))
            assert read + len(left) == len(IDS)
            assert sum(api.hits.values()) == read
            assert await runs(database, "queue") == [("interrupted", 16, read, 1)] or read % 8 == 0


async def test_killed_worker_is_replaced(tmp_path, database_url):
    """kill -9 in mid-run: the next process closes the run, and every item is read."""
    async with simulator(latency=0.1) as api:
        path = configuration(tmp_path, api.url, database_url, rate_limit=40)
        await add(database_url, IDS)
        async with process("serve", "--config", str(path)) as worker:
            await until(lambda: len(api.hits) >= 20)
            worker.kill()
        async with serving(path) as service:
            await until(queue_is_empty(service.database))
        async with Database(database_url) as database:
            found = await runs(database, "queue")
            assert found[0][0] == "interrupted"
            assert all(run[3] for run in found)
            asked = "SELECT count(*) FROM images WHERE last_outcome = 'not_found'"
            assert await rows(database, asked) == [(len(IDS),)]
            assert api.worst_window(region=KEY.region, seconds=0.9) <= 40


async def test_the_second_waits_for_the_first(tmp_path, database_url):
    """One process serves an account; the other is ready, says who has it, and takes over."""
    async with simulator() as api:
        path = configuration(tmp_path, api.url, database_url, rate_limit=20)
        async with (
            process("serve", "--config", str(path)) as first,
            Database(database_url) as database,
        ):
            await until(lambda: rows(database, "SELECT 1 FROM leases"))
            async with serving(path) as second:
                await until(lambda: second.health.ready)
                assert "serving no account; default is held by" in second.health.status
                await add(database_url, IDS)
                await until(lambda: len(api.hits) > 25)
                first.send_signal(signal.SIGTERM)
                await first.wait()
                await until(lambda: "serving default" in second.health.status)
                await until(queue_is_empty(database))
            assert len(api.hits) == len(IDS)
            assert api.worst_window(region=KEY.region, seconds=0.9) <= 20


async def test_refused_account_pauses_alone(tmp_path, sqlite_url):
    """A 401 pauses its account for a minute; the other one goes on."""
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('access_key = "simulator"\nsecret_key = "simulator"\n')
    bad.write_text('access_key = "other"\nsecret_key = "wrong"\n')
    for file in (good, bad):
        file.chmod(0o600)
    async with simulator(credentials={"other": "right"}) as api:
        accounts = {"default": f"file:{good}", "refused": f"file:{bad}"}
        path = configuration(tmp_path, api.url, sqlite_url, accounts=accounts, rate_limit=100)
        await add(sqlite_url, IDS)
        await add(sqlite_url, IDS, LaneKey("refused", "cn-north-1"))
        async with serving(path) as service:
            left = (
                "SELECT count(*) FROM queue_items JOIN lanes ON lanes.id = lane_id "
                "WHERE account = 'default'"
            )

            async def served():
                return await rows(service.database, left) == [(0,)]

            denied = "SELECT 1 FROM queue_items WHERE last_outcome = 'denied'"
            await until(served)
            await until(lambda: rows(service.database, denied))
            more = [f"img-{n:06}" for n in range(100, 200)]
            await add(sqlite_url, more)
            await until(served)
            refused = api.requests.total() - len(IDS) - len(more)
            assert 1 <= refused <= 16  # what was in flight when the first was refused
            outcomes = "SELECT last_outcome, deliveries, count(*) FROM queue_items GROUP BY 1, 2"
            found = {row[:2]: row[2] for row in await rows(service.database, outcomes)}
            assert sum(found.values()) == len(IDS)
            assert set(found) <= {("denied", 1), (None, 0)}
            assert found["denied", 1] <= 16


async def test_database_goes_away(tmp_path, new_database):
    """Without its database the service stops at once and comes back by itself, without haste."""
    url = make_url(new_database("postgresql"))
    async with (
        simulator(latency=0.05) as api,
        proxied(url.host, url.port or 5432) as proxy,
    ):
        through = url.set(host="127.0.0.1", port=proxy.port)
        path = configuration(
            tmp_path, api.url, through.render_as_string(hide_password=False), rate_limit=20
        )
        await add(str(url), IDS)
        async with serving(path) as service, Database(str(url)) as database:

            def lost():
                text = service.metrics.text().decode().rpartition("sessions_lost_total ")[2]
                return float(text.split()[0])

            for enough in (15, 30):
                await until(lambda enough=enough: len(api.hits) >= enough, 40)
                before = lost()
                await proxy.cut()
                await until(lambda before=before: lost() > before, 40)
                asked = api.requests.total()
                await until(lambda before=before: lost() > before + 1, 40)
                assert api.requests.total() == asked
                await proxy.restore()
            await until(queue_is_empty(database), 60)
            assert lost() <= 8
            asked = "SELECT count(*) FROM images WHERE last_outcome = 'not_found'"
            assert await rows(database, asked) == [(len(IDS),)]
            assert api.worst_window(region=KEY.region, seconds=0.9) <= 20
            deliveries = await rows(database, "SELECT count(*) FROM queue_items")
            assert deliveries == [(0,)]


class Systemd:
    """A real NOTIFY_SOCKET."""

    def __init__(self, path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.path = path
        self.lines: list[str] = []

    def heard(self, start: str) -> bool:
        while True:
            try:
                self.lines.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                break
        return any(line.startswith(start) for line in self.lines)


@pytest.fixture
def systemd(tmp_path):
    listener = Systemd(tmp_path / "notify")
    yield listener
    listener.socket.close()


async def test_notify(tmp_path, sqlite_url, systemd):
    """READY once the accounts are served, WATCHDOG while the loop moves, STOPPING when asked."""
    env = KEYS | {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "300000"}
    async with simulator() as api:
        path = configuration(tmp_path, api.url, sqlite_url)
        async with process("serve", "--config", str(path), env=env) as worker:
            await until(lambda: systemd.heard("READY=1"))
            await until(lambda: systemd.heard("STATUS=serving default"))
            await until(lambda: systemd.heard("WATCHDOG=1"))
            worker.send_signal(signal.SIGTERM)
            await worker.wait()
            assert systemd.heard("STOPPING=1")
            assert systemd.lines.count("READY=1") == 1


async def test_not_ready_without_a_database(tmp_path, systemd):
    """A service whose database does not answer is not ready, says why, and waits for it."""
    env = KEYS | {"NOTIFY_SOCKET": str(systemd.path)}
    async with proxied("127.0.0.1", 1) as proxy:
        await proxy.cut()
        url = f"postgresql://nobody@127.0.0.1:{proxy.port}/none"
        path = configuration(tmp_path, "http://127.0.0.1:1", url)
        async with process("serve", "--config", str(path), env=env) as worker:
            await until(lambda: systemd.heard("STATUS=database"))
            worker.send_signal(signal.SIGINT)
            await worker.wait()
            assert worker.returncode == 130
            assert not systemd.heard("READY=1")
            assert "Connection refused" in "".join(systemd.lines)


async def test_wrong_schema_ends_it(tmp_path, new_database):
    """A database that belongs to somebody else is not waited for: exit 78."""
    async with Database(new_database("sqlite")) as database:
        async with database.write() as connection:
            await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        path = configuration(tmp_path, "http://127.0.0.1:1", f"sqlite:///{database.path}")
        async with process("serve", "--config", str(path)) as worker:
            _, errors = await worker.communicate()
            assert worker.returncode == 78
            assert b"9999" in errors
