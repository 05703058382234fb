"""Reads one image: now, as of a time, and through its versions; the words are the contract's.

As of T a version that began before it is `confirmed` up to its last sighting and `assumed` after
it, while nothing newer was read; between versions the image is `gone`, before the first one
`not known`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.store.columns import DISK_COLUMNS, IMAGE_COLUMNS
from collector.store.schema import (
    disk_attachments,
    image_members,
    image_versions,
    images,
    member_versions,
)
from collector.store.views import CONFIRMED

__all__ = [
    "AsOf",
    "Knowledge",
    "Record",
    "as_of",
    "find",
    "knowledge",
    "load_lists",
    "load_versions",
    "plain",
    "rows",
]

Record = dict[str, Any]
"""A row by column names; a version's has `disks` besides, a members list's `pins`."""

MANY: Final = 500
"""Keys of one statement."""

_v, _l, _d = image_versions.c, member_versions.c, disk_attachments.c


class Knowledge(StrEnum):
    """What can be said of an image as of a time."""

    CONFIRMED = "confirmed"
    ASSUMED = "assumed"
    GONE = "gone"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class AsOf:
    """One account's image as of a time.

    Attributes:
        image: its row of `images`, as it is now.
        version: the last one that had begun by then; None when there was none yet.
        members: the list of members in effect then; None when none had been read.
    """

    image: Record
    knowledge: Knowledge
    version: Record | None
    members: Record | None


def knowledge(version: Mapping[str, Any] | None, at: datetime) -> Knowledge:
    """What is known as of `at`, from the last version that had begun by then."""
    if version is None:
        return Knowledge.NOT_KNOWN
    if version["valid_to"] is not None and version["valid_to"] <= at:
        return Knowledge.GONE
    confirmed = version["last_confirmed_at"]  # NULL only where somebody made it that
    return Knowledge.CONFIRMED if confirmed and at <= confirmed else Knowledge.ASSUMED


async def find(
    connection: AsyncConnection, region: str, image_id: str, account: str | None = None
) -> list[Record]:
    """The rows of `images` of every account, or of one, that ever planned the image."""
    query = select(images).where(images.c.region == region, images.c.image_id == image_id)
    if account is not None:
        query = query.where(images.c.account == account)
    return await rows(connection, query.order_by(images.c.account))


async def as_of(connection: AsyncConnection, image: Record, at: datetime) -> AsOf:
    """An image, as `find` gives it, as of a time."""
    begun = (_v.image_pk == image["id"]) & (_v.valid_from <= at)
    last = select(_v.id).where(begun).order_by(_v.valid_from.desc()).limit(1)
    version_id = (await connection.execute(last)).scalar_one_or_none()
    version = None
    if version_id is not None:
        (version,) = await load_versions(connection, _v.id == version_id)
    in_effect = (_l.valid_from <= at) & (_l.valid_to.is_(None) | (_l.valid_to > at))
    lists = await load_lists(connection, (_l.image_pk == image["id"]) & in_effect)
    return AsOf(image, knowledge(version, at), version, lists[0] if lists else None)


async def load_versions(connection: AsyncConnection, which: ColumnElement[bool]) -> list[Record]:
    """Versions with their disks, by image and beginning; `last_confirmed_at` is always set."""
    period = (_v.id, _v.image_pk, _v.run_id, _v.closed_run_id, _v.valid_from, _v.valid_to)
    query = (
        select(*period, CONFIRMED, _v.fingerprint, _v.payload, *IMAGE_COLUMNS)
        .select_from(image_versions.join(images, images.c.id == _v.image_pk))
        .where(which)
        .order_by(_v.image_pk, _v.valid_from)
    )
    disks = select(_d.image_version_id, *DISK_COLUMNS).order_by(_d.role.desc(), _d.position)
    return await _with_parts(connection, query, "disks", disks, _d.image_version_id)


async def load_lists(connection: AsyncConnection, which: ColumnElement[bool]) -> list[Record]:
    """Lists of members with their pins, by image and beginning."""
    query = select(member_versions).where(which).order_by(_l.image_pk, _l.valid_from)
    m = image_members.c
    pins = select(m.member_version_id, m.pin, m.login_name).order_by(m.position)
    return await _with_parts(connection, query, "pins", pins, m.member_version_id)


async def rows(connection: AsyncConnection, query: Select[Any]) -> list[Record]:
    """The rows of a query, by column names."""
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def _with_parts(
    connection: AsyncConnection,
    query: Select[Any],
    name: str,
    parts: Select[Any],
    key: ColumnElement[int],
) -> list[Record]:
    """The rows of a query, each with the list of its parts; the first column of those is `key`."""
    found = await rows(connection, query)
    of: dict[int, list[Record]] = {row["id"]: row.setdefault(name, []) for row in found}
    keys = list(of)
    for start in range(0, len(keys), MANY):
        for part in await rows(connection, parts.where(key.in_(keys[start : start + MANY]))):
            of[part.pop(str(key.key))].append(part)
    return found


def plain(value: Any) -> Any:
    """A value for JSON: times as `2026-01-01T00:00:00.000000Z`, also inside rows and lists.

    A named tuple is an object of its fields.
    """
    match value:
        case datetime():  # of UtcDateTime, so it is in UTC
            return f"{value.isoformat(timespec='microseconds')[:-6]}Z"
        case dict():
            return {name: plain(inner) for name, inner in value.items()}
        case tuple() if hasattr(value, "_asdict"):
            return plain(value._asdict())
        case list() | tuple():
            return [plain(inner) for inner in value]
        case _:
            return value
