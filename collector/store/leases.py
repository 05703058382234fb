"""Leases: exactly one process of the fleet may call for an access key, and write what it heard.

The lease is a row in the shared database, taken by its clock. A holder sends nothing later than
`SEND_S` after the *start* of its last successful renewal, which is `TTL_S - SEND_S` before anybody
else may take the row; every commit checks the token in its own transaction, so a late one fails.
"""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.errors import HeldError, LeaseLostError, UnavailableError
from collector.store.engine import Database, is_deadlock
from collector.store.look import shared
from collector.store.schema import leases

__all__ = ["Holder", "Leases", "holders", "void"]

TTL_S: Final = 15.0
"""A lease that was not renewed may be taken after this (seconds, the database's clock)."""

RENEW_S: Final = 5.0
"""A holder renews this often (seconds)."""

SEND_S: Final = 12.0
"""Nothing is sent later than this after the start of the last renewal (seconds, boot time)."""

_LOST: Final = "the lease passed to another process, or ran out; nothing more is sent or written"
"""Whoever notices it first: what a run ends with is told once."""

GAP_S: Final = 1.0
"""A successor waits this long after a release, or after replacing a dead holder (seconds)."""


class Holder(NamedTuple):
    """Who holds an account."""

    account: str
    holder: str
    expires: datetime | None = None


def boot_time() -> float:
    """Seconds since boot, suspension included: a monotonic clock that stops then is not enough."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _this_boot() -> str:
    """One boot of one machine and pid namespace; empty where that cannot be told."""
    try:
        if Path("/proc/self").readlink().name != str(os.getpid()):
            return ""  # another namespace's: its processes are not those of these numbers
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """Start time of a process (clock ticks since boot, proc(5)); None when there is none alive."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])  # killed, and nobody asked how it ended


def _is_hidden(pid: int) -> bool:
    """Whether a process lives that /proc does not show, because it is another user's."""
    if Path(f"/proc/{pid}").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class Leases:
    """The leases of this process; they live and die together.

    Args:
        database: where the rows are.
        names: account → lease name (`ak:…`, of its access key).
        left: account → token of what this process could not give back; kept by the caller, so that
            its next leases need not wait for those to run out.
    """

    def __init__(
        self, database: Database, names: Mapping[str, str], left: dict[str, int] | None = None
    ) -> None:
        self._database = database
        self._left = left if left is not None else {}
        self._names = dict(names)
        self._tokens: dict[str, int] = {}
        self._began: dict[str, float] = {}  # when the last renewal did
        self._living = shared(self._look)
        self._send_until = 0.0
        self._trouble: UnavailableError | None = None  # of the last renewal
        self._identity: dict[str, Any] = {
            "holder": f"{socket.gethostname()}, pid {os.getpid()}, {' '.join(sys.argv[:2])[-80:]}",
            "boot_id": _this_boot(),
            "pid": os.getpid(),
            "pid_started": _started(os.getpid()) or 0,
        }

    @property
    def held(self) -> frozenset[str]:
        """The accounts that this process holds."""
        return frozenset(self._tokens)

    def token(self, account: str) -> int:
        """The token under which an account is held."""
        return self._tokens[account]

    def check(self) -> None:
        """Refuse to send when the lease may have passed to somebody else.

        Raises:
            LeaseLostError: the last renewal is too long ago, or nothing is held.
            UnavailableError: it is too long ago because the database did not answer.
        """
        if not self._tokens or boot_time() >= self._send_until:
            if self._trouble is not None:
                raise UnavailableError(f"the lease could not be renewed in time: {self._trouble}")
            raise LeaseLostError(_LOST)

    async def look(self, account: str) -> Holder | None:
        """Who else holds an account; one looks for all who ask at a time, and locks nothing.

        None: it may be worth while to `take` it.
        """
        return (await self._living()).get(account)

    async def _look(self) -> dict[str, Holder]:
        rows = await _unexpired(self._database)
        return {row.account: _holder(row) for row in rows if not self._is_over(row)}

    async def take_all(self) -> float:
        """Take every account, or none.

        Returns:
            Seconds to wait before the first call.

        Raises:
            HeldError: another process holds one of them.
        """
        wait_s = 0.0
        for account in sorted(self._names):
            taken = await self.take(account)
            if isinstance(taken, Holder):
                async with self._database.within():
                    await self.release()
                raise HeldError(f"account {account} is held by another process: {taken.holder}")
            wait_s = max(wait_s, taken)
        return wait_s

    async def take(self, account: str) -> float | Holder:
        """Take one account; tell the seconds to wait before the first call, or who holds it."""
        try:
            return await self._take(account)
        except (IntegrityError, UnavailableError) as error:
            # Somebody else was first; a cluster that locks on each node tells it at the commit.
            if isinstance(error, UnavailableError) and not is_deadlock(error):
                raise
            return Holder(account, "it was taken just now")

    async def _take(self, account: str) -> float | Holder:
        name, began = self._names[account], boot_time()
        mine = {**self._identity, "account": account}
        database = self._database
        async with database.turn, database.within(), database.write(urgent=True) as connection:
            now, later = self._database.now(), self._database.now(TTL_S)
            # Its key may just be rotated: work is found by the account's name, so that two holders
            # of two keys would take the same. Who takes any of them locks them all.
            keys = select(leases.c.name).where(leases.c.account == account)
            names = {name, *(await connection.execute(keys)).scalars()}
            query = select(leases, now.label("now")).where(leases.c.name.in_(names))
            locked = await connection.execute(query.order_by(leases.c.name).with_for_update())
            row = next((row for row in locked if row.name == name), None)
            others = select(leases).where(
                leases.c.account == account, leases.c.name != name, leases.c.expires > now
            )
            for other in await connection.execute(others):
                if not self._is_over(other):
                    return _holder(other)
            if row is None:
                values = {"name": name, "token": 1, "expires": later, "free_at": now, **mine}
                await connection.execute(insert(leases).values(values))
                token, wait_s = 1, 0.0
            else:
                died = row.expires > row.now and self._is_over(row)
                if row.expires > row.now and not died:
                    return _holder(row)
                token = row.token + 1
                wait_s = GAP_S if died else max(0.0, (row.free_at - row.now).total_seconds())
                change: dict[str, Any] = {"token": token, "expires": later, **mine}
                if died:
                    change["free_at"] = self._database.now(GAP_S)
                await connection.execute(
                    update(leases).where(self._are({account: row.token})).values(change)
                )
        self._tokens[account] = token
        self._renewed(began, [account])
        return wait_s

    async def keep(self) -> None:
        """Renew until cancelled.

        Raises:
            LeaseLostError: somebody else has it.
            UnavailableError: the database did not answer in time.
        """
        while True:
            await asyncio.sleep(RENEW_S)
            again = False
            while self._tokens:
                try:
                    async with self._database.within(RENEW_S):
                        await self._renew()
                    break
                except UnavailableError as error:
                    # Too late at the first try, this process may have been stopped in its midst:
                    # then the database knows who has the lease.
                    if again or boot_time() < self._send_until:
                        self._trouble = error
                        self.check()
                    again = True
                    await asyncio.sleep(0.5)

    @asynccontextmanager
    async def write(self, accounts: Iterable[str] | None = None) -> AsyncIterator[AsyncConnection]:
        """A write transaction of whoever still holds the accounts: all of `held`, unless told.

        Raises:
            LeaseLostError: another process may hold one; nothing is written.
        """
        async with self._database.write() as connection:
            await self.confirm(connection, self.held if accounts is None else accounts)
            yield connection

    async def confirm(self, connection: AsyncConnection, accounts: Iterable[str]) -> None:
        """Check, inside a write transaction, that the accounts are still held.

        Raises:
            LeaseLostError: they are not, and nothing may be written.
        """
        wanted = {self._names[account]: self._tokens.get(account) for account in accounts}
        query = select(leases.c.name, leases.c.token).where(leases.c.name.in_(wanted))
        found = await connection.execute(query.with_for_update(read=True))
        if dict(found.all()) != wanted:
            raise LeaseLostError(_LOST)

    async def release(self) -> None:
        """Give everything back; a successor waits a second."""
        tokens, self._tokens = self._tokens, {}
        self._send_until = 0.0
        if not tokens:
            return
        self._left.update(tokens)
        async with self._database.write(urgent=True) as connection:
            free = {"expires": self._database.now(), "free_at": self._database.now(GAP_S)}
            await connection.execute(update(leases).where(self._are(tokens)).values(free))
        for account in tokens:
            del self._left[account]

    async def _renew(self) -> None:
        began, tokens = boot_time(), dict(self._tokens)
        if not tokens:
            return
        async with self._database.write(urgent=True) as connection:
            later = {"expires": self._database.now(TTL_S)}
            renewed = update(leases).where(self._are(tokens)).values(later)
            kept = (await connection.execute(renewed)).rowcount
        if kept != len(tokens):
            raise LeaseLostError(_LOST)
        self._trouble = None
        self._renewed(began, tokens)

    def _renewed(self, began: float, accounts: Iterable[str]) -> None:
        """The oldest of this process's renewals limits them all."""
        self._began.update(dict.fromkeys(accounts, began))
        oldest = min((self._began[account] for account in self._tokens), default=-SEND_S)
        self._send_until = oldest + SEND_S

    def _is_over(self, row: Any) -> bool:
        """Whether its holder is no more: a dead process of this machine, or this one before."""
        if all(getattr(row, name) == value for name, value in self._identity.items()):
            return bool(self._left.get(row.account) == row.token)
        here = self._identity["boot_id"]
        if not here or row.boot_id != here:
            return False
        started = _started(row.pid)
        return started != row.pid_started and not (started is None and _is_hidden(row.pid))

    def _are(self, tokens: Mapping[str, int]) -> Any:
        pairs = [(self._names[account], token) for account, token in sorted(tokens.items())]
        return tuple_(leases.c.name, leases.c.token).in_(pairs)


async def void(database: Database, after: timedelta) -> None:
    """Make every lease worthless that ran out so long ago: who wakes up with one writes nothing."""
    old = leases.c.expires < database.now(-after.total_seconds())
    async with database.write() as connection:
        await connection.execute(update(leases).where(old).values(token=leases.c.token + 1))


async def holders(database: Database) -> list[Holder]:
    """Who holds which account now, by the database's clock."""
    return [_holder(row) for row in await _unexpired(database)]


async def _unexpired(database: Database) -> Sequence[Any]:
    query = select(leases).where(leases.c.expires > database.now())
    return await database.select(query.order_by(leases.c.account))


def _holder(row: Any) -> Holder:
    return Holder(row.account, row.holder, row.expires)
