"""What changed in a period, field by field; and what differs between two versions.

A change is a moment at which a version of an image, or a list of its members, begins or ends.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.store.columns import DISK_COLUMNS, IMAGE_COLUMNS
from collector.store.engine import Database
from collector.store.reads import MANY, Record, load_lists, load_versions
from collector.store.schema import image_versions, images, member_versions
from collector.store.stream import pages

__all__ = [
    "Change",
    "Difference",
    "DiskChange",
    "FieldChange",
    "ListChange",
    "changes",
    "compare",
    "history",
    "latest",
    "moments",
]

_IMAGE: Final = tuple(str(c.name) for c in IMAGE_COLUMNS if c.name != "extra")
_DISK: Final = tuple(
    str(c.name) for c in DISK_COLUMNS if c.name not in {"role", "position", "extra"}
)
_NO_ID: Final = sa.literal_column("0", sa.BigInteger)
_ABSENT: Final = object()
_encode: Final = msgspec.json.Encoder(order="sorted").encode

_Path = tuple[str | int, ...]
_Pair = tuple[Record | None, Record | None]


class FieldChange(NamedTuple):
    """A field that differs; under `payload.` the values are JSON texts, None where it is absent."""

    field: str
    old: Any
    new: Any


class DiskChange(NamedTuple):
    """A disk that was `added`, `removed` or `changed`."""

    role: str
    position: int
    change: str
    fields: list[FieldChange]

    @property
    def part(self) -> str:
        """Which disk, such as `data 1`."""
        return f"{self.role} {self.position}"


class ListChange(NamedTuple):
    """A list of members that was `added`, `removed` or `changed`; a field is a `member`'s PIN."""

    change: str
    fields: list[FieldChange]


class Difference(NamedTuple):
    """What differs between two versions of an image."""

    fields: list[FieldChange]
    disks: list[DiskChange]


class Change(NamedTuple):
    """What happened to an image at one moment; as JSON has it once it is `plain`.

    Attributes:
        kind: `appeared`, `returned` (it had been gone), `changed`, `vanished`.
        run_id: the run that saw it.
        members: what became of the list of members.
    """

    at: datetime
    kind: str
    account: str
    region: str
    image_id: str
    name: str | None
    run_id: int
    fields: list[FieldChange]
    disks: list[DiskChange]
    members: ListChange | None


def compare(before: Record | None, after: Record | None) -> Difference:
    """What differs between two versions with their disks; None: there is none.

    Where no column and no field without one differs, the payloads do (a number that became a
    text, a null that was left out): then it is told in their terms.
    """
    found = Difference(list(_fields(before, after, _IMAGE)), [])
    old, new = ({_key(d): d for d in (r["disks"] if r else ())} for r in (before, after))
    for key in sorted({*old, *new}):
        fields = list(_fields(old.get(key), new.get(key), _DISK))
        there, here = key in old, key in new
        if fields or there != here:
            change = "changed" if there and here else "removed" if there else "added"
            role = "data" if key[0] else "system"
            found.disks.append(DiskChange(role, key[1], change, fields))
    if not any(found) and before and after:
        found.fields.extend(_payloads(before, after))
    return found


def compare_lists(before: Record | None, after: Record | None) -> ListChange:
    """What differs between two lists of members; None: none was known."""
    change = "changed" if before and after else "removed" if before else "added"
    old, new = ([_pin(pin) for pin in (r["pins"] if r else ())] for r in (before, after))
    fields = [FieldChange("member", pin, None) for pin in old if pin not in new]
    fields += [FieldChange("member", None, pin) for pin in new if pin not in old]
    if not fields and before and after:
        fields += _payloads(before, after)
    return ListChange(change, fields)


def _key(disk: Mapping[str, Any]) -> tuple[bool, int]:
    return disk["role"] != "system", disk["position"]


def _pin(row: Mapping[str, Any]) -> str:
    return f"{row['pin']} ({row['login_name']})" if row["login_name"] else str(row["pin"])


def _fields(
    before: Record | None, after: Record | None, names: Sequence[str]
) -> Iterator[FieldChange]:
    """Columns, then what has no column, that differ between two rows."""
    for name in names:
        old, new = (row[name] if row else None for row in (before, after))
        if old != new:
            yield FieldChange(name, old, new)
    olds, news = (row["extra"] if row else None for row in (before, after))
    for path, *leaves in _leaves_that_differ(olds, news):
        old, new = (None if leaf is _ABSENT else leaf for leaf in leaves)
        if not (old is None and new is None):  # left out, or null: the payloads tell
            yield FieldChange(f"extra{path}", old, new)


def _payloads(before: Record, after: Record) -> Iterator[FieldChange]:
    for path, *leaves in _leaves_that_differ(before["payload"], after["payload"]):
        old, new = (None if leaf is _ABSENT else _encode(leaf).decode() for leaf in leaves)
        yield FieldChange(f"payload{path}", old, new)


def _leaves_that_differ(olds: str | None, news: str | None) -> Iterator[tuple[str, Any, Any]]:
    """Path, old and new of what differs between two JSON texts."""
    if olds == news:
        return
    old, new = (dict(_leaves(msgspec.json.decode(t))) if t else {} for t in (olds, news))
    for path in {**old, **new}:
        was, now = old.get(path, _ABSENT), new.get(path, _ABSENT)
        # By their text: True, 1 and 1.0 are equal in Python, and not in JSON.
        if was is _ABSENT or now is _ABSENT or _encode(was) != _encode(now):
            steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
            yield "".join(steps), was, now


def _leaves(value: Any, path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    if isinstance(value, dict | list) and value:
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, (*path, step))
    else:
        yield path, value


def moments(
    of: Callable[[sa.ColumnElement[Any]], sa.ColumnElement[bool]],
) -> sa.CompoundSelect[Any]:
    """When versions (kind 0) and lists of members (kind 1) began or ended.

    Columns: at, image_pk, kind, and the ids `before` and `after`, of which one may be 0 or NULL.
    `of` says which moments, as a condition on the column of their time.
    """
    parts = [
        query
        for kind, table in enumerate((image_versions, member_versions))
        for query in _moments(table, sa.literal_column(str(kind), sa.Integer).label("kind"), of)
    ]
    return sa.union_all(*parts).order_by("at", "image_pk", "kind")


def _moments(table: sa.Table, kind: Any, of: Any) -> Iterator[sa.Select[Any]]:
    """The beginnings, each with what it follows; then the endings that nothing follows."""
    this, other = table.alias(), table.alias()
    t, o = this.c, other.c
    follows = (o.image_pk == t.image_pk) & (o.valid_to == t.valid_from)
    begun = (t.valid_from.label("at"), t.image_pk, kind, o.id.label("before"), t.id.label("after"))
    yield sa.select(*begun).select_from(this.outerjoin(other, follows)).where(of(t.valid_from))
    followed = sa.select(o.id).where(o.image_pk == t.image_pk, o.valid_from == t.valid_to)
    yield sa.select(t.valid_to, t.image_pk, kind, t.id, _NO_ID).where(
        t.valid_to.is_not(None), of(t.valid_to), ~followed.correlate(this).exists()
    )


def _between(since: datetime, until: datetime) -> sa.CompoundSelect[Any]:
    return moments(lambda at: (at >= since) & (at < until))


async def changes(database: Database, since: datetime, until: datetime) -> AsyncGenerator[Change]:
    """All changes of [since, until) in the order of their times; memory does not grow with them."""
    # Moments and details come over two connections: not every driver can do both over one. What
    # is read by id here was written before the moment was seen, and never changes.
    async with (
        database.read() as streaming,
        database.read() as connection,
        aclosing(pages(streaming, _between(since, until), MANY)) as rows,
    ):
        page: list[sa.Row[Any]] = []
        async for some in rows:
            for row in some:
                # The two rows of one moment stay together.
                if len(page) >= MANY and row[:2] != page[-1][:2]:
                    for change in await _details(connection, page):
                        yield change
                    page = []
                page.append(row)
        for change in await _details(connection, page):
            yield change


async def latest(
    connection: AsyncConnection, since: datetime, until: datetime, limit: int
) -> tuple[list[Change], int]:
    """The last changes of [since, until), the newest first, and how many there are in all."""
    found = _between(since, until).subquery()
    every = sa.select(found.c.at, found.c.image_pk).distinct().subquery()
    number = (await connection.execute(sa.select(sa.func.count()).select_from(every))).scalar_one()
    order = (found.c.at.desc(), found.c.image_pk.desc(), found.c.kind)
    # A moment of an image has two rows at most.
    rows = await connection.execute(sa.select(found).order_by(*order).limit(2 * limit))
    return (await _details(connection, rows))[:limit], number


async def _details(connection: AsyncConnection, rows: Iterable[sa.Row[Any]]) -> list[Change]:
    """Load what the rows of `moments` refer to, and compare it."""
    page: dict[tuple[datetime, int], dict[int, sa.Row[Any]]] = {}
    ids: tuple[set[int], set[int]] = (set(), set())
    for row in rows:
        page.setdefault((row.at, row.image_pk), {})[row.kind] = row
        ids[row.kind].update(filter(None, (row.before, row.after)))
    versions = await load_versions(connection, image_versions.c.id.in_(ids[0]))
    lists = await load_lists(connection, member_versions.c.id.in_(ids[1]))
    by_id = {v["id"]: v for v in versions}, {one["id"]: one for one in lists}
    query = sa.select(images).where(images.c.id.in_({pk for _, pk in page}))
    image = {row["id"]: dict(row) for row in (await connection.execute(query)).mappings()}
    names = await _names(connection, [key for key, kinds in page.items() if 0 not in kinds])
    found = []
    for (at, pk), kinds in page.items():
        pairs: list[_Pair] = [(None, None), (None, None)]
        for kind, row in kinds.items():
            pairs[kind] = (by_id[kind].get(row.before), by_id[kind].get(row.after))
        found.append(_change(at, image[pk], names.get((at, pk)), *pairs))
    return found


async def _names(
    connection: AsyncConnection, keys: Sequence[tuple[datetime, int]]
) -> dict[tuple[datetime, int], str | None]:
    """The names of images at moments at which only their members changed."""
    moments_of: dict[int, list[datetime]] = {}
    for at, pk in keys:
        moments_of.setdefault(pk, []).append(at)
    v = image_versions.c
    query = sa.select(v.image_pk, v.valid_from, v.name).where(v.image_pk.in_(moments_of))
    names: dict[tuple[datetime, int], str | None] = {}
    if keys:
        for pk, since, name in await connection.execute(query.order_by(v.valid_from)):
            names |= {(at, pk): name for at in moments_of[pk] if since <= at}
    return names


async def history(
    connection: AsyncConnection, image: Record
) -> tuple[list[Record], list[Record], list[Change]]:
    """All versions and lists of an image, as `reads.find` gives it, and what changed when."""
    versions = await load_versions(connection, image_versions.c.image_pk == image["id"])
    lists = await load_lists(connection, member_versions.c.image_pk == image["id"])
    found = await connection.execute(moments(lambda at: at.table.c.image_pk == image["id"]))
    return versions, lists, await _details(connection, found)


def _change(at: datetime, image: Record, name: str | None, versions: _Pair, lists: _Pair) -> Change:
    before, after = versions
    kind = "changed"
    if before is None and after is not None:
        first = image["first_seen_at"] or at  # NULL only where somebody made it that
        kind = "returned" if first < at else "appeared"
    elif after is None and before is not None:
        kind = "vanished"
    newest = after or lists[1]
    ended = before or lists[0]
    run_id = newest["run_id"] if newest else ended["closed_run_id"] if ended else 0
    if latest := after or before:
        name = latest["name"]
    members = compare_lists(*lists) if any(lists) else None
    identity = (image["account"], image["region"], image["image_id"])
    return Change(at, kind, *identity, name, run_id, *compare(before, after), members)
