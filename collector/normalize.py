"""One `image` object of the API into columns, disks and drift, and JSON into its canonical text.

What is documented is what the describeImage page or the official SDK's models name; drift is the
rest. A field that was left out, or is null, is None: nothing is ever made up.

- A value of another JSON type is read when it plainly means one ("40", 40.0, "true", 1, a number
  for a text) and noted; what cannot be read leaves the column None, is noted, and stays in `extra`.
- What has no column stays in `extra`, under its API names; what is undocumented is noted.
- A value outside its documented set is stored as it is, and noted with the value.
- Times without a zone are read in the given one; where clocks are set back, the first reading.
- NUL is U+FFFD in a column (no database takes it everywhere); the payload keeps it, escaped.

The result depends on payload and time zone alone, so that a stored version can be derived again.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from types import NoneType
from typing import Any
from zoneinfo import ZoneInfo

from collector.canonical import NotCanonical, canonical, fingerprint
from collector.documented import CLOUD, DISK, IMAGE, INT64, LOCAL, Field, Object, read_time
from collector.models import ColumnValue, Drift, Normalized
from collector.ordinary import ordinary

__all__ = ["NotCanonical", "canonical", "careful", "fingerprint", "members", "normalize"]

MAX_VALUE = 200
"""Characters of an unknown value, or of an unknown key, that a drift row holds."""

_JSON_TYPES: dict[type, str] = {str: "string", int: "number", float: "number", bool: "boolean"}
_JSON_TYPES |= {dict: "object", list: "array", NoneType: "null"}


_DETAILS = ("localDisk", LOCAL), ("cloudDisk", CLOUD)

_NO_IMAGE: dict[str, ColumnValue] = {f.column: None for f in IMAGE.fields.values()}
_NO_DISK: dict[str, ColumnValue] = {"role": None, "position": None}
_NO_DISK |= {f.column: None for f in (*DISK.fields.values(), *CLOUD.fields.values())}


def normalize(image: Mapping[str, Any], *, time_zone: ZoneInfo) -> Normalized:
    """Return an `image` object, as JSON decodes to, as the tables hold it.

    Raises:
        NotCanonical: see `canonical`; nothing else is raised, whatever the object contains.
    """
    return ordinary(image, time_zone) or careful(image, time_zone)


def careful(image: Mapping[str, Any], time_zone: ZoneInfo) -> Normalized:
    """The same, whatever the object contains; `ordinary` is only faster.

    Raises:
        NotCanonical: see `canonical`.
    """
    payload = canonical(image)
    reader = _Reader(time_zone)
    columns = _NO_IMAGE.copy()
    rest = reader.fields("image.", image, IMAGE, columns)
    if type(rest.pop("imageId", None)) not in (str, NoneType):
        reader.note("image.imageId", image["imageId"])

    disks = []
    system = rest.get("systemDisk")
    if isinstance(system, dict):
        disks.append(reader.disk("image.systemDisk.", system, "system", 0))
        del rest["systemDisk"]
    elif system is not None:
        reader.note("image.systemDisk", system)

    items = rest.pop("dataDisks", [])
    if isinstance(items, list):
        for position, item in enumerate(items, 1):
            if isinstance(item, dict):
                disks.append(reader.disk("image.dataDisks[].", item, "data", position))
            else:
                reader.note("image.dataDisks[]", item)
        items = [item for item in items if not isinstance(item, dict)]
    else:
        reader.note("image.dataDisks", items)
    if items != []:
        rest["dataDisks"] = items

    columns["extra"] = _extra(rest)
    return Normalized(payload, fingerprint(payload), columns, tuple(disks), reader.drift())


def members(result: Mapping[str, Any]) -> tuple[str, str, tuple[tuple[str, str | None], ...]]:
    """Return payload, fingerprint and (pin, login name or None) of a describeImageMembers result.

    A login name belongs to the pin of its place, when there are as many of both.

    Raises:
        NotCanonical: see `canonical`.
    """
    payload = canonical(result)
    pins, names = result.get("pins"), result.get("loginNames")
    if not isinstance(pins, list):
        return payload, fingerprint(payload), ()
    if not isinstance(names, list) or len(names) != len(pins):
        names = [None] * len(pins)
    pairs = ((_member(pin), _member(name)) for pin, name in zip(pins, names, strict=True))
    found = tuple((pin, name) for pin, name in pairs if pin is not None)
    return payload, fingerprint(payload), found


class _Reader:
    """Reads one image's objects, and collects what is to be noted."""

    __slots__ = ("_notes", "_time_zone")

    def __init__(self, time_zone: ZoneInfo) -> None:
        self._time_zone = time_zone
        self._notes: dict[tuple[str, str, str | None], None] = {}

    def note(self, path: str, found: object, value: str | None = None) -> None:
        """Note what was found at a path, with the value when it is outside its documented set."""
        if value is not None:
            value = value[:MAX_VALUE].replace("\0", "\ufffd")
        self._notes[(path, _JSON_TYPES[type(found)], value)] = None

    def drift(self) -> tuple[Drift, ...]:
        """Return the notes, sorted, so that the order of keys does not matter."""
        notes = sorted(self._notes, key=lambda note: (note[0], note[1], note[2] or ""))
        return tuple([_drift(*note) for note in notes])

    def fields(
        self, path: str, source: Mapping[str, Any], known: Object, row: dict[str, ColumnValue]
    ) -> dict[str, Any]:
        """Read an object's fields into a row, and return what did not find its column."""
        fields, others = known
        rest: dict[str, Any] = {}
        for key, value in source.items():
            field = fields.get(key)
            if field is None:
                if key not in others:
                    self.note(path + key[:MAX_VALUE].replace("\0", "\ufffd"), value)
                elif value is None:
                    continue
                rest[key] = value
                continue
            column, kind, _, allowed, documented = field
            if not documented:
                self.note(path + key, value)
            if type(value) is kind and (
                ("\0" not in value and (allowed is None or value in allowed))
                if kind is str
                else kind is bool or value in INT64
            ):
                row[column] = value
            elif value is not None and not self._odd(path + key, value, field, row):
                rest[key] = value
        return rest

    def _odd(self, path: str, value: Any, field: Field, row: dict[str, ColumnValue]) -> bool:
        """Read what is not plainly what its column holds; return whether that was possible."""
        kind = field.kind
        found: ColumnValue
        try:
            found = (
                read_time(value, self._time_zone, path) if kind is datetime else _READ[kind](value)
            )
        except ValueError:
            self.note(path, value)
            return False
        outside = field.allowed is not None and found not in field.allowed
        if outside or kind is not datetime:
            self.note(path, value, str(found) if outside else None)
        if isinstance(found, str) and "\0" in found:
            self.note(path, value)
            found = found.replace("\0", "\ufffd")
        row[field.column] = found
        return True

    def disk(
        self, path: str, disk: Mapping[str, Any], role: str, position: int
    ) -> dict[str, ColumnValue]:
        """Read one InstanceDiskAttachment; the details come from cloudDisk or localDisk."""
        row = _NO_DISK.copy()
        row["role"] = role
        row["position"] = position
        rest = self.fields(path, disk, DISK, row)
        chosen = False
        for name, known in _DETAILS if row["disk_category"] == "local" else reversed(_DETAILS):
            found = rest.get(name)
            if isinstance(found, dict):
                left = self.fields(f"{path}{name}.", found, known, {} if chosen else row)
                if not chosen:
                    chosen = True
                    rest[name] = left
                    if not left:
                        del rest[name]
            elif found is not None:
                self.note(path + name, found)
        row["extra"] = _extra(rest)
        return row


_drift = lru_cache(maxsize=1024)(Drift)  # the same few come with every image


def _extra(rest: Mapping[str, Any]) -> str | None:
    """Return canonical JSON of what is left; None when nothing is."""
    return canonical(rest) if rest else None


_INTEGER = re.compile(r"([+-]?[0-9]{1,40})(?:\.0+)?")


def _integer(value: object) -> int:
    if isinstance(value, str) and (match := _INTEGER.fullmatch(value.strip())):
        value = int(match[1])
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or value not in INT64:
        raise ValueError
    return value


_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def _boolean(value: object) -> bool:
    found = _BOOLEANS.get(_text(value).strip().lower())
    if found is None:
        raise ValueError
    return found


def _text(value: object) -> str:
    """Return a scalar as the payload writes it."""
    if isinstance(value, dict | list):
        raise ValueError  # noqa: TRY004 - one class for all that is unreadable
    return value if isinstance(value, str) else canonical(value)


_READ: dict[type, Callable[[object], ColumnValue]] = {int: _integer, bool: _boolean, str: _text}


def _member(value: object) -> str | None:
    if value is None or isinstance(value, dict | list):
        return None
    return _text(value).replace("\0", "\ufffd")
