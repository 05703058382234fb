"""What every kind of answer means: the outcome vocabulary and what a retry can heal."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from collector.jdcloud import protocol
from collector.jdcloud.protocol import Call, Reply, classify, image_of
from collector.models import Outcome

NOW = datetime(2026, 11, 24, 8, 56, 25, tzinfo=UTC)
ID = "img-m5s0000029"
CALL = protocol.describe_image("cn-north-1", ID)
IMAGE = {"imageId": ID, "name": "CentOS 8.2 64位", "systemDisk": {"deviceName": "vda"}}
HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"
PRESENT, NOT_FOUND, DENIED, THROTTLED, SERVER_ERROR, INVALID = (
    Outcome.PRESENT,
    Outcome.NOT_FOUND,
    Outcome.DENIED,
    Outcome.THROTTLED,
    Outcome.SERVER_ERROR,
    Outcome.INVALID_RESPONSE,
)


def judge(
    status: int, body: Any, *, call: Call = CALL, headers: dict[str, str] | None = None
) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(call, status, CIMultiDict(headers or {}), raw, now=NOW)


def envelope(code: Any, status: Any, message: Any = "no", **more: Any) -> dict[str, Any]:
    return {"requestId": "r1", "error": {"code": code, "status": status, "message": message}} | more


def success(image: Any) -> dict[str, Any]:
    return {"requestId": "r1", "result": {"image": image}}


def test_the_calls() -> None:
    """Paths and parameters are those of the API's pages; a list of ids asks for a full page too."""
    images = "/v1/regions/cn-north-1/images"

    assert (CALL.name, CALL.path, CALL.query) == ("describeImage", f"{images}/{ID}", ())
    assert protocol.describe_images("cn-north-1", ["a", "b"]) == Call(
        "describeImages",
        "cn-north-1",
        images,
        (("ids.1", "a"), ("ids.2", "b"), ("pageSize", "100")),
    )
    assert protocol.list_images("cn-north-1", "private", 2).query == (
        ("imageSource", "private"),
        ("pageNumber", "2"),
        ("pageSize", "100"),
    )
    assert protocol.describe_image_members("cn-north-1", ID).path == f"{images}/{ID}/members"


def test_present() -> None:
    """A 200 with a result is `present`, with the result as it came."""
    reply = judge(200, success(IMAGE))

    assert reply == Reply(PRESENT, 200, request_id="r1", result={"image": IMAGE})
    assert image_of(CALL, reply, ID) == IMAGE


@pytest.mark.parametrize(
    ("status", "body", "outcome", "retryable", "code"),
    [
        (400, envelope(400, "INVALID_ARGUMENT"), INVALID, False, "INVALID_ARGUMENT"),
        (401, envelope(401, "UNAUTHENTICATED"), DENIED, False, "UNAUTHENTICATED"),
        (401, envelope(401, "ACCESS_ERROR", "sign result is not same [gw]"), DENIED, False, None),
        (403, envelope(403, "HTTP_FORBIDDEN"), DENIED, False, "HTTP_FORBIDDEN"),
        (403, envelope(403, "PERMISSION_DENIED"), DENIED, False, "PERMISSION_DENIED"),
        (403, HTML, DENIED, False, None),
        (404, envelope(404, "NOT_FOUND", f"Image '{ID}' not found"), NOT_FOUND, False, "NOT_FOUND"),
        (409, envelope(409, "ABORTED"), INVALID, False, "ABORTED"),
        (413, HTML, INVALID, False, None),
        (429, envelope(429, "RATE_LIMIT"), THROTTLED, True, "RATE_LIMIT"),
        (429, envelope(429, "HTTP_RATE_LIMIT_EXCEEDED"), THROTTLED, True, None),
        (429, envelope(429, "QUOTA_EXCEEDED"), THROTTLED, False, "QUOTA_EXCEEDED"),
        (429, b"", THROTTLED, True, None),
        (499, envelope(499, "CANCELLED"), INVALID, False, "CANCELLED"),
        (500, envelope(500, "INTERNAL"), SERVER_ERROR, True, "INTERNAL"),
        (501, envelope(501, "NOT_IMPLEMENTED"), SERVER_ERROR, True, "NOT_IMPLEMENTED"),
        (502, HTML, SERVER_ERROR, True, None),
        (503, b"upstream connect error", SERVER_ERROR, True, None),
        (504, b"", SERVER_ERROR, True, None),
        (599, b"[[[", SERVER_ERROR, True, None),
        (600, b"{}", INVALID, False, None),
        (204, b"", INVALID, False, None),
        (206, success(IMAGE), INVALID, False, None),
        (302, b"", INVALID, False, None),
    ],
)
def test_statuses(
    status: int, body: Any, outcome: Outcome, retryable: bool, code: str | None
) -> None:
    """Each published status, and those nobody published, has one outcome; only 429 and 5xx heal."""
    reply = judge(status, body)

    assert (reply.outcome, reply.http_status, reply.retryable) == (outcome, status, retryable)
    assert code is None or reply.error_code == code
    assert reply.result is None


@pytest.mark.parametrize(
    "body",
    [
        envelope(404, "NOT_FOUND", "no route and no API found with those values"),
        envelope(404, "NOT_FOUND", "Image 'img-m5s000002' not found"),
        envelope(404, "NOT_FOUND", "Image 'img-m5s00000290' not found"),
        envelope(404, "NOT_FOUND", "Image 'IMG-M5S0000029' not found"),
        envelope(404, "NOT_FOUND", "Image 'img-m5s\x000000029' not found"),
        envelope(404, "NOT_FOUND", f"Image {ID} not found"),
        envelope(404, "HTTP_NOT_FOUND", f"Image '{ID}' not found"),
        envelope(404, None, f"Image '{ID}' not found"),
        envelope(500, "NOT_FOUND", f"Image '{ID}' not found"),
        envelope(404, "NOT_FOUND", None),
        envelope(404, "NOT_FOUND", [f"Image '{ID}' not found"]),
        {"message": f"Image '{ID}' not found"},
        {"error": f"NOT_FOUND Image '{ID}' not found"},
        f"Image '{ID}' not found".encode(),
        HTML,
        b"",
        b'{"requestId":"r1","error":{"code":404,"status":"NOT_FOUND","message":"Image \'img-m5s',
    ],
)
def test_a_404_that_proves_nothing(body: Any) -> None:
    """A 404 which does not say NOT_FOUND and name exactly this image is `invalid_response`."""
    reply = judge(404, body)

    assert (reply.outcome, reply.retryable) == (INVALID, False)


@pytest.mark.parametrize(
    "call",
    [
        protocol.describe_images("cn-north-1", [ID]),
        protocol.list_images("cn-north-1", "private", 1),
        protocol.describe_image_members("cn-north-1", ID),
    ],
    ids=["ids", "list", "members"],
)
def test_other_calls_prove_no_absence(call: Call) -> None:
    """Only describeImage's own 404 is `not_found`."""
    body = envelope(404, "NOT_FOUND", f"Image '{ID}' not found")

    assert judge(404, body, call=call).outcome is INVALID
    assert judge(404, body).outcome is NOT_FOUND


def test_not_found_without_request_id() -> None:
    """An error that lacks `requestId`, or `code`, still counts; the header's id serves instead."""
    error = {"status": "NOT_FOUND", "message": f"Image '{ID}' not found"}

    headers = {"X-Jdcloud-Request-Id": "h1"}

    reply = judge(404, {"error": error}, headers=headers)

    assert (reply.outcome, reply.request_id) == (NOT_FOUND, "h1")
    assert judge(502, b"<html>", headers=headers).request_id == "h1"
    assert judge(404, {"error": error}).request_id is None


@pytest.mark.parametrize(
    ("code", "status", "outcome", "retryable"),
    [
        (401, "UNAUTHENTICATED", DENIED, False),
        (429, "RATE_LIMIT", THROTTLED, True),
        (429, "QUOTA_EXCEEDED", THROTTLED, False),
        (500, "INTERNAL", SERVER_ERROR, True),
        (404, "NOT_FOUND", INVALID, False),
        (400, "OUT_OF_RANGE", INVALID, False),
        (200, "OK", INVALID, False),
        ("500", "INTERNAL", INVALID, False),
        (True, "x", INVALID, False),
        (10**30, "x", INVALID, False),
    ],
)
def test_an_error_in_a_200(code: Any, status: str, outcome: Outcome, retryable: bool) -> None:
    """An envelope in a 200 decides by its own code, but never proves an absence."""
    body = envelope(code, status, f"Image '{ID}' not found", result={"image": IMAGE})

    reply = judge(200, body)

    assert (reply.outcome, reply.retryable) == (outcome, retryable)
    assert (reply.http_status, reply.error_code) == (200, status)
    assert reply.result is None


@pytest.mark.parametrize("error", [None, {}, ""])
def test_an_empty_error_is_none(error: Any) -> None:
    """A gateway's habit of sending an empty `error` beside the result does no harm."""
    assert judge(200, success(IMAGE) | {"error": error}).outcome is PRESENT


@pytest.mark.parametrize(
    "body",
    [
        HTML,
        b"",
        b"no healthy upstream",
        b'{"requestId":"r1","result":{"image":{"imageId":"img-m5s00',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xff"}',
        b"{} {}",
        b"\x1f\x8b\x08\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"requestId":"r","result":{"image":' + b"[" * 200 + b"]" * 200 + b"}}",
        b'{"a":' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
def test_what_is_not_json_can_heal(body: bytes) -> None:
    """A 200 that cannot be decoded, or nests deeper than any image, is `invalid_response`; it may
    have been cut or replaced on the way, so a retry is worth it."""
    reply = judge(200, body)

    assert (reply.outcome, reply.retryable, reply.result) == (INVALID, True, None)
    assert reply.error_message is not None
    assert reply.error_message.startswith("not JSON")


@pytest.mark.parametrize(
    "body", [{}, [], 1, None, "x", {"requestId": "r"}, {"result": []}, {"result": None}]
)
def test_json_without_a_result_does_not_heal(body: Any) -> None:
    """Sound JSON without a `result` object is `invalid_response` for good."""
    reply = judge(200, body)

    assert (reply.outcome, reply.retryable) == (INVALID, False)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (None, "without an image"),
        ([], "without an image"),
        ({}, "answered image None"),
        ({"imageId": "img-other"}, "answered image 'img-other'"),
        ({"imageId": ID.upper()}, f"answered image '{ID.upper()}'"),
        ({"imageId": 7}, "answered image 7"),
        ({"imageId": "\x1b[31m" + "x" * 999}, "answered image"),
    ],
)
def test_another_image_is_never_taken(image: Any, said: str) -> None:
    """An answer without exactly the image asked for is `invalid_response`, and not retried."""
    found = image_of(CALL, judge(200, success(image)), ID)

    assert isinstance(found, Reply)
    assert (found.outcome, found.retryable, found.result) == (INVALID, False, None)
    assert found.request_id == "r1"
    assert said in (found.error_message or "")
    assert len(found.error_message or "") <= 500


def test_image_of_passes_failures_on() -> None:
    """A reply that is not `present` is handed back as it is."""
    reply = judge(500, HTML)

    assert image_of(CALL, reply, ID) is reply


def test_numbers_of_any_size_are_kept() -> None:
    """Integers past 64 bits stay exact."""
    reply = judge(
        200, b'{"result":{"image":{"n":123456789012345678901234567890,"m":-9223372036854775809}}}'
    )

    assert reply.result == {
        "image": {"n": 123456789012345678901234567890, "m": -9223372036854775809}
    }


@pytest.mark.parametrize(
    ("sent", "seconds", "retryable"),
    [
        ("0", 0.0, True),
        ("7", 7.0, True),
        (" 60 ", 60.0, True),
        ("61", 61.0, False),
        ("9" * 400, float("inf"), False),
        ("Tue, 24 Nov 2026 08:56:35 GMT", 10.0, True),
        ("Tue, 24 Nov 2026 08:56:35 -0000", 10.0, True),
        ("Tue, 24 Nov 2026 16:56:35 +0800", 10.0, True),
        ("Tue, 24 Nov 2026 08:50:00 GMT", 0.0, True),
        ("Tue, 24 Nov 2026 09:56:25 GMT", 3600.0, False),
        ("-5", None, True),
        ("soon", None, True),
        ("", None, True),
        ("٣", None, True),
        ("Tue, 99 Nov 2026 99:99:99 GMT", None, True),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(status: int, sent: str, seconds: float | None, retryable: bool) -> None:
    """Seconds and dates are understood, 0 and the past too; over 60 s the item is given up."""
    reply = judge(status, b"", headers={"retry-after": sent})

    assert (reply.retry_after_s, reply.retryable) == (seconds, retryable)


def test_retry_after_heals_nothing() -> None:
    """A quota, a refusal or a success is not retried because a header says when."""
    headers = {"Retry-After": "1"}

    for status, body in (
        (429, envelope(429, "QUOTA_EXCEEDED")),
        (403, envelope(403, "HTTP_FORBIDDEN")),
        (404, HTML),
    ):
        assert not judge(status, body, headers=headers).retryable


def test_messages_are_harmless() -> None:
    """Control characters go, line breaks become spaces, 500 characters stay; ids are cut too."""
    hostile = "a\x1b[31mb\nc\x00\x9bd\u2028e" + "x" * 600
    reply = judge(500, envelope(500, hostile, hostile, requestId=hostile))

    assert reply.error_message is not None
    assert reply.error_message.startswith("a[31mb cdexxx")
    assert len(reply.error_message) == 500
    assert reply.error_code is not None
    assert reply.request_id is not None
    assert len(reply.error_code) == len(reply.request_id) == 128


def test_bare_messages() -> None:
    """A message without an envelope, a bare text and HTML are reported as they are."""
    assert judge(404, {"message": "no Route matched"}).error_message == "no Route matched"
    assert judge(401, {"error": "sign result"}).error_message == "sign result"
    assert judge(502, HTML).error_message == HTML.decode()
    assert judge(302, b"", headers={"Location": "http://x/"}).error_message == (
        "redirect to http://x/, which is not followed"
    )


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b'{"result":{"image":{"name":"a","name":"b"}}}', ("image.name",)),
        (b'{"result":{"image":{"name":"a","name"\t\n:"b"}}}', ("image.name",)),
        (b'{"result" : {"image" : {"a" : 1, "a" : 1, "a" : 1, "b" : 1}}}', ("image.a",)),
        (
            b'{"result":{"image":{"systemDisk":{"deviceName":"a","deviceName":"b"}}}}',
            ("image.systemDisk.deviceName",),
        ),
        (
            b'{"result":{"images":[{"name":1},{"name":1,"name":2},{"id":1,"id":2,"name":1,"name":1}]}}',
            ("images[].id", "images[].name"),
        ),
        (b'{"result":{"image":{"a":[[{"b":1,"b":2}]]}}}', ("image.a[][].b",)),
        (b'{"requestId":"a","requestId":"b","result":{"image":{}}}', ("requestId",)),
        (b'{"result":{"image":{"n\\u0061me":1,"name":2}}}', ("image.name",)),
        (b'{"result":{"image":{"name":"a\\":b","x":"\\":","y":" :"}}}', ()),
        (b'{"result":{"image":{"name":"\\u0022:","name":"\\u0022:"}}}', ("image.name",)),
    ],
)
def test_duplicate_keys_are_noted(body: bytes, paths: tuple[str, ...]) -> None:
    """A key that comes twice in an object is reported by its path, whatever the spacing."""
    reply = judge(200, body)

    assert (reply.outcome, reply.duplicate_keys) == (PRESENT, paths)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.sampled_from('a":\\ \n{')),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab":', max_size=2), inner),
    max_leaves=12,
)


@given(
    value=json_values, indent=st.sampled_from([None, 1]), separator=st.sampled_from([":", " : "])
)
def test_no_false_duplicates(value: Any, indent: int | None, separator: str) -> None:
    """JSON without a repeated key reports none, and comes through unchanged."""
    body = json.dumps({"result": {"x": value}}, indent=indent, separators=(",", separator))

    reply = judge(200, body.encode())

    assert reply.duplicate_keys == ()
    assert reply.result == {"x": value}


@given(
    pairs=st.lists(
        st.tuples(st.sampled_from(["a", "b", 'c"', "d:"]), st.text('":\\ ')), max_size=6
    ),
    space=st.sampled_from(["", " ", "\n"]),
)
def test_every_duplicate_is_found(pairs: list[tuple[str, str]], space: str) -> None:
    """However keys and values are spelt, the reported paths are exactly the repeated keys."""
    members = ",".join(f"{json.dumps(k)}{space}:{json.dumps(v)}" for k, v in pairs)
    names = [name for name, _ in pairs]

    reply = judge(200, f'{{"result":{{"image":{{{members}}}}}}}'.encode())

    assert reply.duplicate_keys == tuple(
        sorted(f"image.{name}" for name in set(names) if names.count(name) > 1)
    )


fragments = st.sampled_from(
    [b'{"', b'"}', b":", b",", b"requestId", b"error", b"result", b'"code":404', b"NOT_FOUND",
     b"\\ud800", b"\xff", b"[", b"]", b"null", b"1e400", b"NaN", b"{", b"}", ID.encode()]
)  # fmt: skip
bodies = (
    st.binary(max_size=60)
    | st.lists(fragments, max_size=12).map(b"".join)
    | st.fixed_dictionaries(
        {},
        optional={
            "requestId": json_values,
            "result": json_values,
            "message": json_values,
            "error": json_values
            | st.fixed_dictionaries(
                {}, optional={"code": json_values, "status": json_values, "message": json_values}
            ),
        },
    ).map(lambda value: json.dumps(value).encode())
)


@settings(max_examples=500)
@given(
    status=st.integers(0, 999) | st.sampled_from([200, 404, 429, 503]),
    body=bodies,
    header=st.text(max_size=30) | st.sampled_from(["1", "-1", "Tue, 24 Nov 2026 08:56:35 GMT"]),
)
def test_whatever_comes_is_a_reply(status: int, body: bytes, header: str) -> None:
    """No status, body or header raises; outcomes and fields keep their promises."""
    headers = {"Retry-After": header, "Location": header, "x-jdcloud-request-id": header}

    reply = judge(status, body, headers=headers)
    image = image_of(CALL, reply, ID)

    assert isinstance(reply, Reply)
    assert reply.http_status == status
    assert (reply.result is not None) == (reply.outcome is PRESENT)
    assert reply.outcome is not NOT_FOUND or status == 404
    assert reply.outcome is not PRESENT or status == 200
    assert not (reply.retryable and (reply.retry_after_s or 0) > 60)
    assert len(reply.error_message or "") <= 500
    assert isinstance(image, Reply) or image["imageId"] == ID


def test_retry_after_counts_from_now() -> None:
    """A date is measured against the clock that is handed in."""
    later = classify(
        CALL,
        503,
        CIMultiDict({"Retry-After": "Tue, 24 Nov 2026 08:56:35 GMT"}),
        b"",
        now=NOW + timedelta(seconds=4),
    )

    assert later.retry_after_s == 6.0
