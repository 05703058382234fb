"""The language of faults, and what each fault looks like to an HTTP client."""

import asyncio
import errno
import json
import re
import time
from email.utils import parsedate_to_datetime
from random import Random

import aiohttp
import pytest

from collector.errors import UsageError
from collector.simulator.faults import BODIES, ERRORS, FAULTS, Faults
from tests.support.simulator import Simulator, SimulatorOptions, running

REGION = "cn-north-1"


def test_a_specification_is_read_whole() -> None:
    """Shares, regions, shares of an epoch and settings, with spaces allowed."""
    faults = Faults.parse(
        " 500=0.25, reset=0.5,region:cn-east-1=down,region:cn-east-2=hang,delete=0.01,change=.02,"
        "epoch=3,retry_after=2,slow_s=0.5,clock_skew=-60"
    )

    assert faults == Faults(
        (("500", 0.25), ("reset", 0.5)),
        {"cn-east-1": "reset", "cn-east-2": "hang"},
        delete=0.01,
        change=0.02,
        epoch=3,
        retry_after=2,
        slow_s=0.5,
        clock_skew=-60,
    )
    assert Faults.parse("") == Faults()


@pytest.mark.parametrize(
    "spec",
    ["oops=1", "500", "500=x", "500=1.5", "500=-1", "500=nan", "500=.6,reset=.6", "epoch=-1",
     "delete=2", "region:cn-east-1=oops", "=1", "clock_skew=inf", "retry_after=1e999"],
)  # fmt: skip
def test_a_wrong_specification_is_one_clear_line(spec: str) -> None:
    """The line begins with the option and repeats what was found."""
    with pytest.raises(UsageError, match=r"\Afaults: [^\n]+\Z"):
        Faults.parse(spec)


def test_faults_come_by_their_shares_and_repeat_with_the_seed() -> None:
    """Over many draws each fault has its share; a region's fault is every request's."""
    faults = Faults.parse("500=0.1,reset=0.3,region:cn-east-1=html")
    draws = [faults.draw(random, REGION) for random in [Random(1)] for _ in range(10_000)]

    assert 900 < draws.count("500") < 1100
    assert 2800 < draws.count("reset") < 3200
    assert draws == [faults.draw(random, REGION) for random in [Random(1)] for _ in range(10_000)]
    assert faults.draw(Random(1), "cn-east-1") == "html"


async def ask(fault: str, more: str = "", **options: object) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of one describeImage under this fault."""
    chosen = SimulatorOptions(faults=f"{fault}=1{more}", verify=False, **options)
    async with running(chosen) as simulator, aiohttp.ClientSession() as session:
        image_id = next(simulator.ids(REGION))
        url = f"{simulator.url}/v1/regions/{REGION}/images/{image_id}"
        async with session.get(url, allow_redirects=False) as response:
            answer = response.status, await response.read(), dict(response.headers)
        assert simulator.injected == {fault: 1}
        return answer


@pytest.mark.parametrize("fault", ERRORS)
async def test_error_faults_are_envelopes(fault: str) -> None:
    """HTTP status and envelope agree."""
    status, body, headers = await ask(fault)
    answer = json.loads(body)

    assert status == answer["error"]["code"] == ERRORS[fault][0]
    assert answer["error"]["status"] == ERRORS[fault][1]
    assert answer["requestId"] == headers["x-jdcloud-request-id"]


async def test_retry_after_and_the_clock_are_settings() -> None:
    """429 and 503 name Retry-After when asked to; the Date header follows the skewed clock."""
    assert "Retry-After" not in (await ask("429"))[2]
    assert (await ask("429", ",retry_after=2"))[2]["Retry-After"] == "2"
    async with (
        running(SimulatorOptions(faults="clock_skew=3600")) as simulator,
        aiohttp.ClientSession() as session,
        session.get(simulator.url) as response,
    ):
        sent = parsedate_to_datetime(response.headers["Date"]).timestamp()
    assert 3500 < sent - time.time() < 3700


EXPECTED = {
    "html": rb"<html>.*",
    "empty": rb"",
    "malformed": rb"\{.*\}",
    "deep": rb'\{"result":\[{100000}\]{100000}\}',
    "huge": rb" {67108864}\{.*\}\}\}",
    "no_image": rb'.*"result":\{\}\}',
    "null_image": rb'.*"image":null\}\}',
    "wrong_id": rb'.*"imageId":"[^"]+z".*',
    "duplicate_keys": rb'.*"name":"the first of two","name":.*',
    "nan": rb'.*"sizeMB":NaN,.*',
    "big_number": rb'.*"sizeMB":9{30},.*',
    "string_number": rb'.*"sizeMB":"\d+",.*',
    "surrogate": rb'.*"name":"\\ud800.*',
    "nul": rb'.*"name":"\\u0000.*',
    "many_disks": rb'.*"dataDisks":\[.*',
}


@pytest.mark.parametrize("fault", BODIES)
async def test_body_faults_are_another_body_under_200(fault: str) -> None:
    """Each is what its name says, and status 200."""
    status, body, _ = await ask(fault)

    assert status == 200
    assert re.fullmatch(EXPECTED[fault], body, re.DOTALL)
    if fault == "malformed":
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(body)
    if fault == "many_disks":
        assert len(json.loads(body)["result"]["image"]["dataDisks"]) == 10_000


@pytest.mark.parametrize("fault", ["reset", "disconnect", "truncate"])
async def test_broken_connections_are_errors_of_the_client(fault: str) -> None:
    """No whole answer arrives."""
    with pytest.raises(aiohttp.ClientError) as caught:
        await ask(fault)

    assert isinstance(caught.value, aiohttp.ClientPayloadError) is (fault == "truncate")


async def test_a_reset_is_a_reset_and_a_disconnect_is_not() -> None:
    """Only `reset` sends RST."""
    with pytest.raises(aiohttp.ClientOSError) as caught:
        await ask("reset")
    assert caught.value.errno == errno.ECONNRESET
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await ask("disconnect")


async def test_the_other_faults_of_the_wire() -> None:
    """A proxy's 502, a nameless error, a redirect, a bomb, and a late answer."""
    status, body, headers = await ask("502")
    assert (status, headers["Content-Type"].split(";")[0]) == (502, "text/html")
    status, body, _ = await ask("no_request_id")
    assert (status, json.loads(body).keys()) == (500, {"error"})
    status, _, headers = await ask("redirect")
    assert (status, headers["Location"].split(":")[1]) == (302, "//localhost")
    _, body, headers = await ask("gzip_bomb")
    assert (headers["Content-Encoding"], len(body)) == ("gzip", 64 * 2**20 + 2)
    assert int(headers["Content-Length"]) < 100_000
    status, body, _ = await ask("slow", ",slow_s=0.01")
    assert "result" in json.loads(body)


async def connect(simulator: Simulator) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which one describeImage was sent."""
    host, _, port = simulator.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = f"/v1/regions/{REGION}/images/{next(simulator.ids(REGION))}"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return reader, writer


@pytest.mark.parametrize(("fault", "missing"), [("close", 0), ("content_length", 10)])
async def test_faults_that_only_the_bytes_show(fault: str, missing: int) -> None:
    """A kept-alive connection that closes all the same, and a header that promises too little."""
    async with running(SimulatorOptions(faults=f"{fault}=1", verify=False)) as simulator:
        reader, writer = await connect(simulator)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    assert json.loads(body)["result"]["image"]
    assert f"Content-Length: {len(body) - missing}".encode() in head
    assert b"close" not in head.lower()


@pytest.mark.parametrize("fault", ["hang", "slow_loris"])
@pytest.mark.parametrize("leaves", ["client", "server"])
async def test_a_handler_that_hangs_ends_with_its_client_and_with_the_server(
    fault: str, leaves: str
) -> None:
    """Whoever goes first, no handler is left behind and no whole answer was sent."""
    async with running(SimulatorOptions(faults=f"{fault}=1", verify=False)) as simulator:
        others = asyncio.all_tasks()
        reader, writer = await connect(simulator)
        async with asyncio.timeout(5):
            while not simulator.injected:  # noqa: ASYNC110 - a Counter, not an event
                await asyncio.sleep(0)
        handlers = asyncio.all_tasks() - others
        assert handlers
        if leaves == "client":
            writer.close()
            await asyncio.wait(handlers, timeout=5)
            assert all(task.done() for task in handlers)

    assert all(task.done() for task in handlers)
    assert not (await reader.read()).endswith(b"}}}")
    writer.close()
    await writer.wait_closed()


def test_every_fault_is_tested_here() -> None:
    """A new fault needs a test."""
    other = {"502", "no_request_id", "reset", "disconnect", "close", "truncate", "content_length",
             "hang", "slow", "slow_loris", "gzip_bomb", "redirect"}  # fmt: skip

    assert set(FAULTS) == {*ERRORS, *EXPECTED, *other}
