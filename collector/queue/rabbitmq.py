"""The queue on RabbitMQ: one durable quorum queue a lane, consumed under the account's lease.

The broker keeps what waits. Attempts are counted in the database, where an item has its row from
the moment it is begun; what fails stays there for its retries, and its message is acknowledged with
the result that was committed. The lease alone decides who consumes.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from sqlalchemy import Delete, Update, case, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override
from yarl import URL

from collector import log
from collector.errors import ConfigurationError, UnavailableError, leaves
from collector.ids import id_problem
from collector.jdcloud.protocol import MAX_PAGE_SIZE
from collector.models import Item, LaneKey, Result
from collector.queue.database import CHUNK, FREE, DatabaseQueue, Flight
from collector.queue.letters import INVALID, Depth
from collector.settings import Settings
from collector.store.engine import Database
from collector.store.leases import Leases
from collector.store.plan import lane_id
from collector.store.schema import lanes, queue_items
from collector.text import printable, redacted_url, shown

try:
    import aio_pika
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
    from aio_pika.exceptions import (
        CONNECTION_EXCEPTIONS,
        ChannelNotFoundEntity,
        ChannelPreconditionFailed,
    )
    from aiormq.exceptions import InvalidFrameError
except ImportError as missing:
    raise ConfigurationError(
        "queue.url: the broker's driver is not installed; "
        "pip install 'jdcloud-image-collector[rabbitmq]'"
    ) from missing

__all__ = ["RabbitQueue"]

CONNECT_S: Final = 10.0
"""How long the broker may take to answer (seconds)."""

HEARTBEAT_S: Final = 10
"""A silent connection is given up after three of these (seconds)."""

CONFIRMS: Final = 500
"""Messages published before the first is confirmed."""

NEW_LANES_S: Final = 5.0
"""How often new lanes are looked for (seconds)."""

REDELIVERY_S: Final = 600.0
"""What was cut comes again from the broker; what did not by then was lost there (seconds)."""

_LIMITLESS_SINCE: Final = 4
"""RabbitMQ's major version that has a delivery limit unless it is taken away."""

_q = queue_items.c


class RabbitQueue(DatabaseQueue):
    """The queue when `[queue] url` is a broker's; one connection a session.

    Raises:
        UnavailableError: the broker cannot be reached, from every method that needs it.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__(database, max_deliveries=settings.queue.max_deliveries)
        for name in ("aiormq", "aio_pika"):  # what goes wrong is raised as well
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._url, self._prefix = settings.queue.url, settings.queue.name
        page = settings.api.concurrency * (MAX_PAGE_SIZE if settings.api.fetch == "batch" else 1)
        self._prefetch = min(2 * page, 60_000)
        # Its message is on the broker: the table alone must not bring it back.
        times = {"added_at": database.now(), "ready_at": database.now(REDELIVERY_S)}
        insert = database.insert_new(queue_items).values(times)
        self._insert_begun = database.prepare_insert(insert, ["lane_id", "image_id"])
        self._reset()

    def _reset(self) -> None:
        """What belongs to one session."""
        self._connection: AbstractConnection | None = None
        self._publisher: AbstractChannel | None = None
        self._channels: dict[str, AbstractChannel] = {}
        self._looked: dict[str, float] = {}
        self._declared: set[LaneKey] = set()
        # Of the lanes that are consumed here: image id → the messages that wait with it.
        self._lanes: dict[LaneKey, dict[str, list[AbstractIncomingMessage]]] = {}
        self._messages: dict[tuple[int, str], list[AbstractIncomingMessage]] = {}
        self._done: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._bad: list[tuple[LaneKey, AbstractIncomingMessage]] = []
        self._lost = asyncio.Event()

    @override
    async def add(self, key: LaneKey, ids: Sequence[str]) -> int:
        async with self._database.within(), self._database.write() as connection:
            lane = await lane_id(self._database, connection, key)
            for start in range(0, len(ids), CHUNK):  # what was dead and is wanted again lives anew
                some = _q.image_id.in_(ids[start : start + CHUNK])
                gone = delete(queue_items).where(_q.lane_id == lane, some, _q.dead_at.is_not(None))
                await connection.execute(gone)
        with self._explained():
            if self._publisher is None:
                self._publisher = await (await self._connected()).channel()
            name = await self._declare(key)
            exchange = self._publisher.default_exchange
            for start in range(0, len(ids), CONFIRMS):
                async with asyncio.timeout(CONNECT_S * 3), asyncio.TaskGroup() as group:
                    for image_id in ids[start : start + CONFIRMS]:
                        message = aio_pika.Message(
                            image_id.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT
                        )
                        group.create_task(exchange.publish(message, routing_key=name))
        return len(ids)  # messages: the broker does not tell what waits already

    @override
    async def reach(self) -> None:
        with self._explained():
            await self._connected()

    @override
    async def connect(self, leases: Leases) -> None:
        await super().connect(leases)
        self._lost.clear()
        with self._explained():
            connection = await self._connected()
            connection.close_callbacks.add(self._on_close)

    @override
    async def watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._acknowledge())
            await self._lost.wait()
            raise UnavailableError(f"queue {redacted_url(self._url)}: the connection was lost")

    @override
    async def close(self) -> None:
        await super().close()
        connection, done = self._connection, self._done
        self._reset()
        if connection is not None:
            with suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
                async with asyncio.timeout(CONNECT_S / 2):
                    while not (connection.is_closed or done.empty()):
                        await done.get_nowait().ack()
                    await connection.close()

    @override
    async def begin(self, account: str) -> None:
        await super().begin(account)
        with self._explained():
            channel = await (await self._connected()).channel()
            channel.close_callbacks.add(self._on_close)
            await channel.set_qos(prefetch_count=self._prefetch)
        self._channels[account] = channel
        await self._consume(account)

    @override
    def _freed(self) -> dict[str, Any]:
        again = self._database.now(REDELIVERY_S)
        return {**FREE, "ready_at": case((_q.last_outcome.is_(None), again), else_=_q.ready_at)}

    @override
    async def due(self, account: str, run_id: int = 0) -> list[LaneKey]:
        if time.monotonic() - self._looked[account] > NEW_LANES_S:
            await self._consume(account)
        await self._bury()
        keys = set(await super().due(account, run_id))
        keys |= {key for key in self._lanes if key.account == account and self._fresh(key, run_id)}
        return sorted(keys)

    @override
    async def _choose(
        self, connection: AsyncConnection, run_id: int, key: LaneKey, lane: int, limit: int
    ) -> list[tuple[str, int]]:
        ids = self._fresh(key, run_id)[:limit]
        chosen: list[tuple[str, int]] = []
        if ids:
            await self._insert_begun.run(connection, [(lane, one) for one in sorted(ids)])
            query = select(_q.image_id, _q.deliveries, _q.dead_at).where(
                _q.lane_id == lane, _q.image_id.in_(ids), _q.token.is_(None)
            )
            for image_id, deliveries, dead_at in (await connection.execute(query)).all():
                messages = self._lanes[key].pop(image_id)
                if dead_at is None:
                    chosen.append((image_id, deliveries))
                    self._messages[lane, image_id] = messages
                else:  # it died, and only the acknowledgement was lost
                    self._acknowledge_later(messages)
        if len(chosen) < limit:
            rest = await super()._choose(connection, run_id, key, lane, limit - len(chosen))
            known = dict(chosen)
            chosen += [row for row in rest if row[0] not in known]
        return chosen

    @override
    def committed(self, results: Sequence[Result]) -> None:
        for result in results:
            item: Item = result.item
            if self._flight(item) is not None:
                self._acknowledge_later(self._messages.pop((item.lane_id, item.image_id), ()))
        super().committed(results)

    @override
    async def give_back(self, run_id: int) -> None:
        left = [flight for flight in self._flying.values() if flight.run_id == run_id]
        await super().give_back(run_id)
        for flight in left:
            if messages := self._messages.pop((flight.lane_id, flight.image_id), None):
                waiting = self._lanes[flight.key].setdefault(flight.image_id, [])
                waiting[:0] = messages

    @override
    def _return(self, flight: Flight) -> Update | Delete:
        if (flight.lane_id, flight.image_id) not in self._messages:
            return super()._return(flight)
        where = self._where(flight.lane_id, flight.token, [flight.image_id])
        if flight.deliveries == 1:
            return delete(queue_items).where(*where)
        values = {**self._freed(), "deliveries": _q.deliveries - 1}
        return update(queue_items).where(*where).values(values)

    @override
    async def depths(self) -> list[Depth]:
        found = {LaneKey(one.account, one.region): one for one in await super().depths()}
        rows = await self._database.select(select(lanes.c.account, lanes.c.region))
        for key in sorted(LaneKey(account, region) for account, region in rows):
            if ready := await self._count(key):
                old = found.get(key, Depth(key.account, key.region))
                found[key] = replace(old, ready=old.ready + ready)
        return [found[key] for key in sorted(found)]

    async def _count(self, key: LaneKey) -> int:
        """Messages that are ready."""
        ready = consumers = 0
        with self._explained(), suppress(ChannelNotFoundEntity):
            found = await self._declare_as(self._name(key), passive=True)
            ready, consumers = found.message_count or 0, found.consumer_count
        if key in self._lanes and not consumers:
            self._on_close()  # somebody deleted the queue, and our consumer with it
        return ready

    async def _connected(self) -> AbstractConnection:
        if self._connection is None:
            url = URL(self._url)
            url = url.with_query({"heartbeat": HEARTBEAT_S, **url.query})
            self._connection = await aio_pika.connect(url, timeout=CONNECT_S)
        return self._connection

    async def _consume(self, account: str) -> None:
        """Consume every lane of the account that the database knows."""
        self._looked[account] = time.monotonic()
        query = select(lanes.c.region).where(lanes.c.account == account)
        for key in [LaneKey(account, row.region) for row in await self._database.select(query)]:
            if key not in self._lanes:
                with self._explained():
                    name = await self._declare(key)
                    queue = await self._channels[account].get_queue(name, ensure=False)
                    self._lanes[key] = {}
                    await queue.consume(partial(self._receive, key))

    async def _receive(self, key: LaneKey, message: AbstractIncomingMessage) -> None:
        image_id = message.body.decode("utf-8", "replace")
        if key not in self._lanes:  # the session ended meanwhile
            return
        if id_problem(image_id):
            self._bad.append((key, message))
        else:
            self._lanes[key].setdefault(image_id, []).append(message)

    async def _bury(self) -> None:
        """Put messages that are no image id among the dead letters."""
        while self._bad:
            key, message = self._bad[0]
            text = message.body.decode("utf-8", "replace")
            why = printable(f"a message that is no image id: found {shown(text)}")
            log.get_logger().error("invalid_message", account=key.account, region=key.region)
            name = f"invalid-{hashlib.sha256(message.body).hexdigest()[:32]}"
            async with self._leases.write([key.account]) as connection:
                lane = await lane_id(self._database, connection, key)
                times = dict.fromkeys(("added_at", "ready_at", "dead_at"), self._database.now())
                row = {"lane_id": lane, "image_id": name, **times}
                row |= {"last_outcome": INVALID, "last_error": why}
                await connection.execute(self._database.insert_new(queue_items).values(row))
            del self._bad[0]
            self._acknowledge_later([message])

    def _fresh(self, key: LaneKey, run_id: int) -> list[str]:
        """Ids whose messages wait and that the run did not have; the others are for the next."""
        had = self._had_of(key.account, run_id).items
        return [one for one in self._lanes.get(key, ()) if (key, one) not in had]

    def _acknowledge_later(self, messages: Sequence[AbstractIncomingMessage]) -> None:
        for message in messages:
            self._done.put_nowait(message)

    async def _acknowledge(self) -> None:
        with self._explained():
            while True:
                await (await self._done.get()).ack()

    async def _declare(self, key: LaneKey) -> str:
        name = self._name(key)
        if key not in self._declared:
            kind: dict[str, Any] = {"x-queue-type": "quorum"}
            has_limit = await self._server_version() >= _LIMITLESS_SINCE
            limitless = {**kind, "x-delivery-limit": -1} if has_limit else kind
            try:
                await self._declare_as(name, durable=True, arguments=limitless)
            except ChannelPreconditionFailed:  # it is there since before the broker's upgrade
                await self._declare_as(name, durable=True, arguments=kind)
                log.get_logger().warning("queue_has_delivery_limit", queue=name)
            self._declared.add(key)
        return name

    async def _declare_as(self, name: str, **options: Any) -> Any:
        """On a channel of its own, which a refusal closes; what the broker says of the queue."""
        async with (await self._connected()).channel() as channel:
            return (await channel.declare_queue(name, **options)).declaration_result

    async def _server_version(self) -> int:
        transport: Any = (await self._connected()).transport
        version = transport.connection.server_properties.get("version", "0")
        text = version.decode() if isinstance(version, bytes) else str(version)
        return int(text.partition(".")[0])

    def _name(self, key: LaneKey) -> str:
        return f"{self._prefix}.{key.account}.{key.region}"

    def _on_close(self, *_: object) -> None:
        self._lost.set()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (BaseExceptionGroup, TimeoutError, *CONNECTION_EXCEPTIONS) as error:
            first = next(leaves(error))
            if not isinstance(first, (TimeoutError, *CONNECTION_EXCEPTIONS)):
                raise
            reason = " ".join(str(first).split()) or type(first).__name__
            if isinstance(first, InvalidFrameError):  # which keeps to itself what the broker said
                reason = "refused; is there such a virtual host, and may this user enter it?"
            raise UnavailableError(f"queue {redacted_url(self._url)}: {reason}") from error
