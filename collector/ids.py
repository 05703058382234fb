"""Image ids, regions and the lines that carry them; the syntax is that of the public contract."""

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from collector.errors import CollectorError, UsageError
from collector.text import shown

__all__ = [
    "NAME_ALLOWED",
    "PUBLISHED_REGIONS",
    "REGION_ALLOWED",
    "id_problem",
    "parse_reference",
    "read_ids",
    "region_problem",
]

PUBLISHED_REGIONS: Final = ("cn-north-1", "cn-east-1", "cn-east-2", "cn-south-1")
"""The regions that JD Cloud's documentation names; any other one only warns."""

NAME_ALLOWED: Final = "1 to 64 of letters, digits, '-' and '_'"
REGION_ALLOWED: Final = "1 to 64 of lower-case letters, digits and '-'"

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_MAX_LINE_BYTES: Final = 4096
"""A longer line is no id and is not read to its end."""

_END = rb"[ \t]*(?:[ \t]#[^\x00\n]*)?\r?\n?"
_LINE = re.compile(rb"[ \t]*(?:([a-z0-9-]{1,64})/)?([A-Za-z0-9_-]{1,64})" + _END)
_EMPTY_LINE = re.compile(rb"[ \t]*(?:#[^\x00\n]*)?\r?\n?")


def _problem(text: str, pattern: re.Pattern[str], allowed: str) -> str | None:
    if pattern.fullmatch(text):
        return None
    start = pattern.match(text)
    at = start.end() if start else 0
    if not text:
        where = "is empty"
    elif at == 64:  # noqa: PLR2004 — the length that both patterns allow
        where = f"has {len(text)} characters"
    else:
        where = f"has {text[at]!r} at position {at + 1}"
    return f"found {shown(text)}, which {where}; allowed: {allowed}"


def id_problem(text: str) -> str | None:
    """What is wrong with an image id or an account's name, in words; None when nothing is."""
    return _problem(text, _ID, NAME_ALLOWED)


def region_problem(text: str) -> str | None:
    """What is wrong with a region's syntax, in words; None when nothing is."""
    return _problem(text, _REGION, REGION_ALLOWED)


def parse_reference(
    text: str, *, where: str = "REGION/ID", error: type[CollectorError] = UsageError
) -> tuple[str, str]:
    """Split `REGION/ID`.

    Raises:
        CollectorError: `error`, with `where`, what was found and what is allowed.
    """
    region, slash, image_id = text.partition("/")
    if not slash:
        raise error(f"{where}: found {shown(text)}; allowed: REGION/ID, as cn-north-1/img-abc")
    if problem := region_problem(region) or id_problem(image_id):
        raise error(f"{where}: {problem}")
    return region, image_id


def read_ids(
    stream: BinaryIO,
    *,
    name: str,
    region: str | None = None,
    error: type[CollectorError] = UsageError,
) -> Iterator[tuple[str, str]]:
    """Read (region, id), one a line, as they come; blank lines and `#` comments are skipped.

    A comment is a whole line, or what follows white space and `#`.

    Args:
        stream: a binary file.
        name: what an error calls the stream.
        region: of every line, which is an id then; None: a line is `REGION/ID`.
        error: what a malformed line raises: for a file that the configuration names
            `ConfigurationError`, on the command line `UsageError`.

    Raises:
        CollectorError: `error`, with the line's number, what was found and what is allowed.
    """
    lines = iter(lambda: stream.readline(_MAX_LINE_BYTES + 1), b"")
    for number, raw in enumerate(lines, start=1):
        content = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        short = len(content) <= _MAX_LINE_BYTES
        match = _LINE.fullmatch(content) if short else None
        if match and (match[1] is None) == (region is not None):
            yield region or match[1].decode("ascii"), match[2].decode("ascii")
        elif not (short and _EMPTY_LINE.fullmatch(content)):
            where = f"{name}: line {number}"
            text = _decoded(content, where, error)
            if region is None:
                yield parse_reference(text, where=where, error=error)
            elif problem := id_problem(text):
                raise error(f"{where}: {problem}")
            else:
                yield region, text


def _decoded(content: bytes, where: str, error: type[CollectorError]) -> str:
    """The line without comment and outer white space; it is odd, and perhaps no text at all."""
    if len(content) > _MAX_LINE_BYTES:
        raise error(f"{where}: found over {_MAX_LINE_BYTES} bytes; allowed: one id a line")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as problem:
        at = problem.start
    else:
        if "\0" not in text:
            return re.split(r"\s#", text, maxsplit=1)[0].strip()
        at = content.index(0)
    raise error(f"{where}: found byte {content[at]:#04x} at {at + 1}; allowed: UTF-8 text")
