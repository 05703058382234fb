"""The public views, as SQLAlchemy selects; only what means the same on every database is used.

Views carry no rows of their own: they are dropped before a migration and created again at head.
Read them through `VIEWS[name]`, whose columns are typed, so that every database answers alike.
"""

from sqlalchemy import Column, MetaData, Select, Table, case, func, literal_column, or_, select
from sqlalchemy.sql.ddl import CreateView

from collector.store.columns import DISK_COLUMNS, IMAGE_COLUMNS
from collector.store.schema import (
    disk_attachments,
    image_members,
    image_versions,
    images,
    lanes,
    member_versions,
    observation_rows,
    run_lanes,
)
from collector.store.types import as_double

__all__ = ["CONFIRMED", "CREATE_VIEWS", "VIEWS"]

_i, _v, _d, _o, _l = images.c, image_versions.c, disk_attachments.c, observation_rows.c, lanes.c
_IDENTITY = (_i.account, _i.region, _i.image_id)

CONFIRMED = case((_v.valid_to.is_(None), _i.last_seen_at), else_=_v.last_confirmed_at).label(
    "last_confirmed_at"
)
"""When a version was seen last: an open one is confirmed by its image alone."""

_versions = images.join(image_versions, _v.image_pk == _i.id)
_disks = _versions.join(disk_attachments, _d.image_version_id == _v.id)
_members = images.join(member_versions, member_versions.c.image_pk == _i.id).join(
    image_members, image_members.c.member_version_id == member_versions.c.id
)


def _observations() -> Select[tuple[object, ...]]:
    rest = [c for c in _o if not c.primary_key]
    source = observation_rows.join(lanes, _l.id == _o.lane_id).join(images, _i.id == _o.image_pk)
    return select(_o.run_id, _l.account, _l.region, _i.image_id, *rest).select_from(source)


def _run_coverage() -> Select[tuple[object, ...]]:
    counts = run_lanes.c
    share = as_double(counts.present + counts.not_found).op("/")(as_double(counts.planned))
    return select(
        *(counts.run_id, _l.account, _l.region),
        *(counts[name] for name in ("planned", "present", "not_found", "failed")),
        case((counts.planned > 0, share), else_=as_double(literal_column("1"))).label("coverage"),
    ).select_from(run_lanes.join(lanes, _l.id == counts.lane_id))


def _unread_images() -> Select[tuple[object, ...]]:
    never = literal_column("'not_attempted'", _i.last_outcome.type)
    return select(
        *_IDENTITY,
        _i.state,
        case((_i.last_outcome.is_(None), never), else_=_i.last_outcome).label("outcome"),
        func.coalesce(_i.failing_since, _i.first_planned_at).label("since"),
        _i.last_seen_at,
        _i.last_checked_at,
    ).where(or_(_i.failing_since.is_not(None), _i.last_checked_at.is_(None)))


_SELECTS: dict[str, Select[tuple[object, ...]]] = {
    "observations": _observations(),
    "current_images": select(*_IDENTITY, _i.state, *IMAGE_COLUMNS, _i.last_seen_at)
    .select_from(_versions)
    .where(_v.valid_to.is_(None)),
    "current_disks": select(*_IDENTITY, *DISK_COLUMNS)
    .select_from(_disks)
    .where(_v.valid_to.is_(None)),
    "current_members": select(
        *_IDENTITY,
        *(image_members.c.position, image_members.c.pin, image_members.c.login_name),
        member_versions.c.last_confirmed_at,
    )
    .select_from(_members)
    .where(member_versions.c.valid_to.is_(None)),
    "image_history": select(
        *(*_IDENTITY, _v.valid_from, _v.valid_to, CONFIRMED, *IMAGE_COLUMNS),
        *(_v.fingerprint, _v.run_id, _v.closed_run_id),
    ).select_from(_versions),
    "disk_history": select(*_IDENTITY, _v.valid_from, _v.valid_to, *DISK_COLUMNS).select_from(
        _disks
    ),
    "run_coverage": _run_coverage(),
    "unread_images": _unread_images(),
}

CREATE_VIEWS = {name: CreateView(query, name) for name, query in _SELECTS.items()}
"""The DDL of each view, in an order in which they can be created."""

_metadata = MetaData()
VIEWS: dict[str, Table] = {
    name: Table(name, _metadata, *(Column(c.name, c.type) for c in query.selected_columns))
    for name, query in _SELECTS.items()
}
"""Each view as a table to select from."""
