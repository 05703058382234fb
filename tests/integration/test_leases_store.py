"""Leases on the three databases: one holder, dead ones replaced, late ones refused."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import bindparam, event, insert, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.errors import HeldError, LeaseLostError, UnavailableError
from collector.store import leases as module
from collector.store.engine import Database
from collector.store.leases import GAP_S, SEND_S, TTL_S, Holder, Leases, holders
from collector.store.schema import lanes
from collector.store.schema import leases as table

NAMES = {"one": "ak:1", "two": "ak:2"}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url) as database:
        yield database


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how many seconds were added to the time since boot."""
    real, added = module.boot_time, [0.0]
    monkeypatch.setattr(module, "boot_time", lambda: real() + added[0])

    def advance(seconds: float) -> None:
        added[0] += seconds

    return advance


async def row_of(database: Database, name: str = "ak:1") -> Any:
    async with database.read() as connection:
        query = select(table, database.now().label("now")).where(table.c.name == name)
        return (await connection.execute(query)).one()


async def change(database: Database, **values: Any) -> None:
    async with database.write() as connection:
        await connection.execute(update(table).where(table.c.name == "ak:1").values(**values))


async def test_a_lease_is_taken_by_one_of_many(database: Database) -> None:
    """Eight at once: one gets it, seven are told who has it; new, expired and released alike."""
    for _ in range(3):
        takers = [Leases(database, {"one": "ak:1"}) for _ in range(8)]
        taken = await asyncio.gather(*(taker.take("one") for taker in takers))
        winners = [t for t, got in zip(takers, taken, strict=True) if not isinstance(got, Holder)]
        assert len(winners) == 1
        assert [taker.held for taker in takers].count(frozenset({"one"})) == 1
        winners[0].check()
        await change(database, expires=database.now())


async def test_another_was_first_on_its_node(new_database: Callable[..., str]) -> None:
    """Galera locks no row on another node: who comes second is told at the commit."""
    from asyncmy.errors import OperationalError as MySqlError

    def conflict(_: object) -> None:
        reason = MySqlError(1213, "Deadlock found when trying to get lock")
        raise OperationalError("COMMIT", None, reason)

    async with Database(new_database("mysql")) as database:
        event.listen(database.engine.sync_engine, "commit", conflict)
        second = Leases(database, NAMES)
        with pytest.raises(HeldError, match=r"account one is held .* it was taken just now"):
            await second.take_all()

    assert second.held == frozenset()


async def test_two_keys_of_one_account(database: Database) -> None:
    """While its key is rotated, host after host, an account's work is still one process's."""
    before = Leases(database, {"one": "ak:1"})
    await before.take_all()
    after = Leases(database, {"one": "ak:2"})
    with pytest.raises(HeldError, match=rf"account one is held .* pid {os.getpid()}"):
        await after.take_all()
    await before.release()

    assert await after.take_all() == 0.0
    with pytest.raises(HeldError):
        await before.take_all()


async def test_two_keys_at_the_same_moment(database: Database) -> None:
    """Each has a row of its own, and still one of them waits for the other."""
    for key in ("ak:1", "ak:2"):
        known = Leases(database, {"one": key})
        await known.take_all()
        await known.release()
    for _ in range(5):
        takers = [Leases(database, {"one": key}) for key in ("ak:1", "ak:2")]
        await asyncio.gather(*(taker.take("one") for taker in takers))
        assert [taker.held for taker in takers].count(frozenset({"one"})) == 1
        for taker in takers:
            await taker.release()


async def test_who_waits_locks_nothing(database: Database) -> None:
    """Hundreds of accounts that wait look once for all, and are in nobody's way."""
    asked: list[object] = []
    holder, waiting = Leases(database, NAMES), Leases(database, NAMES)
    await holder.take_all()
    async with database.write() as connection:
        await connection.execute(update(table).values(pid=table.c.pid))  # locks them
        event.listen(database.engine.sync_engine, "begin", asked.append)
        async with asyncio.timeout(5):
            found = await asyncio.gather(*(waiting.look(n) for n in ("one", "two", "three") * 99))

    assert [one and one.account for one in found] == ["one", "two", None] * 99
    assert len(asked) == 1


async def test_all_accounts_or_none(database: Database) -> None:
    """A process whose second account is held gives the first one back, and names the holder."""
    first = Leases(database, {"two": "ak:2"})
    assert await first.take_all() == 0.0
    second = Leases(database, NAMES)
    with pytest.raises(HeldError, match=rf"account two is held .* pid {os.getpid()}"):
        await second.take_all()
    assert second.held == frozenset()
    assert [holder.account for holder in await holders(database)] == ["two"]
    with pytest.raises(LeaseLostError):
        second.check()
    first.check()
    third = Leases(database, {"one": "ak:1"})
    assert 0 < await third.take_all() <= GAP_S


async def test_a_successor_waits_a_second_after_a_release(database: Database) -> None:
    """So that no window of a second holds the calls of both."""
    first = Leases(database, {"one": "ak:1"})
    await first.take_all()
    await first.release()
    assert await holders(database) == []
    waits = await Leases(database, {"one": "ak:1"}).take_all()
    assert GAP_S - 0.5 < waits <= GAP_S
    await change(database, expires=database.now(), free_at=database.now(-GAP_S))
    assert await Leases(database, {"one": "ak:1"}).take_all() == 0.0


async def test_the_token_grows_with_each_taking(database: Database) -> None:
    """Expired or released: what the predecessor wrote down as its token is good no more."""
    old = Leases(database, {"one": "ak:1"})
    await old.take_all()
    await change(database, expires=database.now())
    new = Leases(database, {"one": "ak:1"})
    await new.take_all()
    assert (old.token("one"), new.token("one")) == (1, 2)
    async with database.write() as connection:
        await new.confirm(connection, ["one"])
        with pytest.raises(LeaseLostError):
            await old.confirm(connection, ["one"])
    with pytest.raises(LeaseLostError):
        await old._renew()
    await old.release()  # it is not its to release
    assert (await row_of(database)).token == 2
    assert len(await holders(database)) == 1


async def test_an_account_that_is_not_held_cannot_be_confirmed(database: Database) -> None:
    """Neither before it was taken nor after it was released."""
    leases = Leases(database, NAMES)
    await leases.take("one")
    async with database.write() as connection:
        await leases.confirm(connection, ["one"])
        with pytest.raises(LeaseLostError):
            await leases.confirm(connection, ["one", "two"])
    await leases.release()
    async with database.write() as connection:
        with pytest.raises(LeaseLostError):
            await leases.confirm(connection, ["one"])


async def test_nothing_is_sent_long_after_a_renewal(
    database: Database, clock: Callable[[float], None]
) -> None:
    """12 s after the start of the last one it is over, though the row is good for 15."""
    leases = Leases(database, {"one": "ak:1"})
    with pytest.raises(LeaseLostError):
        leases.check()
    await leases.take_all()
    clock(SEND_S - 1)
    leases.check()
    await leases._renew()
    clock(SEND_S - 1)
    leases.check()
    clock(1)
    with pytest.raises(LeaseLostError):
        leases.check()
    row = await row_of(database)
    assert timedelta(seconds=TTL_S - 2) < row.expires - row.now <= timedelta(seconds=TTL_S)


async def test_a_second_account_does_not_prolong_the_first(
    database: Database, clock: Callable[[float], None]
) -> None:
    """A process sends as long as the oldest of its renewals allows."""
    leases = Leases(database, NAMES)
    await leases.take("one")
    clock(SEND_S - 1)
    await leases.take("two")
    clock(1.5)
    with pytest.raises(LeaseLostError):
        leases.check()
    await leases._renew()
    leases.check()


async def test_a_renewal_counts_while_another_account_is_taken(
    database: Database, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of accounts take a while: none of the renewals in that time may be for nothing."""
    leases, write, taken = Leases(database, NAMES), database.write, asyncio.Event()

    @asynccontextmanager
    async def later(**options: bool) -> AsyncIterator[AsyncConnection]:
        database.write = write  # type: ignore[method-assign]
        await taken.wait()
        async with write(**options) as connection:
            yield connection

    await leases.take("one")
    clock(SEND_S - 2)
    monkeypatch.setattr(database, "write", later)
    renewing = asyncio.ensure_future(leases._renew())
    await asyncio.sleep(0)
    await leases.take("two")
    taken.set()
    await renewing
    clock(SEND_S - 2)

    leases.check()


async def test_a_thousand_accounts_in_one_statement(database: Database) -> None:
    """As many as there are: SQLite refuses conditions that are a thousand deep."""
    leases = Leases(database, {f"team-{n}": f"ak:{n}" for n in range(1_200)})
    await leases.take("team-0")
    pattern = dict((await row_of(database, "ak:0"))._mapping)
    del pattern["now"]
    more = [f"{n}" for n in range(1, 1_200)]
    async with database.write() as connection:
        rows = [{**pattern, "name": f"ak:{n}", "account": f"team-{n}"} for n in more]
        await connection.execute(insert(table), rows)
    leases._tokens.update({f"team-{n}": pattern["token"] for n in more})
    leases._began.update(dict.fromkeys(leases.held, module.boot_time()))

    await leases._renew()
    assert len(await holders(database)) == 1_200
    await leases.release()
    assert await holders(database) == []


async def test_renewals_go_on_and_notice_a_loss(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`keep` prolongs the row as long as it is ours, and raises once it is another's."""
    monkeypatch.setattr(module, "RENEW_S", 0.05)
    leases = Leases(database, {"one": "ak:1"})
    await leases.take_all()
    await change(database, expires=database.now(1.0))
    keeping = asyncio.ensure_future(leases.keep())
    async with asyncio.timeout(10):
        while True:
            row = await row_of(database)
            if row.expires - row.now > timedelta(seconds=TTL_S - 2):
                break
    assert not keeping.done()
    await change(database, token=9)
    with pytest.raises(LeaseLostError, match="passed to another process"):
        async with asyncio.timeout(10):
            await keeping


@pytest.mark.parametrize("ticks", range(4))
async def test_keeping_ends_when_told_to_as_a_renewal_ends(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, ticks: int
) -> None:
    """A cancellation that meets the end of a renewal is not lost: nothing would come after it."""
    monkeypatch.setattr(module, "RENEW_S", 0.02)
    begun, answered = asyncio.Event(), asyncio.Event()

    async def renew() -> None:
        begun.set()
        await answered.wait()

    async with Database(sqlite_url) as database:
        leases = Leases(database, {"one": "ak:1"})
        await leases.take_all()
        monkeypatch.setattr(leases, "_renew", renew)
        keeping = asyncio.ensure_future(leases.keep())
        await begun.wait()
        answered.set()
        for _ in range(ticks):
            await asyncio.sleep(0)
        keeping.cancel()
        await asyncio.wait((keeping,), timeout=5)
        assert keeping.cancelled()


async def test_a_database_that_does_not_answer_ends_the_lease(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    """Renewals are tried again until sending is over; then the process stops."""
    monkeypatch.setattr(module, "RENEW_S", 0.02)
    tries = 0

    async def fail() -> None:
        nonlocal tries
        tries += 1
        clock(5.0)
        raise UnavailableError("the database is away")

    async with Database(sqlite_url) as database:
        leases = Leases(database, {"one": "ak:1"})
        await leases.take_all()
        monkeypatch.setattr(leases, "_renew", fail)
        away = "the lease could not be renewed in time: the database is away"
        with pytest.raises(UnavailableError, match=away):
            async with asyncio.timeout(20):
                await leases.keep()
        assert tries == 3
        with pytest.raises(UnavailableError, match=away):
            leases.check()


async def test_stopped_in_the_midst_of_a_renewal_it_asks_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    """When it wakes the time is up, and the database is not to blame: somebody else has it."""
    monkeypatch.setattr(module, "RENEW_S", 0.02)
    async with Database(sqlite_url) as database:
        leases = Leases(database, {"one": "ak:1"})
        await leases.take_all()
        renew = leases._renew

        async def late() -> None:
            monkeypatch.setattr(leases, "_renew", renew)
            clock(60.0)
            await change(database, token=9)
            raise UnavailableError("no answer in 5 s")

        monkeypatch.setattr(leases, "_renew", late)
        monkeypatch.setattr(module, "RENEW_S", 5.0)
        with pytest.raises(LeaseLostError, match="passed to another process") as kept:
            async with asyncio.timeout(20):
                await leases.keep()
        with pytest.raises(LeaseLostError) as sent:
            leases.check()
        async with database.write() as connection:
            with pytest.raises(LeaseLostError) as written:
                await leases.confirm(connection, ["one"])

    assert str(kept.value) == str(sent.value) == str(written.value)


HOLD = """
import asyncio, sys
from collector.store.engine import Database
from collector.store.leases import Leases
async def main():
    async with Database(sys.argv[1]) as database:
        await Leases(database, {"one": "ak:1"}).take_all()
        print("held", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("reaped", [True, False])
async def test_a_dead_holder_is_replaced_at_once(database: Database, reaped: bool) -> None:
    """Killed on this machine, its parent aware of it or not: the successor waits a second only."""
    url = database.url.render_as_string(hide_password=False)
    words = [sys.executable, "-c", HOLD, url]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:  # noqa: ASYNC220
        assert holder.stdout is not None
        await asyncio.to_thread(holder.stdout.readline)
        ours = Leases(database, {"one": "ak:1"})
        with pytest.raises(HeldError, match=f"pid {holder.pid}"):
            await ours.take_all()
        holder.kill()
        # Wait until it is dead, without reaping it.
        await asyncio.to_thread(os.waitid, os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        if reaped:
            holder.wait()
        assert await ours.take_all() == GAP_S
        assert ours.token("one") == 2


async def test_a_stopped_holder_is_not_dead(database: Database) -> None:
    """SIGSTOP keeps its lease until it expires: it may wake up and send."""
    url = database.url.render_as_string(hide_password=False)
    words = [sys.executable, "-c", HOLD, url]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:  # noqa: ASYNC220
        assert holder.stdout is not None
        await asyncio.to_thread(holder.stdout.readline)
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(HeldError):
            await Leases(database, {"one": "ak:1"}).take_all()
        holder.kill()


_IDLE = {
    "postgresql": "SET LOCAL idle_in_transaction_session_timeout = '300ms'",
    "mysql": "SET SESSION idle_transaction_timeout = 1",
}
_LANE = insert(lanes).values({name: bindparam(name) for name in ("account", "region")})


@pytest.mark.parametrize("kind", _IDLE)
async def test_a_server_ends_the_transaction_of_a_stopped_writer(
    new_database: Callable[..., str], kind: str
) -> None:
    """Wherever it stopped, between many rows too, its locks do not keep a successor waiting."""
    async with Database(new_database(kind)) as database:
        prepared = database.prepare(_LANE, ["account", "region"])

        async def stop_inside() -> None:
            async with database.write() as connection:
                await connection.execute(text(_IDLE[kind]))
                await prepared.run(connection, [("a", "r"), ("b", "r")])
                await asyncio.sleep(1.5)
                await connection.execute(select(lanes))

        with pytest.raises(UnavailableError):
            await stop_inside()


@pytest.mark.parametrize(
    "values",
    [{"boot_id": "another boot"}, {"boot_id": ""}, {"pid_started": 1}, {"pid": 2**22 + 7}],
)
async def test_whose_death_can_be_told(database: Database, values: dict[str, Any]) -> None:
    """Only a process of this very boot and namespace; its pid alone is not enough."""
    await Leases(database, {"one": "ak:1"}).take_all()
    await change(database, **values)
    taken = await Leases(database, {"one": "ak:1"}).take("one")
    if "boot_id" in values:
        assert isinstance(taken, Holder)
    else:
        assert taken == GAP_S
