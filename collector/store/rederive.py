"""What follows from other rows is derived again: versions from payloads, states from history.

Columns, disks and members are a function of the payload (and the run's time zone); an image's state
is a function of its versions; each version is witnessed by the observations that saw it begin and
end. A change to how images are normalized needs a migration that derives stored versions again.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Select, Table, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.models import READINGS, Outcome
from collector.normalize import NotCanonical, fingerprint, members, normalize
from collector.store.columns import DISK_COLUMNS, IMAGE_COLUMNS
from collector.store.evidence import plain, raw
from collector.store.schema import (
    disk_attachments,
    image_members,
    image_versions,
    images,
    lanes,
    member_versions,
    metadata,
    observation_rows,
    runs,
)
from collector.store.stream import pages
from collector.text import shown

__all__ = ["Finding", "history", "member_lists", "orphans", "readings", "versions"]

_PAGE: Final = 250
"""Versions derived at once; some 5 ms."""


class Finding(NamedTuple):
    """One thing that differs from what it should be.

    Attributes:
        kind: `chain`, `run`, `expected`, a kind of block, `version`, `disk`, `members`, `image`,
            `orphan`, `unreadable`; or `unsealed`, which is said and is no difference.
        where: what it belongs to.
        what: what was found, and what it should be.
    """

    kind: str
    where: str
    what: str

    @property
    def differs(self) -> bool:
        """Whether this is more than a remark."""
        return self.kind != "unsealed"


def _named(row: Any) -> str:
    return f"{row.account}/{row.region}/{row.image_id}"


def _differences(
    found: Mapping[str, Any], derived: Mapping[str, Any], source: str = "its payload"
) -> Iterator[str]:
    for name, value in derived.items():
        here = found.get(name)
        if here != value and plain(here) != plain(value):
            yield f"{name} is {shown(plain(here))}, {source} says {shown(plain(value))}"


async def _parents(
    connection: AsyncConnection, table: Table, columns: Iterable[Any], child: Table, foreign: str
) -> AsyncIterator[tuple[Any, list[Any]]]:
    """Every row of a table with its child rows, in pages of keys; one connection is enough."""
    names = [raw(table.c.id), *map(raw, (images.c.image_id, images.c.account, images.c.region))]
    source = table.outerjoin(images, images.c.id == table.c.image_pk).outerjoin(
        runs, runs.c.id == table.c.run_id
    )
    query = select(*names, raw(runs.c.time_zone), *map(raw, columns)).select_from(source)
    query = query.order_by(table.c.id).limit(_PAGE)
    key, page = child.c[foreign], query  # the first page without a bound: no key is too small
    while rows := (await connection.execute(page)).all():
        below = select(raw(key, "parent"), *(raw(c) for c in child.c if c.name != "id"))
        below = below.where(key.between(rows[0].id, rows[-1].id)).order_by(key)
        children: dict[int, list[Any]] = {}
        for child_row in (await connection.execute(below)).mappings():
            children.setdefault(child_row["parent"], []).append(child_row)
        page = query.where(table.c.id > rows[-1].id)
        for row in rows:
            yield row, children.get(row.id, [])


class _UnderivableError(Exception):
    """Nothing can be derived from a row, and why."""


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, TypeError, ValueError, KeyError):
        raise _UnderivableError(f"its run's time zone is unknown: {shown(name)}") from None


def _decode(row: Any) -> dict[str, Any]:
    try:
        if fingerprint(row.payload) != row.fingerprint:
            raise _UnderivableError("the payload's SHA-256 is not its fingerprint")
        document = msgspec.json.decode(row.payload)
    except (AttributeError, ValueError) as error:
        raise _UnderivableError(f"the payload cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise _UnderivableError("the payload is no object")
    return document


async def versions(connection: AsyncConnection) -> AsyncIterator[Finding]:
    """Derive every column and disk of every version from its payload."""
    columns = [c for c in image_versions.c if c.name not in {"id", "account", "region"}]
    async for row, disks in _parents(
        connection, image_versions, columns, disk_attachments, "image_version_id"
    ):
        where = f"{_named(row)} from {plain(row.valid_from)}"
        try:
            image = _decode(row)
            derived = normalize(image, time_zone=_zone(row.time_zone))
        except _UnderivableError as error:
            yield Finding("version", where, str(error))
            continue
        except NotCanonical as error:
            yield Finding("version", where, f"the payload has no canonical form: {error}")
            continue
        if derived.payload != row.payload:
            yield Finding("version", where, "the payload is not in its canonical form")
        if image.get("imageId") != row.image_id:
            yield Finding("version", where, f"the payload is {shown(image.get('imageId'))}'s")
        for what in _differences(row._asdict(), {n: derived.columns.get(n) for n in _IMAGE}):
            yield Finding("version", where, what)
        for finding in _compare(where, disks, derived.disks):
            yield finding


_IMAGE: Final = tuple(str(column.name) for column in IMAGE_COLUMNS)
_DISK: Final = tuple(str(column.name) for column in DISK_COLUMNS)


def _compare(
    where: str, found: Sequence[Mapping[str, Any]], derived: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    here = {(disk["role"], disk["position"]): disk for disk in found}
    there = {(disk["role"], disk["position"]): disk for disk in derived}
    for key in [*there, *(key for key in here if key not in there)]:
        name = f"{where}, {key[0]} disk {key[1]}"
        if key not in here:
            yield Finding("disk", name, "it was removed: its payload has it")
        elif key not in there:
            yield Finding("disk", name, "it was added: its payload does not have it")
        else:
            for what in _differences(here[key], {n: there[key].get(n) for n in _DISK}):
                yield Finding("disk", name, what)
    if len(found) != len(here):
        yield Finding("disk", where, "a disk is there twice")


async def member_lists(connection: AsyncConnection) -> AsyncIterator[Finding]:
    """Derive every list of members from its payload."""
    columns = [c for c in member_versions.c if c.name != "id"]
    async for row, found in _parents(
        connection, member_versions, columns, image_members, "member_version_id"
    ):
        where = f"{_named(row)} from {plain(row.valid_from)}"
        for what in _half_closed(row):
            yield Finding("members", where, what)
        try:
            payload, _, pins = members(_decode(row))
        except _UnderivableError as error:
            yield Finding("members", where, str(error))
            continue
        if payload != row.payload:
            yield Finding("members", where, "the payload is not in its canonical form")
        rows = {(m["position"], m["pin"], m["login_name"]) for m in found}
        if rows != {(number, *pin) for number, pin in enumerate(pins, 1)}:
            yield Finding("members", where, "its rows are not what its payload says")


_STATE: Final = (
    *("state", "first_seen_at", "last_seen_at", "gone_at"),
    *("last_checked_at", "failing_since"),
)
"""What is derived again of an image."""


def _history_query() -> Select[Any]:
    began, ended = observation_rows.alias("began"), observation_rows.alias("ended")
    lane = and_(lanes.c.account == images.c.account, lanes.c.region == images.c.region)
    v = image_versions.c

    def witness(rows: Any, run: Any) -> Any:
        same = (rows.c.lane_id == lanes.c.id) & (rows.c.image_pk == images.c.id)
        return same & (rows.c.run_id == run)

    source = (
        images.outerjoin(lanes, lane)
        .outerjoin(image_versions, v.image_pk == images.c.id)
        .outerjoin(began, witness(began, v.run_id))
        .outerjoin(ended, witness(ended, v.closed_run_id))
    )
    names = ("valid_from", "valid_to", "last_confirmed_at", "run_id", "closed_run_id")
    return (
        select(
            raw(images.c.id),
            *(raw(images.c[name]) for name in (*_STATE, "last_attempt_at", "last_outcome")),
            *(raw(images.c[name]) for name in ("account", "region", "image_id")),
            raw(v.id, "version"),
            *(raw(v[name]) for name in names),
            *(raw(began.c[name], f"began_{name}") for name in ("outcome", "observed_at")),
            *(raw(ended.c[name], f"ended_{name}") for name in ("outcome", "observed_at")),
        )
        .select_from(source)
        .order_by(images.c.id, v.valid_from)
    )


async def history(connection: AsyncConnection, pruned: Collection[int]) -> AsyncIterator[Finding]:
    """Derive every image's state from its versions, and look for each version's witnesses.

    The observations of the runs `pruned` are gone, by policy.
    """
    rest: list[Any] = []
    async for page in pages(connection, _history_query()):
        groups = [list(rows) for _, rows in groupby([*rest, *page], itemgetter(0))]
        rest = groups.pop()
        for rows in groups:
            for finding in _image(rows, pruned):
                yield finding
    if rest:
        for finding in _image(rest, pruned):
            yield finding


def _image(rows: Sequence[Any], pruned: Collection[int]) -> Iterator[Finding]:
    image, state = rows[0], tuple(rows[0][1 : 1 + len(_STATE)])
    checked, since = image.last_checked_at, image.failing_since
    attempt, outcome = image.last_attempt_at, image.last_outcome
    found = [row for row in rows if row.version is not None]
    for row, after in zip(found, [*found[1:], None], strict=False):
        for what in _version(row, after, pruned):
            yield Finding("version", f"{_named(image)} from {plain(row.valid_from)}", what)
    derived: tuple[Any, ...] = ("unknown", None, None, None)
    if found and found[-1].valid_to is None:
        derived = ("present", found[0].valid_from, checked, None)
    elif found:
        last = found[-1]
        derived = ("gone", found[0].valid_from, last.last_confirmed_at, last.valid_to)
    derived += (attempt, None) if outcome in READINGS else (checked, since)
    if state != derived:
        here, there = (dict(zip(_STATE, values, strict=True)) for values in (state, derived))
        for what in _differences(here, there, "its history"):
            yield Finding("image", _named(image), what)
    # Where observations were pruned, the versions still prove that it was read so late.
    proven = (found[-1].valid_to or found[-1].valid_from) if found else ""
    if str(checked or "") < str(proven):
        what = (
            f"last_checked_at is {shown(plain(checked))}, its history says {plain(proven)} or later"
        )
        yield Finding("image", _named(image), what)
    if outcome not in READINGS and (outcome is None) != (since is None):
        yield Finding("image", _named(image), "last_outcome and failing_since contradict")


def _half_closed(row: Any) -> Iterator[str]:
    if (row.valid_to is None) != (row.closed_run_id is None):
        yield "valid_to and closed_run_id contradict each other"


def _version(row: Any, after: Any, pruned: Collection[int]) -> Iterator[str]:
    if row.run_id not in pruned:
        began = (row.began_outcome, row.began_observed_at)
        if began != ("present", row.valid_from):
            yield f"run {row.run_id} did not see it begin then"
    yield from _half_closed(row)
    if row.valid_to is None:
        if row.last_confirmed_at is not None:
            yield "it is open, and has a last_confirmed_at"
        if after is not None:
            yield f"it is open, and another begins at {plain(after.valid_from)}"
        return
    if after is not None and str(after.valid_from) < str(row.valid_to):
        yield f"it ends after the next begins at {plain(after.valid_from)}"
    if row.closed_run_id not in pruned:
        changed = after is not None and after.valid_from == row.valid_to
        outcome = Outcome.PRESENT if changed else Outcome.NOT_FOUND
        if (row.ended_outcome, row.ended_observed_at) != (outcome.value, row.valid_to):
            yield f"run {row.closed_run_id} did not see it end then"


async def readings(connection: AsyncConnection, pruned_until: Any) -> AsyncIterator[Finding]:
    """Compare what an image says of its last reading and attempt with the observations.

    Those up to `pruned_until` may be gone, by policy; None when none are.
    """
    rows, seen_in = observation_rows.c, observation_rows.c.image_pk == images.c.id
    is_reading, present = rows.outcome.in_(READINGS), Outcome.PRESENT.value
    i, lists = images.c, member_versions.c
    listed = images.join(member_versions, lists.image_pk == i.id)
    claims: tuple[tuple[Any, Any, Any, Any], ...] = (
        (images, i.id, i.last_checked_at, is_reading),
        (images, i.id, i.last_attempt_at, rows.outcome == i.last_outcome),
        (images, i.id, i.failing_since, ~is_reading),
        (listed, lists.id, lists.last_confirmed_at, rows.members_outcome == present),
    )
    identity = [raw(images.c[name]) for name in ("account", "region", "image_id")]
    for source, key, claimed, proof in claims:
        seen = select(key).select_from(source.join(observation_rows, seen_in))
        seen = seen.where(rows.observed_at == claimed, proof).correlate(None)
        query = select(*identity).select_from(source)
        query = query.where(claimed.is_not(None), key.not_in(seen))
        if pruned_until is not None:
            query = query.where(claimed > pruned_until)
        async for page in pages(connection, query):
            for row in page:
                yield Finding("image", _named(row), f"no observation is of its {claimed.name}")
    checked, since, attempt = i.last_checked_at, i.failing_since, i.last_attempt_at
    newer = or_(checked.is_(None), rows.observed_at > checked)
    told = and_(rows.observed_at >= since, rows.observed_at <= attempt)
    untold = or_(since.is_(None), attempt.is_(None), ~told, is_reading)
    query = select(*identity, raw(rows.run_id), raw(rows.outcome))
    query = query.select_from(observation_rows.join(images, seen_in))
    query = query.where(rows.observed_at.is_not(None), newer, untold)
    async for page in pages(connection, query):
        for row in page:
            read = row.outcome in READINGS
            what = "read it after last_checked_at" if read else "did not read it, which is untold"
            yield Finding("image", _named(row), f"run {row.run_id} {what}")


async def orphans(connection: AsyncConnection) -> AsyncIterator[Finding]:
    """Look for rows that refer to rows that are not there; a database can be told not to."""
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            parent = key.column.table.alias("parent")
            there = select(parent.c[key.column.name]).where(parent.c[key.column.name] == key.parent)
            query = select(func.count()).select_from(table).where(key.parent.is_not(None))
            count = (await connection.execute(query.where(~there.exists()))).scalar_one()
            if count:
                what = f"{count} rows whose {key.parent.name} has no row in {key.column.table.name}"
                yield Finding("orphan", table.name, what)
