"""A process at work: credentials, leases, one client, one writer, and the accounts it serves.

Everything that calls the API does it inside a session: no call is made for an account whose lease
the session does not hold, and when the lease or the writer fails, everything stops together.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from collector import __version__, config, log
from collector.errors import UnavailableError
from collector.fetch import Fetcher, one_by_one, split_batches
from collector.gate import Dispatcher
from collector.jdcloud import credentials
from collector.jdcloud.client import Client, Signer
from collector.jdcloud.credentials import Credentials
from collector.lanes import Account
from collector.metrics import Metrics
from collector.models import Item, LaneKey, Outcome, Result
from collector.queue.database import DatabaseQueue
from collector.settings import Settings
from collector.store.engine import Database
from collector.store.leases import Leases
from collector.store.plan import Opening, Plan
from collector.store.writes import Writer

__all__ = ["Session", "load_credentials", "open_session", "signer_of"]

RELEASE_S = 5.0
"""How long giving the leases back may take (seconds); they run out by themselves."""


def load_credentials(settings: Settings, env: Mapping[str, str]) -> dict[str, Credentials]:
    """The credentials of every account; from here on no log shows them.

    Raises:
        ConfigurationError: some cannot be read, or two accounts have the same access key.
    """
    found = {}
    for account in settings.accounts:
        keys = credentials.load(account.credentials, base=settings.base, env=env)
        log.redact(keys.secret_key, keys.security_token, keys.access_key)
        found[account.name] = keys
    config.distinct_keys((name, keys.access_key) for name, keys in found.items())
    return found


def signer_of(settings: Settings, account: str, keys: Credentials) -> Signer:
    """What signs an account's requests, as it is configured.

    Raises:
        ConfigurationError: the environment names a proxy that cannot be used.
    """
    return Signer(
        keys,
        settings.account(account).endpoint,
        scheme=settings.api.signature,
        token_encoding=settings.api.security_token_encoding,
    )


class Session:
    """The parts that work together; made by `open_session`.

    Attributes:
        group: tasks of the session; the first that fails ends it.
        besides: those of them that are cancelled at its end.
        stop: once set, nothing more is begun.
        file: the database's identity, when it is a file.
        accounts: those that are served.
        heard: when an answer or a commit was last heard of (`time.monotonic`).
        runs: those that are at work here, which are nobody's to seal.
        opening: held by whoever opens a run, or seals those that were abandoned.
    """

    group: asyncio.TaskGroup
    file: tuple[int, int] | None

    def __init__(
        self,
        settings: Settings,
        database: Database,
        keys: Mapping[str, Credentials],
        *,
        stop: asyncio.Event,
        metrics: Metrics | None,
        queue: DatabaseQueue | None,
        left: dict[str, int] | None,
    ) -> None:
        self.settings, self.database, self.keys, self.stop = settings, database, keys, stop
        self._metrics, self._queue = metrics, queue
        self.leases = Leases(database, {name: one.key_id for name, one in keys.items()}, left)
        settle = queue.settle if queue is not None else None
        self.writer = Writer(database, self.leases, settle=settle, committed=self._committed)
        self.client = Client(
            timeout_s=settings.api.timeout,
            max_response_bytes=settings.api.max_response_bytes,
            guard=self.leases.check,
        )
        self.accounts: dict[str, Account] = {}
        self.heard = time.monotonic()
        self.runs: set[int] = set()
        self.opening = asyncio.Lock()
        self.besides: list[asyncio.Task[None]] = []

    def beside(self, work: Coroutine[None, None, None]) -> None:
        """Do something until the session ends; when it fails, the session does."""
        self.besides.append(self.group.create_task(work))

    def serve(self, name: str, wait_s: float) -> Account:
        """Begin to serve an account whose lease was just taken; its first call waits `wait_s`."""
        effective, api = self.settings.account(name), self.settings.api
        dispatcher = Dispatcher(effective.account_rate_limit, not_before=time.monotonic() + wait_s)
        self.beside(dispatcher.run())
        self.accounts[name] = Account(
            name,
            client=self.client,
            signer=signer_of(self.settings, name, self.keys[name]),
            dispatcher=dispatcher,
            rate=effective.rate_limit,
            api=api,
            stop=self.stop,
            on_reply=self._replied,
        )
        return self.accounts[name]

    async def serve_all(self) -> None:
        """Take the lease of every account of the session and begin to serve it.

        Raises:
            HeldError: another process holds one of them.
        """
        wait_s = await self.leases.take_all()
        for name in self.keys:
            self.serve(name, wait_s)

    async def feed(
        self, key: LaneKey, pages: AsyncIterator[Sequence[Item]], *, urgent: bool = False
    ) -> None:
        """Ask for items of a lane, one a call or many as configured; see `Account.feed`."""
        account = self.accounts[key.account]
        lane, fetcher = account.lane(key.region), Fetcher(account, self.writer)
        if account.api.fetch == "batch":
            await account.feed(lane, pages, split_batches, fetcher.batch, urgent=urgent)
        else:
            await account.feed(lane, pages, one_by_one, fetcher.single, urgent=urgent)

    async def open_run(
        self,
        trigger: str,
        plan_digest: str,
        keys: Iterable[LaneKey],
        *,
        whole: bool,
        account: str | None,
    ) -> Plan:
        """Begin a run, as `Plan.open` does; the caller holds `opening`."""
        opening = Opening(
            trigger=trigger,
            plan_digest=plan_digest,
            config_digest=self.settings.digest(),
            tool_version=__version__,
            scope="whole" if whole else "narrowed",
            time_zone=self.settings.api.time_zone,
            account=account,
        )
        opened = await Plan.open(self.database, self.leases, opening, datetime.now(UTC), keys)
        self.runs.add(opened.run_id)
        return opened

    def finished(self, run_id: int, trigger: str, status: str) -> None:
        """A run is finished."""
        self.runs.discard(run_id)
        self.writer.forget(run_id)
        if self._metrics is not None:
            self._metrics.finished(trigger, status)

    def _replied(self, key: LaneKey, outcome: Outcome, attempt: int, waited_s: float) -> None:
        self.heard = time.monotonic()
        if self._metrics is not None:
            self._metrics.reply(key, outcome, attempt, waited_s)

    def _committed(self, keys: Sequence[LaneKey], results: Sequence[Result], took_s: float) -> None:
        self.heard = time.monotonic()
        if self._queue is not None:
            self._queue.committed(results)
        if self._metrics is not None:
            self._metrics.committed(keys, results, took_s)


@asynccontextmanager
async def open_session(
    settings: Settings,
    database: Database,
    keys: Mapping[str, Credentials],
    *,
    stop: asyncio.Event,
    metrics: Metrics | None = None,
    queue: DatabaseQueue | None = None,
    left: dict[str, int] | None = None,
) -> AsyncIterator[Session]:
    """Work for the accounts in `keys`, once their leases are taken (`session.leases`).

    At the end of the block everything that was handed to the writer is committed and the leases are
    given back. When a lease is lost or the database fails, the block is cancelled.
    `metrics` count, and `queue` is told, what is committed; `left` is described by `Leases`.
    """
    session = Session(settings, database, keys, stop=stop, metrics=metrics, queue=queue, left=left)
    try:
        async with session.client, asyncio.TaskGroup() as session.group:
            session.file = await database.identity()
            session.beside(session.leases.keep())
            if metrics is not None:
                session.beside(metrics.watch_loop())
            writing = session.group.create_task(session.writer.work())
            yield session
            session.writer.close()
            await writing
            for task in session.besides:
                task.cancel()
    finally:
        try:
            async with database.within(RELEASE_S):
                await session.leases.release()
        except UnavailableError as error:
            log.get_logger().warning("lease_not_released", reason=str(error))
