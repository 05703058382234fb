"""How a command's results are written: values, differences and tables for people; files whole.

Whatever the inventory holds, a terminal only sees text: no control character, no endless line.
"""

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from collector.errors import UsageError
from collector.text import os_reason, printable

if TYPE_CHECKING:
    from collector.store.changes import Change, DiskChange, FieldChange, ListChange

__all__ = [
    "FIGURES",
    "change_lines",
    "create",
    "described",
    "figures",
    "moment",
    "output",
    "print_rows",
    "progress_line",
    "value",
]

MAX_VALUE: Final = 160
"""Characters of a value that are shown."""

TICK_S: Final = 1.0
"""What takes this long is shown with its seconds, as often."""

FIGURES: Final = ("planned", "present", "not found", "failed", "coverage")
_NUMBER: Final = re.compile("-|-?[0-9][0-9,.]*%?")
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

    A cell may be a rich `Text`, to have a style. Only a terminal's width breaks lines.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    found = [["-" if cell is None else cell for cell in row] for row in rows]
    if not found:
        click.echo("(none)")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name, column in zip(names, zip(*found, strict=True), strict=True):
        numeric = all(_NUMBER.fullmatch(str(cell)) for cell in column)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in found:
        table.add_row(*(c if isinstance(c, Text) else Text(printable(str(c))) for c in row))
    width = None if sys.stdout.isatty() else 10_000
    console = Console(file=sys.stdout, highlight=False, width=width)
    with console.capture() as text:  # writing it itself, rich ends the process when nobody reads
        console.print(table)
    click.echo(text.get(), nl=False)


def figures(lane: Mapping[str, Any]) -> list[str]:
    """What a table tells of a row of `run_coverage`, under `FIGURES`."""
    counts = [f"{lane[name]:,}" for name in ("planned", "present", "not_found", "failed")]
    return [*counts, f"{lane['coverage']:.1%}" if lane["planned"] else "-"]


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done in one line of a terminal on standard error.

    What takes longer than a second is shown with the seconds that it took so far.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    said, since = "", 0.0

    def show(text: str) -> None:
        nonlocal said, since
        said, since = text, time.monotonic()
        click.echo(f"\r\x1b[K{said}", err=True, nl=False)

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if said and (took_s := time.monotonic() - since) >= TICK_S:
                click.echo(f"\r\x1b[K{said}, {took_s:.0f} s", err=True, nl=False)

    ticking = asyncio.ensure_future(tick())
    try:
        yield show
    finally:
        ticking.cancel()
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
    real = Path(os.path.realpath(path))
    if real.exists() or not path.exists():  # not of a pipe: `/dev/stdout` leads to no file's name
        path = real
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


def create(path: Path, content: bytes) -> None:
    """Make a file that is its owner's alone (mode 0600): it may hold a password.

    Raises:
        UsageError: there is something already, or none can be made there.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists already; nothing was written") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be written: {os_reason(error)}") from None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def _open(path: Path) -> tuple[BinaryIO, Path | None]:
    if path.exists() and not path.is_file():
        return path.open("wb"), None
    number, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    return os.fdopen(number, "wb"), Path(name)
