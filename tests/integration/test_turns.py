"""Hundreds of lanes and accounts at one database: what is urgent goes first, all get there."""

import asyncio

import pytest
from sqlalchemy import select

from collector.store.engine import Database
from collector.store.leases import Leases
from collector.store.schema import leases as table

CROWD = 60
NAMES = {"one": "ak:1"}


@pytest.fixture
async def database(database_url):
    async with Database(database_url) as opened:
        yield opened


async def test_readers_leave_a_connection_for_the_leases(database):
    """However many read, a lease is renewed and given back; and few connections are made."""
    leases, go_on = Leases(database, NAMES), asyncio.Event()
    await leases.take_all()

    async def read():
        async with database.read() as connection:
            await connection.execute(select(table.c.name))
            await go_on.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(CROWD):
            group.create_task(read())
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await leases._renew()
            await leases.release()
        assert database.engine.pool.checkedout() < 5
        go_on.set()


async def test_a_crowd_of_writers_lets_the_leases_pass(database):
    """A renewal waits for those who write already, not for those who wait."""
    leases, written = Leases(database, NAMES), 0
    writing, may_end = asyncio.Event(), asyncio.Semaphore(0)
    await leases.take_all()

    async def write():
        nonlocal written
        async with database.write() as connection:
            await connection.execute(select(table.c.name))
            writing.set()
            await may_end.acquire()
        written += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(CROWD):
            group.create_task(write())
        await writing.wait()
        renewing = group.create_task(leases._renew())
        while not renewing.done() and written < 10:
            may_end.release()  # SQLite has one writer at a time
            await asyncio.wait((renewing,), timeout=0.2)
        assert renewing.done()
        for _ in range(CROWD):
            may_end.release()

    assert written == CROWD
