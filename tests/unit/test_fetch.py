"""One image, a batch, members: what is asked and what the answers become, in virtual time."""

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.fetch import BATCH_CHARS, Fetcher, split_batches
from collector.jdcloud.protocol import MAX_PAGE_SIZE, Call, Reply, describe_images
from collector.jdcloud.signing import wire_query
from collector.models import Item, Outcome, Result
from tests.support.endpoint import REGION, Endpoint, Results, error, found, items, pages, serving
from tests.support.inventory import image
from tests.support.virtual_time import run_virtual

SILENT = Reply(Outcome.TIMEOUT, error_message="no answer", retryable=True)
IDS = [f"img-{number:04}" for number in range(MAX_PAGE_SIZE)]


def collect(
    endpoint: Endpoint,
    ids: Sequence[str],
    *,
    batch: bool = False,
    **options: Any,
) -> dict[str, Result]:
    """Ask for the ids as a run does; the results by id."""

    async def main() -> dict[str, Result]:
        results = Results()
        async with serving(endpoint, **options) as (account, lane):
            fetcher = Fetcher(account, results)
            process = fetcher.batch if batch else fetcher.single
            split = split_batches if batch else lambda page: [(item,) for item in page]
            await account.feed(lane, pages(items(*ids)), split, process)
            assert lane.counts.total() == len(results.all)
        assert results.counted["requests"] == len(endpoint.asked)
        return results.by_id()

    return run_virtual(main())


def outcomes(results: Mapping[str, Result]) -> dict[str, Outcome]:
    return {image_id: result.outcome for image_id, result in results.items()}


@given(st.lists(st.integers(1, 64), max_size=400))
def test_a_batch_fits_into_one_call(sizes: list[int]) -> None:
    """Batches are what was given, in order; none has over 100 ids or a query too long to send."""
    every = [Item(1, 1, n, "i" * size) for n, size in enumerate(sizes)]
    batches = split_batches(every)
    assert [item for batch in batches for item in batch] == every
    for batch in batches:
        assert 1 <= len(batch) <= 100
        query = describe_images(REGION, [item.image_id for item in batch]).query
        assert len(wire_query(query)) <= BATCH_CHARS + len("&pageSize=100")


@pytest.mark.parametrize("batch", [False, True])
def test_what_is_there_is_present(batch: bool) -> None:
    """Each image once, with its content, its answer's id, and one attempt."""
    results = collect(Endpoint([image(one) for one in IDS]), IDS, batch=batch)
    assert set(outcomes(results).values()) == {Outcome.PRESENT}
    for image_id, result in results.items():
        assert result.image is not None
        assert json.loads(result.image.payload)["imageId"] == image_id
        assert (result.attempts, result.request_id, result.http_status) == (1, "r", 200)


def test_an_id_that_a_batch_leaves_out_is_asked_for_singly() -> None:
    """Only describeImage's own 404 says that it is absent; its attempts count both requests."""
    there = [image(one) for one in IDS if one not in ("img-0003", "img-0050")]
    endpoint = Endpoint(there)
    results = collect(endpoint, IDS, batch=True)
    missing = {one for one, outcome in outcomes(results).items() if outcome is Outcome.NOT_FOUND}
    assert missing == {"img-0003", "img-0050"}
    assert [asked.call.image_id for asked in endpoint.calls("describeImage")] == sorted(missing)
    assert len(endpoint.calls("describeImages")) == 1
    assert results["img-0003"].attempts == 2
    assert set(outcomes(results).values()) == {Outcome.NOT_FOUND, Outcome.PRESENT}


def test_an_empty_list_is_no_absence() -> None:
    """A listing that answers nothing at all empties nothing."""

    def script(asked: Call, times: int) -> Any:
        empty = asked.name == "describeImages"
        return found({"images": [], "totalCount": 0}) if empty else None

    results = collect(Endpoint([image(one) for one in IDS], script), IDS, batch=True)
    assert set(outcomes(results).values()) == {Outcome.PRESENT}


POISONS = {
    "refused": error(400, "INVALID_ARGUMENT"),
    "unknown": error(404, "NOT_FOUND", "Image 'img-0041' not found"),
    "forbidden": error(403, "HTTP_FORBIDDEN"),
    "over size": Reply(Outcome.INVALID_RESPONSE, 200, error_message="over 4194304 bytes"),
    "no list": found({"images": None}),
    "unreadable": (200, {}, b'{"requestId": "r", "result": {"images": [{"name": "\xff"}]}}'),
}


@pytest.mark.parametrize("poison", POISONS)
def test_one_poisoned_id_costs_a_logarithm(poison: str) -> None:
    """A call that is refused for one id is halved; every other image is read from a batch."""

    def script(asked: Call, times: int) -> Any:
        named = [value for _, value in asked.query] + [asked.image_id]
        return POISONS[poison] if "img-0041" in named else None

    endpoint = Endpoint([image(one) for one in IDS], script)
    results = collect(endpoint, IDS, batch=True, max_attempts=2)
    assert {one for one, result in results.items() if not result.image} == {"img-0041"}
    (expected,) = {"unknown": [Outcome.NOT_FOUND], "forbidden": [Outcome.DENIED]}.get(
        poison, [Outcome.INVALID_RESPONSE]
    )
    assert results["img-0041"].outcome is expected
    depth = math.ceil(math.log2(MAX_PAGE_SIZE))
    assert len({asked.call for asked in endpoint.calls("describeImages")}) <= 2 * depth + 1
    assert {asked.call.image_id for asked in endpoint.calls("describeImage")} == {"img-0041"}
    asked = [asked for asked in endpoint.asked if "img-0041" in asked.ids]
    assert results["img-0041"].attempts == len(asked)
    for one in IDS:
        carried = sum(one in asked.ids for asked in endpoint.asked)
        assert results[one].attempts == carried


@pytest.mark.parametrize(
    ("answer", "outcome", "attempts"),
    [
        (error(500, "INTERNAL"), Outcome.SERVER_ERROR, 3),
        (error(429, "RATE_LIMIT"), Outcome.THROTTLED, 3),
        (error(429, "QUOTA_EXCEEDED"), Outcome.THROTTLED, 1),
        (SILENT, Outcome.TIMEOUT, 3),
    ],
)
def test_trouble_of_the_endpoint_marks_the_whole_batch(
    answer: Any, outcome: Outcome, attempts: int
) -> None:
    """It says nothing about any id, so nothing is halved; each id carries the attempts."""
    endpoint = Endpoint(script=lambda *_: answer)
    results = collect(endpoint, IDS, batch=True, max_attempts=3)
    assert len(endpoint.asked) == attempts
    assert {(r.outcome, r.attempts) for r in results.values()} == {(outcome, attempts)}


def test_refused_credentials_end_the_batch_and_its_account() -> None:
    """A 401 is told to every id of the call and nothing is asked again."""
    endpoint = Endpoint(script=lambda *_: error(401, "ACCESS_ERROR"))
    results = collect(endpoint, IDS, batch=True)
    assert len(endpoint.asked) == 1
    assert set(outcomes(results).values()) == {Outcome.DENIED}


def test_an_id_listed_twice_is_asked_for_singly() -> None:
    """Which of the two is right nobody knows; describeImage does."""
    twice = [image("img-0001"), image("img-0001", name="another")]

    def script(asked: Call, times: int) -> Any:
        if asked.name == "describeImage":
            return None
        return found({"images": [*twice, image("img-0002")], "totalCount": 3})

    endpoint = Endpoint([image("img-0001", name="the right one")], script)
    results = collect(endpoint, ["img-0001", "img-0002"], batch=True)
    assert [asked.call.image_id for asked in endpoint.calls("describeImage")] == ["img-0001"]
    content = results["img-0001"].image
    assert content is not None
    assert content.columns["name"] == "the right one"


def test_repeated_keys_are_asked_for_singly_and_noted() -> None:
    """A batch with a key twice in an object is not believed; the single answer notes the drift."""
    body = json.dumps({"result": {"images": [image(one) for one in IDS[:2]], "totalCount": 2}})
    double = 200, {}, body.replace('"name":', '"name": "x", "name":', 1).encode()
    one = json.dumps({"result": {"image": image(IDS[0])}})
    odd = 200, {}, one.replace('"name":', '"name": "x", "name":', 1).encode()

    def script(asked: Call, times: int) -> Any:
        if asked.name == "describeImages":
            return double
        return odd if asked.image_id == IDS[0] else None

    results = collect(Endpoint([image(one) for one in IDS[:2]], script), IDS[:2], batch=True)
    assert set(outcomes(results).values()) == {Outcome.PRESENT}
    drift = results[IDS[0]].image
    assert drift is not None
    assert ("image.name", "duplicate key") in {(d.path, d.json_type) for d in drift.drift}


def test_images_that_nobody_asked_for_are_left_aside() -> None:
    """A batch that answers another image gives no result for it, and the one asked is sought."""

    def script(asked: Call, times: int) -> Any:
        other = asked.name == "describeImages"
        return found({"images": [image("img-9999")], "totalCount": 1}) if other else None

    results = collect(Endpoint(script=script), ["img-0001"], batch=True)
    assert outcomes(results) == {"img-0001": Outcome.NOT_FOUND}


@pytest.mark.parametrize("batch", [False, True])
def test_another_images_answer_is_never_stored(batch: bool) -> None:
    """describeImage that answers another id is an invalid response, asked once."""

    def script(asked: Call, times: int) -> Any:
        single = asked.name == "describeImage"
        return found({"image": image("img-9999")}) if single else None

    results = collect(Endpoint(script=script), ["img-0001"], batch=batch)
    assert results["img-0001"].outcome is Outcome.INVALID_RESPONSE
    assert results["img-0001"].image is None
    assert "img-9999" in str(results["img-0001"].error_message)


@pytest.mark.parametrize("batch", [False, True])
def test_a_payload_that_has_no_canonical_form_is_invalid(batch: bool) -> None:
    """Only this image suffers."""
    number = b'{"result": {"image": {"imageId": "img-0001", "sizeMB": 1e400}}}'
    listed = number.replace(b'"image":', b'"images": [').replace(b"}}}", b"}]}}")

    def script(asked: Call, times: int) -> Any:
        if "img-0001" not in ([asked.image_id] + [value for _, value in asked.query]):
            return None
        return 200, {}, number if asked.name == "describeImage" else listed

    endpoint = Endpoint([image(one) for one in IDS[:4]], script)
    results = collect(endpoint, IDS[:4], batch=batch, max_attempts=2)
    assert outcomes(results) == {
        one: Outcome.INVALID_RESPONSE if one == "img-0001" else Outcome.PRESENT for one in IDS[:4]
    }


@pytest.mark.parametrize("batch", [False, True])
def test_members_are_asked_for_private_images_alone(batch: bool) -> None:
    """A second step of the same item; for a public image there is none."""
    endpoint = Endpoint([image("img-0001"), image("img-0002", imageSource="public")])
    endpoint.members["img-0001"] = ["partner"]
    results = collect(endpoint, ["img-0001", "img-0002", "img-0003"], batch=batch, members=True)
    members = results["img-0001"].members
    assert members is not None
    assert (members.outcome, members.pins) == (Outcome.PRESENT, (("partner", None),))
    assert results["img-0002"].members is None
    assert results["img-0003"].members is None
    assert len(endpoint.calls("describeImageMembers")) == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (error(403, "HTTP_FORBIDDEN"), Outcome.DENIED),
        (error(404, "NOT_FOUND", "Image 'img-0001' not found"), Outcome.INVALID_RESPONSE),
        (error(500, "INTERNAL"), Outcome.SERVER_ERROR),
        (found({"pins": "partner"}), Outcome.INVALID_RESPONSE),
    ],
)
def test_members_that_cannot_be_read_leave_the_image_present(answer: Any, outcome: Outcome) -> None:
    """The image was read; what became of its members is told beside it."""

    def script(asked: Call, times: int) -> Any:
        return answer if asked.name == "describeImageMembers" else None

    results = collect(Endpoint([image("img-0001")], script), ["img-0001"], members=True)
    result = results["img-0001"]
    assert result.outcome is Outcome.PRESENT
    assert result.members is not None
    assert (result.members.outcome, result.members.payload) == (outcome, None)


def test_a_batch_is_read_in_small_steps() -> None:
    """While its hundred images are read, the event loop goes on with everything else."""

    async def main() -> None:
        results, most, before = Results(), 0, 0

        async def watch() -> None:
            nonlocal most, before
            while True:
                most, before = max(most, len(results.all) - before), len(results.all)
                await asyncio.sleep(0)

        endpoint = Endpoint([image(one) for one in IDS], latency_s=0.0)
        async with serving(endpoint) as (account, lane):
            fetcher = Fetcher(account, results)
            watching = asyncio.ensure_future(watch())
            await account.feed(lane, pages(items(*IDS)), split_batches, fetcher.batch)
            watching.cancel()
        assert len(results.all) == 100
        assert most <= 20

    run_virtual(main())


def test_an_answer_is_dated_by_its_arrival() -> None:
    """However long the members of a batch's other images take, none is dated after its answer."""
    ids = IDS[:5]

    async def main() -> None:
        asked: list[datetime] = []

        class Late(Endpoint):
            async def send(self, call: Call, *rest: Any, **how: Any) -> Reply:
                if call.name == "describeImageMembers":
                    asked.append(datetime.now(UTC))
                return await super().send(call, *rest, **how)

        results = Results()
        async with serving(Late([image(one) for one in ids]), members=True) as (account, lane):
            fetcher = Fetcher(account, results)
            await account.feed(lane, pages(items(*ids)), split_batches, fetcher.batch)
        assert len(results.all) == len(asked) == 5
        assert all(result.observed_at <= asked[0] for result in results.all)

    asyncio.run(main())


def test_a_duration_counts_from_the_first_request() -> None:
    """Waiting for the first turn is not the API's doing; waiting for a retry is."""
    slow = Endpoint([image(one) for one in IDS[:8]], latency_s=0.2)
    results = collect(slow, IDS[:8], rate=1)
    assert {result.duration_ms for result in results.values()} == {200}

    def script(asked: Call, times: int) -> Any:
        return error(503, "UNAVAILABLE", Retry_After="30") if times == 1 else None

    healed = collect(Endpoint([image("img-0001")], script, latency_s=0.2), ["img-0001"])
    assert 30_400 <= healed["img-0001"].duration_ms < 30_700
