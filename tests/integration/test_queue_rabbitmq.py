"""The queue on RabbitMQ, with its retries and dead letters in each kind of database."""

import asyncio
import os
import uuid
from contextlib import asynccontextmanager

import aio_pika
import pytest
from structlog.testing import capture_logs

from collector import config
from collector.errors import UnavailableError
from collector.models import LaneKey, Outcome
from collector.queue import queue_of
from collector.queue.letters import dead_letters
from collector.store.engine import Database
from tests.integration.test_queue_database import KEY, OTHER, Worker, now_due, rows
from tests.support.broker import BROKER, proxied_broker, through
from tests.support.service import configuration, until


@pytest.fixture
async def broker():
    """Skips where there is no broker; deletes the test's queues at the end."""
    prefix = f"collector-test-{uuid.uuid4().hex[:12]}"
    try:
        connection = await aio_pika.connect(BROKER, timeout=5)
    except OSError as error:
        if os.environ.get("COLLECTOR_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"{BROKER}: {error}")
    yield prefix
    channel = await connection.channel()
    for key in (KEY, OTHER):
        await channel.queue_delete(f"{prefix}.{key.account}.{key.region}")
    await connection.close()


@pytest.fixture
def settings_of(tmp_path, broker):
    def make(database_url, url=BROKER):
        path = configuration(tmp_path, "http://127.0.0.1:1", database_url, queue=url)
        text = path.read_text().replace(f'name = "{tmp_path.name}"', f'name = "{broker}"')
        path.write_text(text + "\n")
        return config.load(path, env={"COLLECTOR_QUEUE__MAX_DELIVERIES": "2"})

    return make


@asynccontextmanager
async def worker(settings, database_url):
    async with Database(database_url) as database:
        w = Worker(database)
        w.queue = queue_of(settings, database)
        w.writer._settle = w.queue.settle
        acknowledging = asyncio.create_task(w.queue._acknowledge())
        try:
            yield await w.begin()
        finally:
            acknowledging.cancel()
            await w.queue.close()
            await w.leases.release()


async def add(settings, ids, key=KEY):
    async with Database(settings.database.url) as database:
        queue = queue_of(settings, database)
        await queue.add(key, ids)
        await queue.close()


async def take(w, count, key=KEY):
    """Take until so many are in flight: messages arrive when they like."""
    items: list = []

    async def more():
        await w.queue.due("default", w.plan.run_id)
        items.extend(await w.take(count - len(items), key))
        return len(items) >= count

    await until(more)
    return items


async def left(settings, key=KEY):
    """Take off the broker what it has left.

    A `get` comes after all that a closed session gave back; a count may overtake that.
    """
    name = f"{settings.queue.name}.{key.account}.{key.region}"
    ids = []
    async with await aio_pika.connect(BROKER) as connection:
        queue = await (await connection.channel()).get_queue(name, ensure=False)
        while message := await queue.get(no_ack=True, fail=False):
            ids.append(message.body.decode())
    return ids


async def ready(settings, key=KEY):
    async with Database(settings.database.url) as database:
        queue = queue_of(settings, database)
        try:
            return await queue._count(key)
        finally:
            await queue.close()


async def test_read_is_acknowledged_with_the_commit(settings_of, database_url):
    """A message leaves the broker when, and only when, the result of its item is committed."""
    settings = settings_of(database_url)
    ids = [f"img-{n}" for n in range(20)]
    await add(settings, ids)
    assert await ready(settings) == 20
    async with worker(settings, database_url) as w:
        items = await take(w, 20)
        assert sorted(item.image_id for item in items) == sorted(ids)
        assert await rows(w.database, "deliveries") == [(1,)] * 20
        await w.end(items[:15])
        assert len(await rows(w.database, "id")) == 5
    assert len(await left(settings)) == 5


async def test_cut_comes_again_once(settings_of, database_url):
    """What a lost session had in flight is redelivered, and the table does not double it."""
    settings = settings_of(database_url)
    await add(settings, ["img-a"])
    async with worker(settings, database_url) as w:
        await take(w, 1)
        await w.queue.close()
        await w.leases.release()
        await w.begin()
        items = await take(w, 1)
        assert await rows(w.database, "deliveries") == [(1,)]
        assert await w.take() == []
        await w.end(items)
        assert await rows(w.database, "id") == []
    assert await left(settings) == []


async def test_failures_move_to_the_table(settings_of, database_url):
    """A failed delivery waits in the database for its retry, and dies there."""
    settings = settings_of(database_url)
    await add(settings, ["img-a"])
    async with worker(settings, database_url) as w:
        await w.end(await take(w, 1), Outcome.TIMEOUT)
        await until(w.queue._done.empty)
        await now_due(w.database)
        await w.open()
        await w.end(await take(w, 1), Outcome.TIMEOUT)
        letters = [one async for one in dead_letters(w.database)]
        assert [(one["image_id"], one["deliveries"]) for one in letters] == [("img-a", 2)]
    assert await left(settings) == []

    await add(settings, ["img-a"])
    async with worker(settings, database_url) as w:
        items = await take(w, 1)
        assert await rows(w.database, "deliveries", "dead_at") == [(1, None)]
        await w.end(items)


async def test_not_attempted_goes_back(settings_of, database_url):
    """What was begun and not asked for waits with its message, at no cost."""
    settings = settings_of(database_url)
    await add(settings, ["img-a", "img-b"])
    async with worker(settings, database_url) as w:
        items = await take(w, 2)
        await w.end(items[:1])
        await w.queue.give_back(w.plan.run_id)
        assert await rows(w.database, "id") == []
        await w.open()
        assert len(await take(w, 1)) == 1
    assert len(await left(settings)) == 1


async def test_the_same_id_twice(settings_of, database_url):
    """Messages of one id that wait together are one item; a later one is the next run's."""
    settings = settings_of(database_url)
    await add(settings, ["img-a", "img-a", "img-b"])
    async with worker(settings, database_url) as w:
        await until(lambda: len(w.queue._lanes[KEY].get("img-a", ())) == 2)
        items = await take(w, 2)
        await add(settings, ["img-a"])
        await until(lambda: w.queue._lanes[KEY])
        await w.end(items)
        assert await w.queue.due("default", w.plan.run_id) == []
        await w.open()
        assert await w.queue.due("default", w.plan.run_id) == [KEY]
        await w.end(await take(w, 1))
    assert await left(settings) == []


UNREADABLE = (
    *(b"\xff\x00 no id", b'{"id": 1}', b"", b"\x00", b" img-a", b"img-a\n", b"a" * 65),
    *(b"a" * 100_000, b"\xed\xa0\x80", "\x1b[31m\u202e\x9b'; DROP TABLE images; --".encode()),
)
"""Bodies of messages that somebody else may send: no text, no id, too long, dangerous to show."""


async def test_what_is_no_id_is_buried(settings_of, broker, database_url):
    """A message that cannot be read is a dead letter with its reason, and stops nothing."""
    settings = settings_of(database_url)
    await add(settings, ["img-a"])
    connection = await aio_pika.connect(BROKER)
    async with connection:
        exchange = (await connection.channel()).default_exchange
        for body in UNREADABLE:
            message = aio_pika.Message(body)
            await exchange.publish(message, routing_key=f"{broker}.{KEY.account}.{KEY.region}")
    async with worker(settings, database_url) as w:

        async def buried():
            await w.queue.due("default")
            return [one async for one in dead_letters(w.database)]

        letters = await until(buried)
        while len(letters) < len(UNREADABLE):
            letters = await buried()
        assert {one["last_outcome"] for one in letters} == {"invalid_message"}
        assert all("no image id: found" in one["last_error"] for one in letters)
        assert all(one["last_error"].isprintable() for one in letters)
        assert max(len(one["last_error"]) for one in letters) < 500
        await w.end(await take(w, 1))
    assert await left(settings) == []


async def test_new_lanes_are_consumed(settings_of, sqlite_url, monkeypatch):
    """A lane that is added while the worker runs is found."""
    monkeypatch.setattr("collector.queue.rabbitmq.NEW_LANES_S", 0.0)
    settings = settings_of(sqlite_url)
    async with worker(settings, sqlite_url) as w:
        await add(settings, ["img-a"], OTHER)
        (item,) = await take(w, 1, OTHER)
        assert item.image_id == "img-a"


async def test_lost_connection_ends_the_session(settings_of, sqlite_url):
    """When the broker goes away, whoever watches the queue is told."""
    async with proxied_broker() as proxy:
        settings = settings_of(sqlite_url, through(proxy))
        async with worker(settings, sqlite_url) as w:
            watching = asyncio.create_task(w.queue.watch())
            await asyncio.sleep(0)
            await proxy.cut()
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.timeout(10):
                    await watching
            assert caught.group_contains(UnavailableError)


async def test_deleted_queue_ends_the_session(settings_of, broker, sqlite_url):
    """A consumer whose queue was deleted hears nothing: the next look at the depths tells."""
    settings = settings_of(sqlite_url)
    async with worker(settings, sqlite_url) as w:
        await add(settings, ["img-a"])
        await take(w, 1)
        watching = asyncio.create_task(w.queue.watch())
        async with await aio_pika.connect(BROKER) as connection:
            channel = await connection.channel()
            await channel.queue_delete(f"{broker}.{KEY.account}.{KEY.region}")

        async def told():
            await w.queue.depths()
            return watching.done()

        await until(told)
        with pytest.raises(ExceptionGroup) as caught:
            await watching
        assert caught.group_contains(UnavailableError)


async def test_queue_from_before_an_upgrade(settings_of, broker, sqlite_url, monkeypatch):
    """A queue that RabbitMQ 3 declared is used on, and the log names it: RabbitMQ 4 limits it."""
    monkeypatch.setattr("collector.queue.rabbitmq._LIMITLESS_SINCE", 0)
    name = f"{broker}.{KEY.account}.{KEY.region}"
    async with await aio_pika.connect(BROKER) as connection:
        channel = await connection.channel()
        await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
    settings = settings_of(sqlite_url)
    with capture_logs() as logged:
        await add(settings, ["img-a"])
    assert [(one["event"], one["queue"]) for one in logged] == [("queue_has_delivery_limit", name)]
    async with worker(settings, sqlite_url) as w:
        await w.end(await take(w, 1))
    assert await left(settings) == []


async def test_queue_of_another_kind(settings_of, broker, sqlite_url):
    """A queue that somebody declared otherwise is refused, by its name."""
    name = f"{broker}.{KEY.account}.{KEY.region}"
    async with await aio_pika.connect(BROKER) as connection:
        channel = await connection.channel()
        await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "classic"})
    with pytest.raises(UnavailableError, match=f"x-queue-type.*{name}"):
        await add(settings_of(sqlite_url), ["img-a"])


async def test_no_such_virtual_host(settings_of, sqlite_url):
    """What the driver keeps to itself is told in words."""
    settings = settings_of(sqlite_url, f"{BROKER.rstrip('/')}/nowhere")
    with pytest.raises(UnavailableError, match=r"/nowhere: refused; .*virtual host"):
        await add(settings, ["img-a"])


async def test_unreachable_broker(settings_of, sqlite_url):
    """A broker that is not there is one line, without its password."""
    settings = settings_of(sqlite_url, "amqp://user:hidden@127.0.0.1:1/")
    async with Database(sqlite_url) as database:
        queue = queue_of(settings, database)
        with pytest.raises(UnavailableError) as caught:
            await queue.add(LaneKey("default", "cn-north-1"), ["img-a"])
        assert "hidden" not in str(caught.value)
        assert "\n" not in str(caught.value)
        await queue.close()
