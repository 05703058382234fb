"""The simulator's calls, its throttle, its records and its end, over loopback."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import UnavailableError, UsageError
from tests.support.simulator import Simulator, SimulatorOptions, running

REGION = "cn-east-2"
IMAGES = f"/v1/regions/{REGION}/images"
UNSIGNED = SimulatorOptions(verify=False)


class Client:
    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator, self.session = simulator, session

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
        url = self.simulator.url + path
        async with self.session.request(method, url, headers=headers) as response:
            return response.status, json.loads(await response.read())


@asynccontextmanager
async def simulated(options: SimulatorOptions = UNSIGNED) -> AsyncIterator[Client]:
    async with running(options) as simulator, aiohttp.ClientSession() as session:
        yield Client(simulator, session)


def error(answer: tuple[int, Any]) -> tuple[int, str, str]:
    status, body = answer
    assert body["requestId"]
    assert body["error"]["code"] == status
    return status, body["error"]["status"], body["error"]["message"]


async def test_describe_image_answers_as_documented() -> None:
    """The image under `result.image`; a request id in body and header, new each time."""
    async with simulated() as client:
        image_id = next(client.simulator.ids(REGION))
        status, first = await client.get(f"{IMAGES}/{image_id}")
        _, second = await client.get(f"{IMAGES}/{image_id}")

        assert status == 200
        assert first["result"] == {"image": client.simulator.image(REGION, image_id)}
        assert first["requestId"] != second["requestId"]


async def test_an_unknown_image_is_named_and_no_route_is_not_an_image() -> None:
    """The two kinds of 404 differ in their message, other methods have no route."""
    no_route = (404, "NOT_FOUND", "no route and no API found with those values")
    async with simulated() as client:
        image_id = next(client.simulator.ids(REGION))

        missing = error(await client.get(f"{IMAGES}/img-0000000000"))
        assert missing == (404, "NOT_FOUND", "Image 'img-0000000000' not found")
        elsewhere = error(await client.get(f"/v1/regions/cn-east-1/images/{image_id}"))
        assert elsewhere == (404, "NOT_FOUND", f"Image '{image_id}' not found")
        for path in ("/", "/v1/regions/mars/images", f"{IMAGES}/", f"{IMAGES}/a/b", "/v1/x"):
            assert error(await client.get(path)) == no_route
        assert error(await client.get(f"{IMAGES}/{image_id}", "POST")) == no_route
        assert client.simulator.requests == {"describeImage": 2, "other": 6}


@settings(max_examples=60)
@given(tail=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_any_path_and_query_is_answered_with_an_envelope(tail: str) -> None:
    """Nonsense is answered with JSON, never with a 500."""

    async def ask() -> None:
        async with running(UNSIGNED) as simulator:
            host, _, port = simulator.url.removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"GET {IMAGES}{tail} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            async with asyncio.timeout(5):
                answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))

    asyncio.run(ask())


async def test_listing_pages_through_every_image_once() -> None:
    """totalCount is the whole listing's; pages neither repeat nor omit; after the end, none."""
    async with simulated() as client:
        _, body = await client.get(f"{IMAGES}?imageSource=private")
        total, listed = body["result"]["totalCount"], []
        assert len(body["result"]["images"]) == 20
        for page in range(1, total // 10 + 3):
            path = f"{IMAGES}?imageSource=private&pageSize=10&pageNumber={page}"
            listed += (await client.get(path))[1]["result"]["images"]

        truth = [client.simulator.image(REGION, key) for key in client.simulator.ids(REGION)]
        assert listed == [image for image in truth if image["imageSource"] == "private"]
        assert total == len(listed)


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("", 400, "FAILED_PRECONDITION"),
        ("pageSize=10", 400, "FAILED_PRECONDITION"),
        ("imageSource=self", 400, "INVALID_ARGUMENT"),
        ("imageSource=private&pageSize=9", 400, "OUT_OF_RANGE"),
        ("imageSource=private&pageSize=101", 400, "OUT_OF_RANGE"),
        ("imageSource=private&pageNumber=0", 400, "OUT_OF_RANGE"),
        ("imageSource=private&pageSize=ten", 400, "INVALID_ARGUMENT"),
        ("&".join(f"ids.{n}=img-{n}" for n in range(1, 102)), 400, "OUT_OF_RANGE"),
    ],
)
async def test_wrong_listings_are_refused(query: str, status: int, word: str) -> None:
    """imageSource is required without ids; the page's size and the ids have limits."""
    async with simulated() as client:
        assert error(await client.get(f"{IMAGES}?{query}"))[:2] == (status, word)


async def test_offline_images_are_listed_for_who_asks() -> None:
    """Public images are either in service or not; `offline` chooses; with ids it has no meaning."""
    async with simulated() as client:
        listed = {}
        for flag in ("", "&offline=false", "&offline=True"):
            path = f"{IMAGES}?imageSource=public&pageSize=100{flag}"
            images = (await client.get(path))[1]["result"]["images"]
            listed[flag] = {image["imageId"]: image["offline"] for image in images}

        assert listed[""] == listed["&offline=false"]
        assert set(listed[""].values()) == {False}
        assert set(listed["&offline=True"].values()) == {True}
        gone = next(iter(listed["&offline=True"]))
        _, body = await client.get(f"{IMAGES}?ids.1={gone}&offline=false")
        assert body["result"]["totalCount"] == 1


async def test_listing_by_ids() -> None:
    """Unknown ids are omitted; pageSize cuts; filters still hold."""
    async with simulated() as client:
        ids = list(client.simulator.ids(REGION))[:30]
        query = "&".join(f"ids.{n}={i}" for n, i in enumerate([*ids, "img-nothing", ids[0]], 1))
        _, body = await client.get(f"{IMAGES}?{query}&pageSize=100")
        assert [image["imageId"] for image in body["result"]["images"]] == ids
        assert body["result"]["totalCount"] == 30
        _, body = await client.get(f"{IMAGES}?{query}")
        assert (len(body["result"]["images"]), body["result"]["totalCount"]) == (20, 30)
        _, body = await client.get(f"{IMAGES}?{query}&pageSize=100&platform=CentOS")
        assert {image["platform"] for image in body["result"]["images"]} == {"CentOS"}


async def test_members_are_shown_for_own_private_images_only() -> None:
    """Pins of a shared private image, none of an unshared one, 400 and 404 for others."""
    async with simulated() as client:
        images = [client.simulator.image(REGION, key) for key in client.simulator.ids(REGION)]
        own = next(image["imageId"] for image in images if image["imageSource"] == "private")
        other = next(image["imageId"] for image in images if image["imageSource"] == "public")
        client.simulator.share(REGION, own, "partner")

        _, body = await client.get(f"{IMAGES}/{own}/members")
        assert body["result"]["pins"] == ["partner"]
        client.simulator.share(REGION, own)
        _, body = await client.get(f"{IMAGES}/{own}/members")
        assert body["result"]["pins"] == []
        assert error(await client.get(f"{IMAGES}/{other}/members"))[0] == 400
        assert error(await client.get(f"{IMAGES}/img-0/members"))[0] == 404


async def test_unsigned_requests_are_refused_as_the_gateway_does() -> None:
    """401 ACCESS_ERROR, before anything else is told."""
    async with simulated(SimulatorOptions()) as client:
        refusal = error(await client.get(f"{IMAGES}/img-0"))
        assert refusal == (401, "ACCESS_ERROR", "lack of header authorization[gw]")


LANES = ["cn-east-1", "cn-east-2"] * 5


@pytest.mark.parametrize(
    ("limits", "passed"),
    [({"rate_limit": 3}, 6), ({"rate_limit": 0.5}, 2), ({}, 10)],
)
async def test_the_throttle(limits: dict[str, float], passed: int) -> None:
    """A lane's limit, in one instant; the excess gets 429 with Retry-After."""
    options = SimulatorOptions(verify=False, faults="retry_after=7", **limits)
    async with simulated(options) as client:
        client.simulator.clock = lambda: 100.0
        refused = 0
        for region in LANES:
            url = f"{client.simulator.url}/v1/regions/{region}/images/img-0"
            async with client.session.get(url) as response:
                if response.status == 429:
                    refused += 1
                    assert response.headers["Retry-After"] == "7"
                    answer = error((429, await response.json()))
                    message = "minute rate limit exceeded, role:ak"
                    assert answer == (429, "RATE_LIMIT", message)

    assert len(LANES) - refused == passed


async def test_the_windows_slide_and_refusals_do_not_count() -> None:
    """A place is free again one second after it was taken; a refusal takes none."""
    async with simulated(SimulatorOptions(verify=False, rate_limit=2)) as client:
        statuses = []
        for now in (10.0, 10.6, 10.9, 10.99, 11.0, 11.1, 11.59, 11.6):
            client.simulator.clock = lambda now=now: now
            statuses.append((await client.get(f"{IMAGES}/img-0"))[0])

    assert statuses == [404, 404, 429, 429, 404, 429, 429, 404]


async def test_arrivals_are_recorded() -> None:
    """Hits by image, batches included, and the busiest window of a region or of all."""
    async with simulated(SimulatorOptions(verify=False)) as client:
        await client.get(f"{IMAGES}/img-0")
        await client.get(f"{IMAGES}?ids.1=img-0&ids.2=img-1")
        await client.get("/v1/regions/cn-east-1/images/img-1")
        simulator = client.simulator

        assert simulator.hits == {
            (REGION, "img-0"): 2,
            (REGION, "img-1"): 1,
            ("cn-east-1", "img-1"): 1,
        }
        assert simulator.worst_window(seconds=60) == 3
        assert simulator.worst_window(region=REGION, seconds=60) == 2
        assert simulator.worst_window("nobody") == 0
        simulator._arrivals["?", REGION].clear()
        simulator._arrivals["?", REGION].extend([0.0, 0.5, 0.999, 1.0, 1.6, 9.0])
        assert simulator.worst_window(region=REGION) == 3
        _, counts = await client.get("/_simulator")
        assert counts["requests"] == {"describeImage": 2, "describeImages": 1}
        assert counts["worst_window"]["? cn-east-2"] == 3


async def test_an_epoch_begins_over_http() -> None:
    """`POST /_simulator/epoch` deletes and changes the shares that were asked for."""
    async with simulated(SimulatorOptions(verify=False, faults="delete=1")) as client:
        image_id = next(client.simulator.ids(REGION))
        assert (await client.get(f"{IMAGES}/{image_id}"))[0] == 200
        assert (await client.get("/_simulator/epoch", "POST"))[1]["epoch"] == 1
        assert (await client.get(f"{IMAGES}/{image_id}"))[0] == 404
        assert (await client.get("/_simulator/epoch"))[0] == 404
        assert client.simulator.epoch == 1


async def test_an_interceptor_may_answer_first() -> None:
    """What it returns is the answer; None lets the simulator go on."""

    async def intercept(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.json_response({}, status=418) if "img-1" in request.raw_path else None

    async with simulated() as client:
        client.simulator.intercept = intercept
        assert (await client.get(f"{IMAGES}/img-1"))[0] == 418
        assert (await client.get(f"{IMAGES}/img-2"))[0] == 404


async def test_a_region_can_be_down_alone() -> None:
    """Another region answers."""
    async with simulated(SimulatorOptions(verify=False, faults=f"region:{REGION}=down")) as client:
        assert (await client.get("/v1/regions/cn-east-1/images?imageSource=private"))[0] == 200
        with pytest.raises(aiohttp.ClientOSError):
            await client.get(f"{IMAGES}?imageSource=private")


async def test_latency() -> None:
    """Every answer takes at least that long."""
    async with simulated(SimulatorOptions(verify=False, latency=0.05)) as client:
        begun = time.monotonic()
        await client.get(f"{IMAGES}/img-0")
        assert time.monotonic() - begun >= 0.05


async def test_afterwards_nothing_listens() -> None:
    """The port is closed with the context."""
    async with aiohttp.ClientSession() as session:
        async with running(UNSIGNED) as simulator, session.get(simulator.url) as response:
            assert response.status == 404
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(simulator.url)


async def test_what_hinders_it_is_one_clear_line() -> None:
    """A taken port and a wrong fault."""
    async with running(UNSIGNED) as simulator:
        port = int(simulator.url.rpartition(":")[2])
        with pytest.raises(UnavailableError, match=rf"\Acannot listen on 127.0.0.1:{port}: \w+"):
            async with running(SimulatorOptions(port=port)):
                pass
    with pytest.raises(UsageError):
        async with running(SimulatorOptions(faults="oops=1")):
            pass


def test_credentials_of_the_environment() -> None:
    """The names that `collector` itself reads; without them, simulator."""
    options = SimulatorOptions.from_environment(
        {"JDCLOUD_ACCESS_KEY": "a", "JDCLOUD_SECRET_KEY": "s", "JDCLOUD_SECURITY_TOKEN": "t"},
        images=3,
    )
    assert options == SimulatorOptions(images=3, access_key="a", secret_key="s", security_token="t")
    assert SimulatorOptions.from_environment({}) == SimulatorOptions()
