"""The official SDK against the simulator: its own client, in a thread, unaware of it."""

import asyncio
from typing import Any

from jdcloud_sdk.core.config import Config
from jdcloud_sdk.core.const import SCHEME_HTTP
from jdcloud_sdk.core.credential import Credential
from jdcloud_sdk.core.logger import Logger
from jdcloud_sdk.services.vm.apis.DescribeImageMembersRequest import (
    DescribeImageMembersParameters,
    DescribeImageMembersRequest,
)
from jdcloud_sdk.services.vm.apis.DescribeImageRequest import (
    DescribeImageParameters,
    DescribeImageRequest,
)
from jdcloud_sdk.services.vm.apis.DescribeImagesRequest import (
    DescribeImagesParameters,
    DescribeImagesRequest,
)
from jdcloud_sdk.services.vm.client.VmClient import VmClient

from tests.support.simulator import Simulator, SimulatorOptions, running

REGION = "cn-south-1"


async def send(simulator: Simulator, request: Any, *, secret: str = "simulator") -> Any:
    def call() -> Any:
        config = Config(simulator.url.removeprefix("http://"), SCHEME_HTTP)
        return VmClient(Credential("simulator", secret), config, Logger(0)).send(request)

    return await asyncio.to_thread(call)


def list_images(**parameters: object) -> DescribeImagesRequest:
    wanted = DescribeImagesParameters(REGION)
    vars(wanted).update(parameters)
    return DescribeImagesRequest(wanted)


def image(image_id: str, header: dict[str, str] | None = None) -> DescribeImageRequest:
    return DescribeImageRequest(DescribeImageParameters(REGION, image_id), header)


async def test_the_sdk_reads_images() -> None:
    """describeImage, describeImages by source, name and ids, and describeImageMembers."""
    async with running(SimulatorOptions()) as simulator:
        truth = {key: simulator.image(REGION, key) for key in simulator.ids(REGION)}
        first = next(key for key, value in truth.items() if value["imageSource"] == "private")

        answer = await send(simulator, image(first))
        assert (answer.error, answer.result) == (None, {"image": truth[first]})
        answer = await send(simulator, list_images(imageSource="private", pageSize=100))
        private = {k for k, value in truth.items() if value["imageSource"] == "private"}
        assert {found["imageId"] for found in answer.result["images"]} == private
        request = list_images(imageSource="private", imageName="订单服务", pageSize=100)
        answer = await send(simulator, request)
        named = {k for k in private if "订单服务" in truth[k]["name"]}
        assert {found["imageId"] for found in answer.result["images"]} == named != set()
        answer = await send(simulator, list_images(ids=list(truth), pageSize=100, offline=False))
        assert answer.error.code == 400
        some = list(truth)[:100]
        answer = await send(simulator, list_images(ids=some, pageSize=100))
        assert [found["imageId"] for found in answer.result["images"]] == some

        simulator.share(REGION, first, "partner")
        parameters = DescribeImageMembersParameters(REGION, first)
        answer = await send(simulator, DescribeImageMembersRequest(parameters))
        assert answer.result["pins"] == ["partner"]


async def test_the_sdk_sees_errors() -> None:
    """A missing image, a wrong secret and a listing without imageSource, by their codes."""
    async with running(SimulatorOptions()) as simulator:
        answer = await send(simulator, image("img-0000000000"))
        assert (answer.error.code, answer.error.status) == (404, "NOT_FOUND")
        answer = await send(simulator, image("img-0000000000"), secret="wrong")
        assert answer.error.message == "sign result is not same [gw]"
        answer = await send(simulator, list_images())
        assert answer.error.status == "FAILED_PRECONDITION"


async def test_the_sdk_sends_a_security_token() -> None:
    """The SDK encodes the token in base64 and signs it; without it the required one is missed."""
    async with running(SimulatorOptions(security_token="tok")) as simulator:
        image_id = next(simulator.ids(REGION))
        assert (await send(simulator, image(image_id))).error.code == 401
        header = {"x-jdcloud-security-token": "tok"}
        assert (await send(simulator, image(image_id, header))).error is None
