"""Builders of columns, and the columns that hold what the API says of an image and of a disk."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, text

from collector.documented import CLOUD, DISK, IMAGE, LOCAL, Field
from collector.store.types import BIG_ID, LONG_TEXT, TIME, WORD

__all__ = ["DISK_COLUMNS", "FLAG", "IMAGE_COLUMNS", "column", "count", "fk", "key", "optional"]

FLAG = Boolean(create_constraint=False)
"""True, false, or NULL: not said."""


def optional(name: str, kind: Any, doc: str, *, api: str = "", **options: Any) -> Column[Any]:
    """A column that may be NULL; `api` is the field of the API that it holds."""
    return Column(name, kind, doc=doc, info={"api": api} if api else {}, **options)


def column(name: str, kind: Any, doc: str, *, api: str = "", **options: Any) -> Column[Any]:
    """A column that is never NULL."""
    return optional(name, kind, doc, api=api, nullable=False, **options)


def key() -> Column[int]:
    """A surrogate key."""
    return column("id", BIG_ID, "Surrogate key.", primary_key=True, autoincrement=True)


def fk(name: str, target: str, doc: str, *, nullable: bool = False, **options: Any) -> Column[int]:
    """A foreign key."""
    return Column(name, BigInteger, ForeignKey(target), nullable=nullable, doc=doc, **options)


def count(name: str, doc: str) -> Column[int]:
    """A counter that starts at 0."""
    return column(name, BigInteger, doc, server_default=text("0"))


def _api(name: str, field: Field, *objects: str) -> Column[Any]:
    """A column that holds the field `name` of the API."""
    path = ", ".join(f"{of}{name}" for of in objects or ("",))
    return optional(field.column, _SQL[field.kind], field.meaning, api=path)


def _extra(path: str) -> Column[Any]:
    doc = "Canonical JSON of the fields that no column holds; NULL when there are none."
    return optional("extra", LONG_TEXT, doc, api=path)


_SQL: Final[dict[type, Any]] = {str: LONG_TEXT, int: BigInteger, bool: FLAG, datetime: TIME}

IMAGE_COLUMNS: Final[tuple[Column[Any], ...]] = (
    *(_api(name, field, "image.") for name, field in IMAGE.fields.items()),
    _extra("image.*"),
)
"""What `image_versions` holds of an image beside its payload."""

DISK_COLUMNS: Final[tuple[Column[Any], ...]] = (
    column("role", WORD, "`system` or `data`."),
    column("position", Integer, "0 for the system disk, 1… for data disks in the API's order."),
    *(_api(name, field) for name, field in DISK.fields.items()),
    *(
        _api(name, field, "cloudDisk.", *(["localDisk."] if name in LOCAL.fields else []))
        for name, field in CLOUD.fields.items()
    ),
    _extra("*"),
)
"""What `disk_attachments` holds of a disk."""
