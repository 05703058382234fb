"""Leases where /proc hides processes, and what a session leaves to the next of its process."""

import os
import subprocess
import sys

import pytest
from sqlalchemy import update

from collector.store.engine import Database
from collector.store.leases import GAP_S, Holder, Leases, _this_boot, holders
from collector.store.schema import leases as table

NAMES = {"default": "ak:0123"}
NOBODY = 2**22 + 1
"""A process id that the kernel does not give."""
BOOT = "from collector.store.leases import _this_boot; print(repr(_this_boot()))"


@pytest.fixture
async def database(database_url):
    async with Database(database_url) as opened:
        yield opened


async def held_by(database, pid):
    """Make the lease that of a process of this machine."""
    await Leases(database, NAMES).take_all()
    async with database.write() as connection:
        await connection.execute(update(table).values(pid=pid))


async def test_hidden_process_is_alive(database, monkeypatch):
    """Another user's process, which a hardened unit cannot see in /proc, is not taken for dead."""

    def refuse(pid, number):
        raise PermissionError(pid, number)

    await held_by(database, NOBODY)
    monkeypatch.setattr(os, "kill", refuse)

    assert isinstance(await Leases(database, NAMES).take("default"), Holder)


async def test_absent_process_is_dead(database):
    """A process that is neither in /proc nor to be signalled is no more."""
    await held_by(database, NOBODY)

    assert await Leases(database, NAMES).take("default") == GAP_S


async def test_own_remains_are_taken_at_once(database):
    """What a process could not give back it need not wait for; another one must."""
    left: dict[str, int] = {}
    first = Leases(database, NAMES, left)
    await first.take_all()
    left.update(default=first.token("default"))

    assert isinstance(await Leases(database, NAMES).take("default"), Holder)
    assert await Leases(database, NAMES, left).take("default") == GAP_S


async def test_release_leaves_nothing(database):
    """A lease that was given back is not remembered."""
    left: dict[str, int] = {}
    leases = Leases(database, NAMES, left)
    await leases.take_all()
    await leases.release()

    assert left == {}
    assert await holders(database) == []


def test_another_namespace_s_proc_tells_nothing():
    """Its processes bear other numbers: one of them may end while the holder lives."""
    words = ["unshare", "--user", "--map-root-user", "--pid", "--fork", sys.executable, "-c", BOOT]
    try:
        found = subprocess.run(words, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no namespace can be made here: {error}")

    assert found.stdout == "''\n"
    assert _this_boot() != ""
