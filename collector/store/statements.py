"""The writer's statements, compiled once, and the rows they take."""

import hashlib
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import Table, bindparam, case, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.models import Drift, Item, LaneKey, Normalized, Result
from collector.store.columns import DISK_COLUMNS, IMAGE_COLUMNS
from collector.store.engine import Database
from collector.store.history import Change, State
from collector.store.prepared import Prepared, Values
from collector.store.schema import (
    disk_attachments,
    image_members,
    image_versions,
    images,
    member_versions,
    observation_rows,
    schema_drift,
)
from collector.store.types import UtcDateTime

__all__ = ["Statements", "Write"]

_STATE: Final = tuple(name for name in State._fields if name in images.c)
_ITEM: Final = ("run_id", "lane_id", "image_pk")
_OBSERVATION: Final = tuple(c.name for c in observation_rows.c if not c.primary_key)
_VERSION: Final = (
    *("image_pk", "run_id", "account", "region", "valid_from"),
    *("fingerprint", "payload"),
)
_IMAGE: Final = tuple(column.name for column in IMAGE_COLUMNS)
_IMAGE_TIMES: Final = [n for n, c in enumerate(IMAGE_COLUMNS) if isinstance(c.type, UtcDateTime)]
_DISK: Final = tuple(column.name for column in DISK_COLUMNS)
_image_of, _disk_of = itemgetter(*_IMAGE), itemgetter(*_DISK)


class Write(NamedTuple):
    """A result with its lane, what it changes, and its time as the driver takes it."""

    key: LaneKey
    result: Result
    change: Change
    at: Any


class Statements:
    """Reads the images of a batch, and writes what their results change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read = self._compile_read()
        self._observe = database.prepare_update(observation_rows, _OBSERVATION, _ITEM)
        self._image = database.prepare_update(images, _STATE, ("id",))
        closing = ("closed_run_id", "valid_to", "last_confirmed_at")
        self._close = self._update_open(image_versions, closing)
        self._open = database.prepare_insert(insert(image_versions), (*_VERSION, *_IMAGE))
        self._disk = self._insert_child(disk_attachments, image_versions, _DISK)
        self._close_members = self._update_open(member_versions, closing[:2])
        self._confirm_members = self._update_open(member_versions, closing[2:])
        self._open_members = database.prepare_insert(
            insert(member_versions),
            ("image_pk", "run_id", "valid_from", "last_confirmed_at", "fingerprint", "payload"),
        )
        self._member = self._insert_child(
            image_members, member_versions, ("position", "pin", "login_name")
        )
        self._drift = self._upsert_drift()

    async def read_states(
        self, connection: AsyncConnection, batch: Sequence[Result]
    ) -> dict[int, State]:
        """The images of a batch as they are now; times stay in the driver's form."""
        ids = ",".join(str(pk) for pk in sorted(result.item.image_pk for result in batch))
        rows = await self._database.fetch(connection, f"{self._read} WHERE images.id IN ({ids})")
        return {row[0]: State._make(row[1:]) for row in rows}

    async def write(self, connection: AsyncConnection, batch: Sequence[Write]) -> None:
        """Write a batch of distinct images."""
        observed, states, closed, opened, disks = [], [], [], [], []
        for key, result, change, at in batch:
            item, image = result.item, result.image
            observed.append(_observation(result, at))
            if change.stale:
                continue
            states.append((*change.state[: len(_STATE)], item.image_pk))
            if change.closes:
                closed.append((item.run_id, at, change.confirmed_at, item.image_pk))
            if change.opens and image is not None:
                opened.append(self._version(key, item, image, at))
                disks += [(item.image_pk, at, *_disk_of(disk)) for disk in image.disks]
        # Rows are locked in the order of their keys, so that two writers cannot wait in a ring.
        await self._observe.run(connection, observed)
        await self._image.run(connection, sorted(states, key=itemgetter(-1)))
        await self._close.run(connection, closed)
        await self._open.run(connection, opened)
        await self._disk.run(connection, disks)
        await self._write_members(connection, batch)
        await self._drift.run(connection, _drift_rows(batch))

    def _version(self, key: LaneKey, item: Item, image: Normalized, at: Any) -> Values:
        content = list(_image_of(image.columns))
        for place in _IMAGE_TIMES:
            content[place] = self._database.time(content[place])
        identity = (item.image_pk, item.run_id, key.account, key.region, at)
        return (*identity, image.fingerprint, image.payload, *content)

    async def _write_members(self, connection: AsyncConnection, batch: Sequence[Write]) -> None:
        closed, opened, confirmed, pins = [], [], [], []
        for _, result, change, at in batch:
            item, members = result.item, result.members
            if change.closes_members:
                closed.append((item.run_id, at, item.image_pk))
            if members is None or members.payload is None or change.stale:
                continue
            if change.opens_members:
                content = (members.fingerprint, members.payload)
                opened.append((item.image_pk, item.run_id, at, at, *content))
                pins += [(item.image_pk, at, n, *pin) for n, pin in enumerate(members.pins, 1)]
            else:
                confirmed.append((at, item.image_pk))
        await self._close_members.run(connection, closed)
        await self._open_members.run(connection, opened)
        await self._member.run(connection, pins)
        await self._confirm_members.run(connection, confirmed)

    def _compile_read(self) -> str:
        versions, members = image_versions.c, member_versions.c
        join = images.outerjoin(
            image_versions, (versions.image_pk == images.c.id) & versions.valid_to.is_(None)
        ).outerjoin(member_versions, (members.image_pk == images.c.id) & members.valid_to.is_(None))
        state = (images.c[name] for name in _STATE)
        columns = (*state, versions.fingerprint, members.fingerprint.label("members"))
        query = select(*self._database.packed(images.c.id, *columns)).select_from(join)
        return str(query.compile(dialect=self._database.dialect))

    def _update_open(self, table: Table, names: Sequence[str]) -> Prepared:
        """An update of what an image has open."""
        only = [table.c.valid_to.is_(None)]
        return self._database.prepare_update(table, names, ("image_pk",), only=only)

    def _insert_child(self, table: Table, parent: Table, names: Sequence[str]) -> Prepared:
        """An insert under the parent that is known by its image and beginning."""
        where = (parent.c.image_pk == bindparam("of")) & (parent.c.valid_from == bindparam("since"))
        (foreign,) = (column for column in table.c if column.references(parent.c.id))
        values: dict[str, Any] = {name: bindparam(name) for name in names}
        values[foreign.name] = select(parent.c.id).where(where).scalar_subquery()
        return self._database.prepare(insert(table).values(values), ["of", "since", *names])

    def _upsert_drift(self) -> Prepared:
        names = [column.name for column in schema_drift.c]
        columns, given = schema_drift.c, self._database.given
        first, last, example = columns.first_seen_at, columns.last_seen_at, columns.example_image_id
        change = {  # another process may have written an older answer, or a newer one, before
            "seen": columns.seen + given(columns.seen),
            "first_seen_at": case((given(first) < first, given(first)), else_=first),
            "last_seen_at": case((given(last) > last, given(last)), else_=last),
            # Equal, too: MariaDB looks at what it assigned already.
            "example_image_id": case((given(first) <= first, given(example)), else_=example),
        }
        statement = self._database.upsert(schema_drift, ["id"], change)
        return self._database.prepare_insert(statement, names)


def _observation(result: Result, at: Any) -> Values:
    item, members = result.item, result.members
    answer = (result.http_status, result.error_code, result.error_message, result.request_id)
    measure = (result.attempts, result.duration_ms, at, members.outcome.value if members else None)
    return (result.outcome.value, *answer, *measure, item.run_id, item.lane_id, item.image_pk)


def _drift_rows(batch: Sequence[Write]) -> list[Values]:
    seen: dict[Drift, list[Any]] = {}
    for _, result, _, at in batch:
        for drift in result.image.drift if result.image is not None else ():
            row = seen.setdefault(drift, [at, at, 0, result.item.image_id])
            if at < row[0]:
                row[0], row[3] = at, result.item.image_id
            row[1] = max(row[1], at)
            row[2] += 1
    rows: list[Values] = []
    for drift, (first, last, count, example) in seen.items():
        name = "\0".join((drift.path, drift.json_type, drift.value or ""))
        name += "\0" if drift.value is None else ""
        digest = hashlib.sha256(name.encode()).hexdigest()
        what = (drift.path, drift.json_type, drift.value)
        rows.append((digest, *what, first, last, count, example))
    return sorted(rows, key=lambda row: str(row[0]))
