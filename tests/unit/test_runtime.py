"""How a command runs until it ends or is told to stop."""

import asyncio
import resource
import signal

import pytest

from collector.cli import runtime


def test_a_second_signal_as_the_work_ends_interrupts_nothing() -> None:
    """The work's own result counts: its end is due already, and an interrupt would break it."""

    async def work(stop: runtime.Stop) -> int:
        stop.by(signal.SIGTERM)
        asyncio.get_running_loop().call_soon(stop.by, signal.SIGINT)
        return 128 + (stop.signal or 0)

    assert runtime.run(work) == 128 + signal.SIGTERM


def test_a_third_signal_interrupts_whatever_is_left() -> None:
    """What the end of the process waits for (a name that is being looked up) may take long."""

    async def work(stop: runtime.Stop) -> runtime.Stop:
        return stop

    stop = runtime.run(work)
    for _ in range(2):
        stop.by(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        stop.by(signal.SIGTERM)


def test_as_many_files_as_are_allowed() -> None:
    """Hundreds of accounts have thousands of requests in flight, each with a file."""
    files = resource.RLIMIT_NOFILE
    before, most = resource.getrlimit(files)
    resource.setrlimit(files, (min(before, 512), most))

    async def work(_: runtime.Stop) -> int:
        return resource.getrlimit(files)[0]

    try:
        assert runtime.run(work) == most
    finally:
        resource.setrlimit(files, (before, most))
