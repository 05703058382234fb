"""What systemd and a probe are told of the service."""

import asyncio
import socket

import aiohttp
import pytest

from collector.errors import UnavailableError
from collector.health import ALIVE_S, Health, serve_http
from tests.support.virtual_time import run_virtual


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def heard(listener) -> list[str]:
    lines = []
    while True:
        try:
            lines.append(listener.recv(4096).decode())
        except BlockingIOError:
            return lines


def test_watchdog_only_while_the_work_moves(systemd):
    """An event loop that turns without any work moving stops answering the watchdog."""

    async def main() -> None:
        health = Health({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "30000000"})
        watching = asyncio.create_task(health.watch())
        await asyncio.sleep(ALIVE_S - 1)
        assert "WATCHDOG=1" in heard(systemd)
        await asyncio.sleep(ALIVE_S)
        heard(systemd)
        await asyncio.sleep(ALIVE_S)
        assert heard(systemd) == []
        health.beat()
        await asyncio.sleep(11)
        assert heard(systemd) == ["WATCHDOG=1"]
        watching.cancel()

    run_virtual(main())


def test_ready_is_said_once(systemd):
    """READY comes with the first success, STATUS with each change, on one line."""
    health = Health({"NOTIFY_SOCKET": systemd.getsockname()})
    health.down("no\ndatabase")
    health.up("serving a")
    health.up("serving a")
    health.down("lost")
    health.up("serving a")
    health.stopping()

    assert heard(systemd) == [
        "STATUS=no database",
        "READY=1",
        "STATUS=serving a",
        "STATUS=lost",
        "STATUS=serving a",
        "STOPPING=1",
        "STATUS=stopping: waiting for what is in flight",
    ]


def test_nobody_listens(tmp_path):
    """A socket that is gone is no reason to stop."""
    Health({"NOTIFY_SOCKET": str(tmp_path / "gone")}).up("serving")
    Health({}).up("serving")


def test_watchdog_of_another_process_is_not_ours():
    """WATCHDOG_PID that names somebody else: no watchdog."""

    async def main() -> None:
        async with asyncio.timeout(1):
            await Health({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}).watch()

    run_virtual(main())


async def test_http():
    """/healthz and /readyz say why they are not well; /metrics is Prometheus' text."""
    health = Health({})
    async with (
        serve_http(("127.0.0.1", 0), health, lambda: b"metric 1\n") as url,
        aiohttp.ClientSession(url) as client,
    ):

        async def get(path: str) -> tuple[int, str]:
            async with client.get(path) as response:
                return response.status, await response.text()

        assert await get("/healthz") == (200, "ok\n")
        assert await get("/readyz") == (503, "starting\n")
        health.up("serving default")
        assert await get("/readyz") == (200, "ok\n")
        health._beaten -= ALIVE_S
        assert (await get("/healthz"))[0] == 503
        assert await get("/metrics") == (200, "metric 1\n")
        assert (await get("/"))[0] == 404


async def test_taken_address_is_told():
    """An address that cannot be listened on is one line, naming its key."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UnavailableError, match=r"serve\.listen: cannot listen on"):
            async with serve_http(taken.getsockname(), Health({}), bytes):
                pass


async def test_a_name_without_an_address_is_told():
    """In the resolver's words, whose numbers are not the system's."""
    with pytest.raises(UnavailableError) as caught:
        async with serve_http(("none.invalid", 0), Health({}), bytes):
            pass
    assert "Unknown error" not in str(caught.value)


async def test_the_url_of_an_ipv6_address():
    """It can be opened as it is written."""
    async with serve_http(("::1", 0), Health({}), bytes) as url:
        assert url.startswith("http://[::1]:")


async def test_no_address():
    """Without an address nothing is served."""
    async with serve_http(None, Health({}), bytes) as url:
        assert url == ""
