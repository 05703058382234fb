"""Builders of columns, and the columns that hold what the API says of an image and of a disk."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, text

from collector.documented import CLOUD, DISK, IMAGE, LOCAL, Field
from collector.store.types import BIG_ID, LONG_TEXT, WORD, UtcDateTime

__all__ = ["DISK_COLUMNS", "FLAG", "IMAGE_COLUMNS", "count", "fk", "key", "time"]

FLAG = Boolean(create_constraint=False)
"""True, false, or NULL: not said."""


def key() -> Column[int]:
    """A surrogate key."""
    return Column("id", BIG_ID, primary_key=True, autoincrement=True, doc="Surrogate key.")


def fk(name: str, target: str, doc: str, **options: Any) -> Column[int]:
    """A foreign key."""
    return Column(name, BigInteger, ForeignKey(target), doc=doc, **options)


def count(name: str, doc: str) -> Column[int]:
    """A counter that starts at 0."""
    return Column(name, BigInteger, nullable=False, server_default=text("0"), doc=doc)


def time(name: str, doc: str, *, nullable: bool = True) -> Column[Any]:
    """A point in time."""
    return Column(name, UtcDateTime, nullable=nullable, doc=doc)


def _api(name: str, field: Field, *objects: str) -> Column[Any]:
    """A column that holds the field `name` of the API."""
    path = ", ".join(f"{of}{name}" for of in objects or ("",))
    return Column(field.column, _SQL[field.kind], doc=field.doc, info={"api": path})


def _extra(path: str) -> Column[Any]:
    doc = "Canonical JSON of the fields that have no column; NULL when there are none."
    return Column("extra", LONG_TEXT, doc=doc, info={"api": path})


_SQL: Final[dict[type, Any]] = {
    str: LONG_TEXT,
    int: BigInteger,
    bool: FLAG,
    datetime: UtcDateTime,
}

IMAGE_COLUMNS: Final[tuple[Column[Any], ...]] = (
    *(_api(name, field, "image.") for name, field in IMAGE.fields.items()),
    _extra("image.*"),
)
"""What `image_versions` holds of an image beside its payload."""

DISK_COLUMNS: Final[tuple[Column[Any], ...]] = (
    Column("role", WORD, nullable=False, doc="`system` or `data`."),
    Column(
        "position",
        Integer,
        nullable=False,
        doc="0 for the system disk, 1… for data disks in the API's order.",
    ),
    *(_api(name, field) for name, field in DISK.fields.items()),
    *(
        _api(name, field, "cloudDisk.", *(["localDisk."] if name in LOCAL.fields else []))
        for name, field in CLOUD.fields.items()
    ),
    _extra("*"),
)
"""What `disk_attachments` holds of a disk."""
