"""One collection: plan or resume, work through the lanes, finish, seal."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from collector import log
from collector.errors import Exit, UnavailableError
from collector.jdcloud.credentials import Credentials
from collector.lanes import unheard
from collector.metrics import Metrics
from collector.models import LaneKey, Outcome, Source
from collector.session import Session, open_session
from collector.settings import Settings
from collector.sources import ListingError, Sources, list_ids
from collector.store import ledger, plan
from collector.store.engine import Database
from collector.store.leases import void
from collector.store.plan import Plan
from collector.store.summary import Summary, summarize

__all__ = [
    "DRAIN_S",
    "Collected",
    "Order",
    "close_run",
    "collect",
    "drain_on_stop",
    "exit_code",
    "seal_abandoned",
    "work",
]

DRAIN_S: Final = 10.0
"""How long requests in flight may finish after a signal (seconds)."""

FACTS: Final = (
    *("id", "trigger", "status", "planned", "present", "not_found", "failed"),
    *("requests", "retries", "throttled", "digest"),
)
"""What the log says of a run that is finished."""

Watch = Callable[[Session, dict[LaneKey, int]], Coroutine[None, None, None]]
"""Shows progress until cancelled; told the session and how many items wait in each lane."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to collect, and how.

    Attributes:
        sources: checked.
        fresh: do not resume an unfinished run of the same plan.
        whole: all the configured targets, of `account` if there is one.
        account: for a run that belongs to one account.
    """

    sources: Sources
    trigger: str = "run"
    fresh: bool = False
    whole: bool = True
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of it.

    Attributes:
        refused: the credentials of every account that was heard of were.
        silent: every request failed for want of a connection, but those of refused accounts.
        resumed: an unfinished run was taken up again.
        notes: what no item tells: refused credentials and failed listings, with the reason.
    """

    summary: Summary
    refused: bool
    silent: bool
    resumed: bool
    notes: tuple[str, ...] = ()


async def collect(
    settings: Settings,
    database: Database,
    keys: dict[str, Credentials],
    order: Order,
    *,
    stop: asyncio.Event,
    watch: Watch | None = None,
    metrics: Metrics | None = None,
) -> Collected:
    """Collect once, under the leases of all accounts; `keys` has at least those of the order.

    Raises:
        HeldError: another process holds one of the accounts.
        UnavailableError: the database failed; the run can be resumed.
    """
    wanted = {name: keys[name] for name in order.sources.accounts}
    async with open_session(settings, database, wanted, stop=stop, metrics=metrics) as session:
        await session.serve_all()
        return await work(session, order, watch=watch)


async def work(session: Session, order: Order, *, watch: Watch | None = None) -> Collected:
    """Carry out an order in a session that serves its accounts."""
    return await _Run(session, order).go(watch)


async def seal_abandoned(session: Session) -> None:
    """Seal the runs that nobody will resume and whose accounts are held here or by nobody for long.

    There are none as a rule, so that hundreds of accounts look first without waiting for each
    other. Under `session.opening` no run is open and not yet among the session's own.
    """

    async def unsealed() -> list[int]:
        held, now = session.leases.held, datetime.now(UTC)
        return await plan.unsealed(session.database, held, now, keep=session.runs)

    if await unsealed():
        async with session.opening:
            # Sooner than an account is passed over.
            await void(session.database, plan.RESUMABLE / 2)
            for run_id in await unsealed():
                await _close_abandoned(session, run_id)


async def drain_on_stop(
    stop: asyncio.Event,
    work: Coroutine[None, None, None],
    within_s: float,
    stopping_now: Callable[[], None] = lambda: None,
) -> None:
    """Wait for some work; after a signal, which is told, it has `within_s` to end by itself.

    Whoever is cancelled while it waits passes that on, unless the work fails as it ends for it: as
    with a `TaskGroup`, the error counts.
    """
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            stopping_now()
            await asyncio.wait((working,), timeout=within_s)
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.wait((working, stopping))
        if not working.cancelled():
            working.result()


async def close_run(
    session: Session, run_id: int, *, interrupted: bool, cut: bool = False, resumable: bool = False
) -> tuple[str, str | None]:
    """Finish a run, and seal it unless it was interrupted and can be resumed.

    Returns:
        Its status, and its digest if it is sealed.

    Raises:
        LeaseLostError: another process may be at work on the run.
        UnavailableError: the database's file was removed: SQLite itself does not notice.
    """
    database, leases = session.database, session.leases
    if await database.identity() != session.file:
        raise UnavailableError(f"database {database}: the file was removed or replaced meanwhile")
    now = datetime.now(UTC)
    status = await plan.finish(
        database, run_id, now, interrupted=interrupted, cut=cut, leases=leases
    )
    if resumable and status == "interrupted":
        return status, None
    return status, await ledger.seal(database, run_id)


async def _close_abandoned(session: Session, run_id: int) -> None:
    _, digest = await close_run(session, run_id, interrupted=True)
    log.get_logger().info("run_sealed", run_id=run_id, digest=digest)


class _Run:
    def __init__(self, session: Session, order: Order) -> None:
        self._session, self._database, self._order = session, session.database, order
        self._accounts = [session.accounts[name] for name in order.sources.accounts]
        self._unlisted: dict[tuple[LaneKey, Source], ListingError] = {}
        self._cut = False

    async def go(self, watch: Watch | None) -> Collected:
        await seal_abandoned(self._session)
        async with self._session.opening:
            opened, resumed = await self._open()
        with log.bound(run_id=opened.run_id), self._deadline():
            if not resumed:
                await self._plan(opened)
            lanes = await opened.lanes()
            waiting = {key: count for key, (_, count) in lanes.items()}
            event = "run_resumed" if resumed else "run_planned"
            log.get_logger().info(event, items=sum(waiting.values()), lanes=len(lanes))
            watching: asyncio.Task[None] | None = None
            if watch is not None:
                watching = self._session.group.create_task(watch(self._session, waiting))
            await drain_on_stop(self._session.stop, self._work(opened, lanes), DRAIN_S)
            await self._session.writer.drain()
            if watching is not None:
                watching.cancel()
            collected = await self._finish(opened, resumed=resumed)
            run = collected.summary.run
            self._session.finished(opened.run_id, run["trigger"], run["status"])
            log.get_logger().info("run_finished", **{name: run[name] for name in FACTS})
            return collected

    async def _open(self) -> tuple[Plan, bool]:
        order = self._order
        digest = order.sources.digest(self._session.settings.api)
        old = await plan.unfinished(self._database, digest, datetime.now(UTC))
        if old is not None and order.fresh:
            await _close_abandoned(self._session, old)
            old = None
        if old is not None:
            self._session.runs.add(old)
            opened = Plan(self._database, self._session.leases, old)
            await opened.resume()
            return opened, True
        opened = await self._session.open_run(
            order.trigger, digest, order.sources.keys, whole=order.whole, account=order.account
        )
        return opened, False

    async def _plan(self, opened: Plan) -> None:
        for key, ids in self._order.sources.ids():
            if self._session.stop.is_set():
                return
            await opened.add(key, ids, datetime.now(UTC))
        if self._order.sources.discover:
            await drain_on_stop(self._session.stop, self._discover(opened), DRAIN_S)
        if not self._session.stop.is_set():  # else a listing may have been cut: not to be resumed
            await opened.planned(datetime.now(UTC))

    async def _discover(self, opened: Plan) -> None:
        """Plan what is listed now and what was known before, so that deletions are seen."""
        async with asyncio.TaskGroup() as group:
            for key, names in self._order.sources.discover.items():
                group.create_task(self._discover_lane(opened, key, sorted(names)))

    async def _discover_lane(self, opened: Plan, key: LaneKey, names: Sequence[Source]) -> None:
        async for known in plan.known_images(self._database, key, names):
            await opened.add(key, known, datetime.now(UTC))
        account = self._session.accounts[key.account]
        lane, tally = account.lane(key.region), self._session.writer.tally(opened.run_id)
        async for name, listed in list_ids(account, lane, names, tally):
            if isinstance(listed, ListingError):
                await opened.listing_failed()
                self._unlisted[key, name] = listed
            else:
                await opened.add(key, listed, datetime.now(UTC))

    async def _work(self, opened: Plan, lanes: dict[LaneKey, tuple[int, int]]) -> None:
        async with asyncio.TaskGroup() as group:
            for key, (number, waiting) in lanes.items():
                self._session.writer.lane(number, key)
                if waiting:
                    group.create_task(self._session.feed(key, opened.waiting(number)))

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        loop, within_s = asyncio.get_running_loop(), self._session.settings.api.deadline
        timer = loop.call_later(within_s, self._close_accounts) if within_s else None
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            for account in self._accounts:
                account.closing = False

    def _close_accounts(self) -> None:
        self._cut = True
        for account in self._accounts:
            account.closing = True

    async def _finish(self, opened: Plan, *, resumed: bool) -> Collected:
        stopped = self._session.stop.is_set()
        await close_run(
            self._session, opened.run_id, interrupted=stopped, cut=self._cut, resumable=True
        )
        summary = await summarize(self._database, opened.run_id)
        notes = []
        for account in self._accounts:
            if account.refused is not None:
                reason = account.refused.error_message
                log.get_logger().error("credentials_refused", account=account.name, reason=reason)
                notes.append(f"account {account.name}: credentials refused: {reason}")
        for (key, source), error in self._unlisted.items():
            notes.append(f"listing failed: {key} {source}: {error}")
        unread = [(one["account"], Outcome(one["outcome"])) for one in summary.failures]
        unread += [(key.account, error.outcome) for (key, _), error in self._unlisted.items()]
        refused, silent = unheard(self._accounts, unread)
        return Collected(
            summary, refused=refused, silent=silent, resumed=resumed, notes=tuple(notes)
        )


def exit_code(collected: Collected, *, min_coverage: float, signal: int | None) -> int:
    """The exit code of a collection, in the order of the public contract."""
    summary = collected.summary
    if signal is not None and summary.run["status"] == "interrupted":
        return 128 + signal
    if not summary.read and collected.refused:
        return Exit.REFUSED
    if not summary.read and collected.silent:
        return Exit.UNAVAILABLE
    complete = summary.run["status"] == "complete"
    whole = summary.coverage >= min_coverage and not summary.run["listings_failed"]
    members_failed = not complete and summary.coverage == 1.0
    return Exit.OK if whole and not members_failed else Exit.PARTIAL
