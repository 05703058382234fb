"""How a command's results are written: values, differences and tables for people; files whole.

Whatever the inventory holds, a terminal only sees text: no control character, no endless line.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from collector.errors import UsageError
from collector.text import os_reason, printable

if TYPE_CHECKING:
    from collector.store.changes import Change, DiskChange, FieldChange, ListChange

__all__ = ["change_lines", "described", "moment", "output", "print_rows", "progress_line", "value"]

MAX_VALUE: Final = 160
"""Characters of a value that are shown."""

_COLOURS: Final = {"appeared": "green", "returned": "green", "changed": "yellow", "vanished": "red"}
_SIGNS: Final = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def moment(time: datetime | None) -> str:
    """A time for a person, in full: handed back with `--at`, a second cut short asks of before."""
    return "never" if time is None else f"{time.replace(tzinfo=None)} UTC"


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
    fields = [_field(field) for field in change.fields]
    if change.kind != "changed":
        fields = [", ".join(fields)]
    yield from (f"  {field}" for field in fields)
    yield from (f"  {_part(f'disk {disk.part}', disk)}" for disk in change.disks)
    if change.members:
        yield f"  {_part('members', change.members)}"


def described(disk: dict[str, Any]) -> str:
    """A disk in one line."""
    facts = (f"{name} {value(found)}" for name, found in disk.items() if found is not None)
    return ", ".join(facts)


def _part(name: str, part: "DiskChange | ListChange") -> str:
    sign, colour = _SIGNS[part.change]
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


def print_rows(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table to standard output; numbers stand at the right, no long word is cut.

    A cell may be a rich `Text`, to have a colour.
    """
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    found = [list(row) for row in rows]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for index, name in enumerate(names):
        numeric = all(isinstance(row[index], int | float) for row in found)
        table.add_column(name, justify="right" if numeric and found else "left", overflow="fold")
    for row in found:
        cells = ("-" if cell is None else cell for cell in row)
        table.add_row(*(c if isinstance(c, Text) else Text(printable(str(c))) for c in cells))
    Console(file=sys.stdout, highlight=False).print(table if found else "(none)")


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done, in one line of a terminal on standard error."""

    def show(text: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)

    yield show
    show("")


@contextmanager
def output(path: Path | None) -> Iterator[BinaryIO]:
    """A stream whose content is at `path` once the block ended well; None: standard output.

    The file is written beside its place under another name and renamed (mode 0600). What is
    there and is no regular file (a pipe, a device) is written as it is.

    Raises:
        UsageError: it cannot be created there.
    """
    if path is None:
        yield sys.stdout.buffer
        return
    path = Path(os.path.realpath(path))
    try:
        stream, temporary = _open(path)
    except OSError as error:
        where = printable(str(path))
        raise UsageError(f"--output: cannot write {where}: {os_reason(error)}") from None
    try:
        with stream:
            yield stream
            if temporary is not None:
                stream.flush()
                os.fsync(stream.fileno())
        if temporary is not None:
            temporary.replace(path)
    except BaseException:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


def _open(path: Path) -> tuple[BinaryIO, Path | None]:
    if path.exists() and not path.is_file():
        return path.open("wb"), None
    number, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    return os.fdopen(number, "wb"), Path(name)
