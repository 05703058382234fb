"""The values that travel from source to store; frozen, and free of input and output.

None refers to itself, so that the garbage collector need not look at them (`gc=False`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from msgspec import Struct
from typing_extensions import override

__all__ = [
    "READINGS",
    "ColumnValue",
    "Drift",
    "Item",
    "LaneKey",
    "Members",
    "Normalized",
    "Outcome",
    "Result",
    "Source",
]

ColumnValue = str | int | bool | datetime | None

Source = Literal["private", "shared", "public", "thirdparty", "community"]
"""What the API calls imageSource."""


class Outcome(StrEnum):
    """What became of one planned image in one run; the vocabulary of `observations.outcome`."""

    PRESENT = "present"
    NOT_FOUND = "not_found"
    DENIED = "denied"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    NETWORK_ERROR = "network_error"
    SERVER_ERROR = "server_error"
    INVALID_RESPONSE = "invalid_response"
    NOT_ATTEMPTED = "not_attempted"

    __hash__ = str.__hash__  # an enum's own is slower by far, and results are counted by outcome

    @property
    def is_reading(self) -> bool:
        """Whether the API told us something about the image itself."""
        return self in READINGS

    @property
    def is_silence(self) -> bool:
        """Whether no answer came at all."""
        return self in (Outcome.NETWORK_ERROR, Outcome.TIMEOUT)


READINGS: Final = (Outcome.PRESENT.value, Outcome.NOT_FOUND.value)
"""The outcomes that tell something about the image itself."""


@dataclass(frozen=True, slots=True, order=True)
class LaneKey:
    """One (account, region): the unit that is rate-limited and that fails on its own."""

    account: str
    region: str

    @override
    def __str__(self) -> str:
        return f"{self.account}/{self.region}"


class Item(Struct, frozen=True, gc=False):
    """One planned image of one run, as a lane reads it from the plan."""

    run_id: int
    lane_id: int
    image_pk: int
    image_id: str


class Drift(Struct, frozen=True, gc=False):
    """Something in an answer that the documentation does not know.

    Attributes:
        path: `image.systemDisk.cloudDisk.encrypt`, `image.dataDisks[].…`.
        json_type: `string`, `number`, `boolean`, `object`, `array`, `null` or `duplicate key`.
        value: the value outside its documented set, else None.
    """

    path: str
    json_type: str
    value: str | None = None


class Normalized(Struct, frozen=True, gc=False):
    """One image as the tables hold it.

    Attributes:
        payload: canonical JSON text of the whole `image` object.
        fingerprint: lower-case hex SHA-256 of the payload's UTF-8 bytes.
        columns: scalar columns of `image_versions` by name, `extra` included.
        disks: rows of `disk_attachments` without keys: system disk first, then data disks.
        drift: what the documentation does not know, without repetition.
    """

    payload: str
    fingerprint: str
    columns: Mapping[str, ColumnValue]
    disks: tuple[Mapping[str, ColumnValue], ...]
    drift: tuple[Drift, ...]


class Members(Struct, frozen=True, gc=False):
    """Who an image is shared with, as describeImageMembers answered.

    Attributes:
        outcome: what became of the call.
        payload: canonical JSON text of the `result` object; None unless the outcome is `present`.
        fingerprint: SHA-256 of the payload; None with it.
        pins: (pin, login name or None), in the API's order.
    """

    outcome: Outcome
    payload: str | None = None
    fingerprint: str | None = None
    pins: tuple[tuple[str, str | None], ...] = ()


class Result(Struct, frozen=True, gc=False):
    """One item's outcome on its way from a lane to the writer.

    Attributes:
        attempts: requests that carried the item.
        duration_ms: from the first attempt's start to the last one's end, waits included.
        observed_at: when the deciding answer arrived (UTC).
        image: set when, and only when, the outcome is `present`.
        members: set when the members call was made.
    """

    item: Item
    outcome: Outcome
    attempts: int
    duration_ms: int
    observed_at: datetime
    http_status: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    request_id: str | None = None
    image: Normalized | None = None
    members: Members | None = None
