"""What differs between two versions, on a terminal: a line a field, no line a control character."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from collector.text import printable

if TYPE_CHECKING:
    from collector.store.changes import Change, FieldChange, PartChange

__all__ = ["change_lines", "described", "moment", "value"]

MAX_VALUE: Final = 160
"""Characters of a value that are shown."""

_COLOURS: Final = {"appeared": "green", "returned": "green", "changed": "yellow", "vanished": "red"}
_SIGNS: Final = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def moment(time: datetime | None) -> str:
    """A time for a person, to the second."""
    return "never" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def value(found: Any) -> str:
    """A value for a person: no control character, not without end; `-` for NULL."""
    match found:
        case None:
            return "-"
        case bool():
            return str(found).lower()
        case datetime():
            return moment(found)
        case str():
            text = printable(found)
            return f"{text[:MAX_VALUE]}…" if len(text) > MAX_VALUE else text or '""'
        case _:
            return value(str(found))


def change_lines(change: "Change") -> Iterator[str]:
    """A change: what happened to which image; then a line for each field, disk and list."""
    kind = click.style(change.kind, fg=_COLOURS[change.kind], bold=True)
    name = f" {value(change.name)}" if change.name else ""
    where = printable(f"{change.account} {change.region}/{change.image_id}")
    yield f"{moment(change.at)} {kind} {where}{name} (run {change.run_id})"
    if change.kind == "vanished":
        return
    fields = [_field(field) for field in change.difference.fields]
    if change.kind != "changed":
        fields = [", ".join(fields)]
    yield from (f"  {field}" for field in fields)
    for part in [*change.difference.disks, *([change.members] if change.members else [])]:
        yield f"  {_part(part)}"


def described(disk: dict[str, Any]) -> str:
    """A disk in one line."""
    facts = (f"{name} {value(found)}" for name, found in disk.items() if found is not None)
    return ", ".join(facts)


def _part(part: "PartChange") -> str:
    sign, colour = _SIGNS[part.change]
    name = part.part if part.part == "members" else f"disk {part.part}"
    told = ", ".join(_field(field, part.change) for field in part.fields)
    return f"{click.style(sign, fg=colour)} {name} {part.change}: {told or 'none'}"


def _field(field: "FieldChange", change: str = "") -> str:
    name = printable(field.field)
    old, new = click.style(value(field.old), fg="red"), click.style(value(field.new), fg="green")
    if field.field == "member":
        return f"{old} removed" if field.new is None else f"{new} added"
    if field.old is None or change == "removed":
        return f"{name} {new if field.old is None else old}"
    return f"{name} {old} → {new}"
