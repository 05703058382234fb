"""The fast way of `normalize`: an image that is all as documented, checked and written by msgspec.

It returns exactly what the careful way does, or None. The types are made from the same tables; a
null, an unknown field, an undocumented value or another type leaves the image to the careful way.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from types import GenericAlias
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from collector.canonical import canonical
from collector.documented import CLOUD, DISK, IMAGE, INT64, LOCAL, Field, Object, read_time
from collector.models import ColumnValue, Drift, Normalized

__all__ = ["ordinary"]

_TYPES: dict[type, Any] = {
    str: str,
    bool: bool,
    datetime: str,
    int: Annotated[int, msgspec.Meta(ge=INT64.start, le=INT64.stop - 1)],
}
_NOT_NULL = str | int | float | bool | dict[str, Any] | list[Any]


def _kind(field: Field) -> Any:
    return Literal[field.allowed] if field.allowed else _TYPES[field.kind]


def _strict(known: Object, **others: Any) -> Any:
    """An object whose fields have their types or are absent; written as it came, keys sorted."""
    kinds = {name: _kind(field) for name, field in known.fields.items()} | others
    fields = [(name, kind, None) for name, kind in sorted(kinds.items())]
    return msgspec.defstruct(
        "Strict", fields, forbid_unknown_fields=True, omit_defaults=True, gc=False
    )


_Local = _strict(LOCAL)
_Cloud = _strict(CLOUD, encrypt=bool)  # undocumented, and in the page's own example
_Disk = _strict(DISK, cloudDisk=_Cloud, localDisk=_Local)
_PARTS = {"imageId": str, "systemDisk": _Disk, "dataDisks": GenericAlias(list, (_Disk,))}
_OTHERS = IMAGE.others - _PARTS.keys()
"""What is documented without a column; it stays in `extra`, whatever it is but null."""

_Image = _strict(IMAGE, **_PARTS, **dict.fromkeys(_OTHERS, _NOT_NULL))

_encode = msgspec.json.Encoder(order="deterministic").encode
_columns = tuple(field.column for field in IMAGE.fields.values())
_values = attrgetter(*IMAGE.fields)
_TIMES = [(f.column, f"image.{n}") for n, f in IMAGE.fields.items() if f.kind is datetime]
_disk_values, _cloud_values = attrgetter(*DISK.fields), attrgetter(*CLOUD.fields)
_disk_columns = (
    *("role", "position"),
    *(field.column for known in (DISK, CLOUD) for field in known.fields.values()),
    "extra",
)
_EXTRA = {
    None: None,
    False: '{"cloudDisk":{"encrypt":false}}',
    True: '{"cloudDisk":{"encrypt":true}}',
}
_STRANGERS = (
    Drift("image.dataDisks[].cloudDisk.encrypt", "boolean"),
    Drift("image.systemDisk.cloudDisk.encrypt", "boolean"),
    Drift("image.uefiSupport", "boolean"),
)


def ordinary(image: Mapping[str, Any], time_zone: ZoneInfo) -> Normalized | None:
    """The image as the tables hold it; None when something about it is to be looked at."""
    try:
        found = msgspec.convert(image, _Image)
        payload = _encode(found)
        if b"\\u0000" in payload:  # NUL, or a text that looks like its escape
            return None
        columns: dict[str, ColumnValue] = dict(zip(_columns, _values(found), strict=True))
        for column, path in _TIMES:
            if columns[column] is not None:
                columns[column] = read_time(columns[column], time_zone, path)
        rest = {n: v for n in _OTHERS if (v := getattr(found, n)) is not None}
        columns["extra"] = canonical(rest) if rest else None
        disks = [] if found.systemDisk is None else [_disk(found.systemDisk, "system", 0)]
        disks += [_disk(disk, "data", place) for place, disk in enumerate(found.dataDisks or (), 1)]
    except (ValueError, RecursionError):
        return None
    strange = [disk["role"] for disk in disks if disk["extra"] is not None]
    drift = _drift("data" in strange, "system" in strange, found.uefiSupport is not None)
    digest = hashlib.sha256(payload).hexdigest()
    return Normalized(payload.decode(), digest, columns, tuple(disks), drift)


def _disk(disk: Any, role: str, position: int) -> dict[str, ColumnValue]:
    """A row of one disk.

    Raises:
        ValueError: it has both kinds of details.
    """
    cloud, local = disk.cloudDisk, disk.localDisk
    if local is None:
        cloud = cloud or _NO_CLOUD
    elif cloud is None:
        cloud = _Cloud(**{name: getattr(local, name) for name in LOCAL.fields})
    else:
        raise ValueError
    values = (role, position, *_disk_values(disk), *_cloud_values(cloud), _EXTRA[cloud.encrypt])
    return dict(zip(_disk_columns, values, strict=True))


_NO_CLOUD = _Cloud()


@lru_cache
def _drift(*noted: bool) -> tuple[Drift, ...]:
    return tuple(note for note, is_noted in zip(_STRANGERS, noted, strict=True) if is_noted)
