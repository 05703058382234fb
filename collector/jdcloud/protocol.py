"""The four image calls and what their answers mean; pure, after the API's pages and error tables.

An error's envelope is `{"requestId": …, "error": {"code": 404, "status": …, "message": …}}`.
The HTTP status decides, except that an envelope in a 200 decides by its own `code`. Only a 404
whose envelope says NOT_FOUND and names the image asked for proves an absence: a gateway's routing
404 must never empty an inventory.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from collector.canonical import MAX_DEPTH
from collector.models import Outcome

__all__ = [
    "MAX_PAGE_SIZE",
    "MAX_RETRY_AFTER_S",
    "MESSAGE_CHARS",
    "UNAUTHORIZED",
    "Call",
    "Reply",
    "classify",
    "clean",
    "describe_image",
    "describe_image_members",
    "describe_images",
    "http_date",
    "image_of",
    "list_images",
]

MAX_RETRY_AFTER_S: Final = 60.0
"""A server that asks for a longer wait ends the item."""
MESSAGE_CHARS: Final = 500
"""What is kept of an error message."""
MAX_PAGE_SIZE: Final = 100
"""Images that one describeImages call can ask for or list."""
UNAUTHORIZED: Final = 401
"""The status that refuses the credentials themselves: it ends their account's work."""

_TOKEN_CHARS = 128  # what is kept of a request id and of an error's status
_SNIPPET_BYTES = 2000
_MAX_DUPLICATES = 20
_OK, _MULTIPLE_CHOICES, _BAD_REQUEST = 200, 300, 400
_FORBIDDEN, _NOT_FOUND, _TOO_MANY = 403, 404, 429
_SERVER_ERRORS = range(500, 600)
_CONTROLS: Final[dict[int, str | None]] = {
    **dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]),
    **dict.fromkeys(b"\t\n\r", " "),
}
_SECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)
_decode = msgspec.json.Decoder[Any]().decode


class Call(msgspec.Struct, frozen=True, gc=False):
    """One GET: the API's operation, its region, and the unencoded path and query.

    Attributes:
        image_id: the image the call is about, when it is about one.
    """

    name: str
    region: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    image_id: str | None = None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What one attempt brought.

    Attributes:
        outcome: `present` means that `result` is there, whatever the call.
        http_status: None when no answer came.
        error_code: the envelope's `status`, such as NOT_FOUND.
        error_message: at most MESSAGE_CHARS, without control characters.
        retry_after_s: what the server asked for, in seconds from now.
        retryable: whether another attempt can heal it.
        result: the envelope's `result`; None unless the outcome is `present`.
        duplicate_keys: paths of keys that an object had twice (`image.name`, `images[].name`).
    """

    outcome: Outcome
    http_status: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    request_id: str | None = None
    retry_after_s: float | None = None
    retryable: bool = False
    result: dict[str, Any] | None = None
    duplicate_keys: tuple[str, ...] = ()


def describe_image(region: str, image_id: str) -> Call:
    """One image by its id: the only call whose answer can prove an absence."""
    return Call("describeImage", region, f"/v1/regions/{region}/images/{image_id}", (), image_id)


def describe_images(region: str, ids: tuple[str, ...] | list[str]) -> Call:
    """Up to 100 images by their ids; an id may be missing from the answer for any reason."""
    query = [(f"ids.{n}", image_id) for n, image_id in enumerate(ids, 1)]
    # Nobody documents whether the page size, by default 20, cuts a list of ids.
    query.append(("pageSize", str(MAX_PAGE_SIZE)))
    return Call("describeImages", region, f"/v1/regions/{region}/images", tuple(query))


def list_images(region: str, source: str, page: int, page_size: int = MAX_PAGE_SIZE) -> Call:
    """One page, counted from 1, of the images of one `imageSource`; 10 to 100 a page."""
    query = (("imageSource", source), ("pageNumber", str(page)), ("pageSize", str(page_size)))
    return Call("describeImages", region, f"/v1/regions/{region}/images", query)


def describe_image_members(region: str, image_id: str) -> Call:
    """Who a private image is shared with."""
    path = f"/v1/regions/{region}/images/{image_id}/members"
    return Call("describeImageMembers", region, path, (), image_id)


def clean(text: str, limit: int = MESSAGE_CHARS) -> str:
    """Foreign text as one harmless line: no control characters, cut to `limit` characters."""
    return (text if text.isprintable() else text.translate(_CONTROLS))[:limit]


def classify(
    call: Call, status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> Reply:
    """Judge one answer; whatever it is, the result is a Reply.

    `headers` are looked up in any case, `body` is decompressed and within its size limit, `now` is
    what a date in `Retry-After` counts from.
    """
    try:
        envelope = _decode(body)
        keys = _count_keys(envelope, MAX_DEPTH)
    except (ValueError, RecursionError) as problem:
        if status == _OK:
            message = f"not JSON ({problem}): {_snippet(body)}"
            return Reply(
                Outcome.INVALID_RESPONSE, status, error_message=clean(message), retryable=True
            )
        envelope, keys = {}, 0
    if not isinstance(envelope, dict):
        envelope = {}
    request_id = _text(envelope.get("requestId")) or _text(headers.get("x-jdcloud-request-id"))
    error = _error_of(envelope)
    if status != _OK and error is None:  # HTML of a proxy, plain text, nothing
        error = _Error(None, None, _snippet(body))
    if error is not None:
        return _failure(call, status, error, headers=headers, request_id=request_id, now=now)
    result = envelope.get("result")
    if not isinstance(result, dict):
        return Reply(
            Outcome.INVALID_RESPONSE,
            status,
            error_message=clean(f"no result: {_snippet(body)}"),
            request_id=request_id,
        )
    # Without white space every key is followed by `":`, so fewer keys than that may mean twins.
    suspect = body.translate(None, b" \t\r\n").count(b'":') > keys
    return Reply(
        Outcome.PRESENT,
        status,
        request_id=request_id,
        result=result,
        duplicate_keys=_duplicates(body) if suspect else (),
    )


def image_of(call: Call, reply: Reply, image_id: str) -> dict[str, Any] | Reply:
    """The image in a `present` answer of describeImage, or why there is none.

    Returns:
        The `image` object, whose `imageId` is `image_id`; or `reply` itself when it is not
        `present`; or an `invalid_response` that no retry heals.
    """
    if reply.outcome is not Outcome.PRESENT or reply.result is None:
        return reply
    image = reply.result.get("image")
    if not isinstance(image, dict):
        message = f"{call.name} answered without an image"
    elif image.get("imageId") == image_id:
        return image
    else:
        message = f"{call.name} of {image_id} answered image {image.get('imageId')!r}"
    return replace(
        reply, outcome=Outcome.INVALID_RESPONSE, error_message=clean(message), result=None
    )


class _Error(msgspec.Struct, frozen=True, gc=False):
    """An error as it came; `code` is None unless it is an HTTP status of failure."""

    code: int | None
    status: str | None
    message: str | None


def _error_of(envelope: dict[str, Any]) -> _Error | None:
    """The envelope's error; a gateway may send a bare text or a message without an envelope."""
    error = envelope.get("error")
    if isinstance(error, dict) and error:
        code, message = error.get("code"), error.get("message")
        if type(code) is not int or not _BAD_REQUEST <= code < _SERVER_ERRORS.stop:
            code = None
        return _Error(
            code,
            _text(error.get("status")) or (None if code is None else str(code)),
            message if isinstance(message, str) else None,
        )
    if error is None and "result" not in envelope:
        error = envelope.get("message")
    return _Error(None, None, error) if isinstance(error, str) and error else None


def _failure(
    call: Call,
    status: int,
    error: _Error,
    *,
    headers: Mapping[str, str],
    request_id: str | None,
    now: datetime,
) -> Reply:
    outcome, retryable = Outcome.INVALID_RESPONSE, False
    retry_after_s = None
    message = error.message
    code = error.code if status == _OK else status
    if code in (UNAUTHORIZED, _FORBIDDEN):
        outcome = Outcome.DENIED
    elif status == _NOT_FOUND and _proves_absence(call, error):
        outcome = Outcome.NOT_FOUND
    elif code == _TOO_MANY:
        outcome, retryable = Outcome.THROTTLED, error.status != "QUOTA_EXCEEDED"
    elif code in _SERVER_ERRORS:
        outcome, retryable = Outcome.SERVER_ERROR, True
    elif _MULTIPLE_CHOICES <= status < _BAD_REQUEST:
        message = f"redirect to {headers.get('Location')}, which is not followed"
    if retryable:
        retry_after_s = _retry_after_s(headers.get("Retry-After"), now)
        retryable = retry_after_s is None or retry_after_s <= MAX_RETRY_AFTER_S
    return Reply(
        outcome,
        status,
        error.status,
        None if message is None else clean(message),
        request_id,
        retry_after_s,
        retryable,
    )


def _proves_absence(call: Call, error: _Error) -> bool:
    return (
        call.name == "describeImage"
        and error.status == "NOT_FOUND"
        and error.code in (None, _NOT_FOUND)
        and f"'{call.image_id}'" in (error.message or "")
    )


def http_date(text: str) -> datetime | None:
    """A date of HTTP (RFC 9110, 5.6.7), in UTC if it has no zone; None when it is none."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date.replace(tzinfo=date.tzinfo or UTC)


def _retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds or an HTTP date (RFC 9110, 10.2.3); None when it is neither."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return float(value)
    date = http_date(value)
    return None if date is None else max(0.0, (date - now).total_seconds())


def _text(value: object) -> str | None:
    return clean(value, _TOKEN_CHARS) or None if isinstance(value, str) else None


def _snippet(body: bytes) -> str | None:
    return clean(body[:_SNIPPET_BYTES].decode("utf-8", "replace")) or None


def _count_keys(value: object, depth: int) -> int:
    """How many keys all objects have together.

    Raises:
        ValueError: the nesting is deeper than `depth`.
    """
    if depth < 0:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    keys = 0
    if type(value) is dict:
        keys = len(value)
        items: Any = value.values()
    elif type(value) is list:
        items = value
    else:
        return 0
    for item in items:
        if type(item) is dict or type(item) is list:
            keys += _count_keys(item, depth - 1)
    return keys


def _duplicates(body: bytes) -> tuple[str, ...]:
    """Paths of keys that came twice, inside `result` relative to it; at most 20, sorted."""
    found: set[str] = set()

    def walk(value: object, path: str) -> None:
        if isinstance(value, tuple):  # the pairs of an object
            times = Counter(key for key, _ in value)
            found.update(f"{path}{key}" for key in times if times[key] > 1)
            for key, item in dict(value).items():
                walk(item, "" if path == "" and key == "result" else f"{path}{key}.")
        elif isinstance(value, list):
            for item in value:
                walk(item, f"{path.removesuffix('.')}[].")

    walk(json.loads(body.decode(), object_pairs_hook=tuple), "")
    return tuple(clean(path) for path in sorted(found)[:_MAX_DUPLICATES])
