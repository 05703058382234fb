"""Stands in for client and writer in virtual time: an endpoint that remembers what it was asked."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from collector.gate import Dispatcher
from collector.jdcloud.protocol import Call, Reply, classify
from collector.lanes import Account, Lane, OnReply
from collector.models import Item, Result
from collector.settings import Api
from collector.store.writes import Tally

__all__ = ["Asked", "Endpoint", "Results", "error", "found", "items", "pages", "serving"]

Answer = Reply | tuple[int, Mapping[str, str], bytes]
Script = Callable[[Call, int], Answer | None]
"""Answers a call for the n-th time (from 1); None: as usual."""

REGION = "cn-north-1"


class Asked(NamedTuple):
    """One request, and when it left (seconds of the loop's clock)."""

    at: float
    call: Call
    account: str
    fresh: bool

    @property
    def ids(self) -> list[str]:
        """The images that it named."""
        if self.call.image_id is not None:
            return [self.call.image_id]
        return [value for name, value in self.call.query if name.startswith("ids.")]


def error(status: int, name: str, message: str = "", **headers: str) -> Answer:
    """An error in the API's envelope."""
    envelope = {"requestId": "r", "error": {"code": status, "status": name, "message": message}}
    return (
        status,
        {n.replace("_", "-"): v for n, v in headers.items()},
        json.dumps(envelope).encode(),
    )


def found(result: Mapping[str, Any]) -> Answer:
    """A good answer."""
    return 200, {}, json.dumps({"requestId": "r", "result": result}).encode()


class Endpoint:
    """Answers from `images`, or as `script` says, after `latency_s`."""

    def __init__(
        self,
        images: Sequence[Mapping[str, Any]] = (),
        script: Script | None = None,
        *,
        latency_s: float = 0.05,
    ) -> None:
        self.images = {image["imageId"]: image for image in images}
        self.members: dict[str, list[str]] = {}
        self.script = script
        self.latency_s = latency_s
        self.connect_s = 0.0
        self.asked: list[Asked] = []
        self.in_flight = self.most_in_flight = 0
        self._times: dict[Call, int] = {}

    async def send(
        self, call: Call, account: str, on_departure: Callable[[], None], *, fresh: bool
    ) -> Reply:
        if self.connect_s:
            await asyncio.sleep(self.connect_s)
        on_departure()
        self.asked.append(Asked(time.monotonic(), call, account, fresh))
        self._times[call] = self._times.get(call, 0) + 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency_s)
        finally:
            self.in_flight -= 1
        answer = self.script(call, self._times[call]) if self.script else None
        answer = answer or self._usual(call)
        if isinstance(answer, Reply):
            return answer
        status, headers, body = answer
        return classify(call, status, headers, body, now=datetime.now(UTC))

    def calls(self, name: str) -> list[Asked]:
        """What was asked by an operation's name."""
        return [asked for asked in self.asked if asked.call.name == name]

    def _usual(self, call: Call) -> Answer:
        if call.name == "describeImageMembers":
            return found({"pins": self.members.get(str(call.image_id), [])})
        if call.name == "describeImages":
            ids = [value for name, value in call.query if name.startswith("ids.")]
            images = [self.images[one] for one in ids if one in self.images]
            return found({"images": images, "totalCount": len(images)})
        if call.image_id not in self.images:
            return error(404, "NOT_FOUND", f"Image '{call.image_id}' not found")
        return found({"image": self.images[str(call.image_id)]})


class Results:
    """Takes results as the writer does, and keeps them."""

    def __init__(self) -> None:
        self.all: list[Result] = []
        self.counted = Tally()

    def tally(self, run_id: int) -> Tally:
        return self.counted

    async def room(self) -> None:
        """There always is."""

    async def put(self, result: Result) -> None:
        self.all.append(result)

    def by_id(self) -> dict[str, Result]:
        """The results by image id, of which none came twice."""
        found = {result.item.image_id: result for result in self.all}
        assert len(found) == len(self.all)
        return found


def items(*ids: str) -> list[Item]:
    """Items of the run 1 and the lane 1."""
    return [Item(1, 1, number, image_id) for number, image_id in enumerate(ids, 1)]


async def pages(all_items: Sequence[Item], size: int = 500) -> AsyncIterator[Sequence[Item]]:
    """Items as the plan hands them on."""
    for start in range(0, len(all_items), size):
        yield all_items[start : start + size]


@asynccontextmanager
async def serving(
    endpoint: Endpoint,
    name: str = "default",
    *,
    rate: float = 1000.0,
    account_rate: float = 0.0,
    concurrency: int = 16,
    max_attempts: int = 5,
    adaptive: bool = False,
    members: bool = False,
    stop: asyncio.Event | None = None,
    on_reply: OnReply | None = None,
) -> AsyncIterator[tuple[Account, Lane]]:
    """An account at work with one lane, its dispatcher running."""
    dispatcher = Dispatcher(account_rate)
    api = Api(
        concurrency=concurrency, max_attempts=max_attempts, adaptive=adaptive, members=members
    )
    account = Account(
        name,
        client=endpoint,
        signer=name,
        dispatcher=dispatcher,
        rate=rate,
        api=api,
        stop=stop or asyncio.Event(),
        on_reply=on_reply,
    )
    running = asyncio.ensure_future(dispatcher.run())
    try:
        yield account, account.lane(REGION)
    finally:
        running.cancel()
        await asyncio.wait((running,))
