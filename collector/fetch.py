"""What is asked for an item, and what the answers say: one image, a batch of them, its members.

Only describeImage can say that an image is absent: an id that a batch leaves out or that is refused
in one is asked for singly before anything is concluded.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from collector.jdcloud import protocol
from collector.jdcloud.protocol import MAX_PAGE_SIZE, UNAUTHORIZED, Call, Reply
from collector.lanes import AbandonedError, Account, Answer, Lane
from collector.models import Drift, Item, Members, Normalized, Outcome, Result
from collector.normalize import NotCanonical, members, normalize
from collector.store.writes import Writer

__all__ = ["Fetcher", "one_by_one", "split_batches"]

BATCH_CHARS: Final = 6_000
"""Characters of a batch's query; the gateway refuses addresses over 8 KiB."""

BREATH: Final = 10
"""Images of a batch that are read before other work of the event loop has its turn."""

_UNDECIDED: Final = frozenset(
    {Outcome.THROTTLED, Outcome.TIMEOUT, Outcome.NETWORK_ERROR, Outcome.SERVER_ERROR}
)


def one_by_one(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Each item by itself: what one describeImage call can carry."""
    return [(item,) for item in items]


def split_batches(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Cut items into what one describeImages call can carry."""
    batches: list[Sequence[Item]] = []
    start = length = 0
    for index, item in enumerate(items):
        size = len(item.image_id) + len("&ids.100=")
        if index - start == MAX_PAGE_SIZE or length + size > BATCH_CHARS:
            batches.append(items[start:index])
            start, length = index, 0
        length += size
    if start < len(items):
        batches.append(items[start:])
    return batches


class Fetcher:
    """Asks for the items of one account and hands the results to the writer."""

    def __init__(self, account: Account, writer: Writer) -> None:
        self._account, self._writer = account, writer
        self._zone = ZoneInfo(account.api.time_zone)

    async def single(self, lane: Lane, items: Sequence[Item], before: Answer | None = None) -> None:
        """Ask for the one item by describeImage.

        The caller took a slot, unless it is asked for because of the answer `before`.
        """
        item, call = items[0], protocol.describe_image(lane.key.region, items[0].image_id)
        answer = await self._ask(lane, call, item.run_id, before)
        found = protocol.image_of(call, answer.reply, item.image_id)
        if isinstance(found, Reply):
            await self._end(lane, item, answer._replace(reply=found))
        else:
            await self._present(lane, item, answer, found)

    async def batch(self, lane: Lane, items: Sequence[Item], before: Answer | None = None) -> None:
        """Ask for all by one describeImages; as for the slot, see `single`.

        What is refused is halved, so that one poisoned id costs O(log n) calls.
        """
        call = protocol.describe_images(lane.key.region, [item.image_id for item in items])
        answer = await self._ask(lane, call, items[0].run_id, before)
        reply = answer.reply
        if reply.outcome in _UNDECIDED or reply.http_status == UNAUTHORIZED:
            for item in items:
                await self._end(lane, item, answer)
            return
        images = _images_of(reply)
        if images is None and len(items) > 1:
            middle = len(items) // 2
            await self.batch(lane, items[:middle], answer)
            await self.batch(lane, items[middle:], answer)
            return
        missing = []
        for number, item in enumerate(items, 1):
            if not number % BREATH:
                await asyncio.sleep(0)
            image = (images or {}).get(item.image_id)
            if image is None:
                missing.append(item)
            else:
                await self._present(lane, item, answer, image)
        for item in missing:
            await self.single(lane, (item,), answer)

    async def _ask(self, lane: Lane, call: Call, run_id: int, before: Answer | None) -> Answer:
        if before is None:
            await self._writer.room()
        tally = self._writer.tally(run_id)
        answer = await self._account.request(lane, call, tally, has_slot=before is None)
        return answer.after(before)

    async def _present(self, lane: Lane, item: Item, answer: Answer, image: dict[str, Any]) -> None:
        try:
            content = normalize(image, time_zone=self._zone)
        except NotCanonical as error:
            reply = replace(
                answer.reply,
                outcome=Outcome.INVALID_RESPONSE,
                error_message=protocol.clean(f"{error}"),
            )
            await self._end(lane, item, answer._replace(reply=reply))
            return
        if answer.reply.duplicate_keys:
            twice = (Drift(path, "duplicate key") for path in answer.reply.duplicate_keys)
            content = replace(content, drift=(*content.drift, *twice))
        shared = None
        if self._account.api.members and content.columns.get("image_source") == "private":
            shared = await self._members(lane, item)
        await self._end(lane, item, answer, image=content, shared=shared)

    async def _members(self, lane: Lane, item: Item) -> Members:
        call = protocol.describe_image_members(lane.key.region, item.image_id)
        try:
            answer = await self._account.request(lane, call, self._writer.tally(item.run_id))
        except AbandonedError:
            if self._account.stop.is_set():  # a resumed run asks for the image again
                raise
            return Members(Outcome.NOT_ATTEMPTED)
        result = answer.reply.result
        if answer.reply.outcome is not Outcome.PRESENT or result is None:
            return Members(answer.reply.outcome)
        if not isinstance(result.get("pins"), list | None):  # it must not look like nobody
            return Members(Outcome.INVALID_RESPONSE)
        try:
            payload, fingerprint, pins = members(result)
        except NotCanonical:
            return Members(Outcome.INVALID_RESPONSE)
        return Members(Outcome.PRESENT, payload, fingerprint, pins)

    async def _end(
        self,
        lane: Lane,
        item: Item,
        answer: Answer,
        *,
        image: Normalized | None = None,
        shared: Members | None = None,
    ) -> None:
        reply = answer.reply
        lane.ended(reply.outcome)
        result = Result(
            item,
            reply.outcome,
            attempts=answer.attempts,
            duration_ms=round((answer.ended - answer.began) * 1000),
            observed_at=answer.arrived_at,
            http_status=reply.http_status,
            error_code=reply.error_code,
            error_message=reply.error_message,
            request_id=reply.request_id,
            image=image,
            members=shared,
        )
        await self._writer.put(result)


def _images_of(reply: Reply) -> dict[str, dict[str, Any]] | None:
    """The images of a batch by id; None when the answer cannot be relied on.

    An id that comes twice, or an answer with repeated keys, is better asked for singly.
    """
    if reply.outcome is not Outcome.PRESENT or reply.result is None:
        return None
    images = reply.result.get("images")
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        return None
    if reply.duplicate_keys:
        return {}
    named = [image for image in images if isinstance(image.get("imageId"), str)]
    times = Counter(image["imageId"] for image in named)
    return {image["imageId"]: image for image in named if times[image["imageId"]] == 1}
