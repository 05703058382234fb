"""A long-running service: one session after another, each serving the accounts that it gets.

Whatever fails of what all work needs (a lease, the database, the broker, progress itself) ends the
whole session: everything is given back, and after a pause a new one begins.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from collector import log
from collector.errors import HeldError, UnavailableError, leaves
from collector.health import Health
from collector.jdcloud.credentials import Credentials
from collector.lanes import stopped_within
from collector.metrics import Metrics
from collector.queue import queue_of
from collector.queue.database import DatabaseQueue
from collector.run import drain_on_stop
from collector.session import Session, open_session
from collector.settings import Settings
from collector.store import migrate
from collector.store.engine import Database
from collector.store.leases import Holder
from collector.worker import Worker

__all__ = ["Service"]

_uniform: Final = random.uniform  # spreads processes; no secret

BACKOFF_S: Final = 1.0
"""After a session was lost (seconds); doubled each time."""

MAX_BACKOFF_S: Final = 30.0
"""The longest of these (seconds)."""

SETTLED_S: Final = 60.0
"""A session that lasted this long ended for a reason of its own (seconds)."""

DRAIN_LIMIT_S: Final = 25.0
"""After a signal all work is cut off after this long (seconds)."""

STALL_S: Final = 300.0
"""A run that hears and commits nothing for this long is stuck (seconds), beside slow rates."""

REFRESH_S: Final = 30.0
"""How often the metrics that come from the database are read (seconds)."""


@dataclass
class Service:
    """The process: one session after another, until it is stopped.

    Attributes:
        database: at head, or empty, or to come back soon.
        keys: of the accounts to serve.
        stop: set by a signal.
    """

    settings: Settings
    database: Database
    keys: Mapping[str, Credentials]
    stop: asyncio.Event
    health: Health
    metrics: Metrics
    queue: DatabaseQueue = field(init=False)
    _holders: dict[str, str] = field(default_factory=dict)
    _checked: bool = False
    _left: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queue = queue_of(self.settings, self.database)

    async def run(self) -> None:
        """Work until stopped; what can heal is waited for.

        Raises:
            SchemaError: the database is not at this program's revision.
        """
        watching = asyncio.ensure_future(self.health.watch())
        try:
            await drain_on_stop(self.stop, self._sessions(), DRAIN_LIMIT_S, self.health.stopping)
        finally:
            watching.cancel()
            await asyncio.wait((watching,))

    async def _sessions(self) -> None:
        backoff_s = BACKOFF_S
        while not self.stop.is_set():
            began, reason = time.monotonic(), ""
            try:
                await self._session()
            except* (UnavailableError, HeldError) as lost:
                reason = str(next(leaves(lost)))
            finally:
                await self.queue.close()
                self._holders.clear()
            if not reason:
                return
            if time.monotonic() - began > SETTLED_S:
                backoff_s = BACKOFF_S
            pause_s = backoff_s * _uniform(0.5, 1.0)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
            self.metrics.sessions.inc()
            self.health.down(f"{reason}; trying again")
            log.get_logger().error("session_lost", reason=reason, again_in_s=round(pause_s, 1))
            self.health.beat()
            await stopped_within(self.stop, pause_s)

    async def _session(self) -> None:
        check = migrate.require_head if self._checked else migrate.create_if_empty
        await check(self.database)
        self._checked = True
        async with open_session(
            self.settings,
            self.database,
            self.keys,
            stop=self.stop,
            metrics=self.metrics,
            queue=self.queue,
            left=self._left,
        ) as session:
            await self.queue.connect(session.leases)
            session.beside(self.queue.watch())
            session.beside(self._supervise(session))
            async with asyncio.TaskGroup() as workers:
                workers.create_task(self._refresh(session))
                for name in self.keys:
                    worker = Worker(
                        session=session,
                        name=name,
                        queue=self.queue,
                        tried=lambda name, holder: self._tried(session, name, holder),
                    )
                    workers.create_task(worker.work())

    async def _supervise(self, session: Session) -> None:
        """Tell that the work moves; end a session in which a run is stuck."""
        effective = [self.settings.account(name) for name in self.keys]
        slowest_s = max(1 / account.rate_limit for account in effective)
        limit_s = STALL_S + 2 * self.settings.api.timeout + 2 * slowest_s
        while True:
            if not session.runs:
                session.heard = time.monotonic()
            silent_s = time.monotonic() - session.heard
            if silent_s > limit_s:
                raise UnavailableError(f"nothing moved for {silent_s:.0f} s")
            self.health.beat()
            await asyncio.sleep(1.0)

    async def _refresh(self, session: Session) -> None:
        while not self.stop.is_set():
            held = session.leases.held
            for name in self.keys:
                self.metrics.held.labels(name).set(name in held)
            for account in session.accounts.values():
                for lane in account.lanes.values():
                    rate = self.metrics.rate.labels(lane.key.account, lane.key.region)
                    rate.set(lane.gate.rate)
            await self.metrics.refresh(self.database, await self.queue.depths())
            await stopped_within(self.stop, REFRESH_S)

    def _tried(self, session: Session, name: str, holder: Holder | None) -> None:
        """A lease was tried: from the first one on the service is ready."""
        self._holders.pop(name, None)
        if holder is not None:
            self._holders[name] = holder.holder
        held = sorted(session.leases.held)
        parts = [f"serving {', '.join(held)}" if held else "serving no account"]
        parts += [f"{name} is held by {holder}" for name, holder in sorted(self._holders.items())]
        self.health.up("; ".join(parts))
