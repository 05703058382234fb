"""What of a text may be shown to a person: no secret, no control character, no endless line."""

import json
import os
import re
from base64 import b64encode
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final
from urllib.parse import quote, unquote

__all__ = [
    "counted",
    "harmless_json",
    "nearest",
    "os_reason",
    "passwords_of",
    "printable",
    "redact",
    "redacted_url",
    "scrub",
    "shown",
]

MASK: Final = "***"

_SECRETS: list[str] = []
"""Texts that must never be shown, the longest first; kept for the life of the process."""

_URL_PASSWORD = re.compile(r"(://[^\s:/@]*):\S*@")
_WHOLE_URL_PASSWORD = re.compile(r"(://[^:/@]*):.*@", re.DOTALL)
_QUERY_SECRET = re.compile(r"([?&][^=&\s]*(?:pass|secret|token)[^=&\s]*=)([^&\s]*)", re.IGNORECASE)
_HEADER = re.compile(
    r"((?:authorization|security[-_]?token|secret[-_]?key)['\"]?\s*[:=,]\s*['\"]?)[^'\"\r\n]+",
    re.IGNORECASE,
)
_IN_JSON = re.compile(
    "[\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)
"""Control and format characters, and the two that end a line."""

_SIGNATURE = re.compile(r"(signature=)[^\s,'\"]+", re.IGNORECASE)


def redact(*secrets: str | None) -> None:
    """Never show these texts again, nor their quoted, escaped and base64 forms."""
    for secret in filter(None, secrets):
        forms = {
            secret,
            quote(secret, safe=""),
            repr(secret)[1:-1],
            json.dumps(secret)[1:-1],
            b64encode(secret.encode(errors="surrogatepass")).decode(),
        }
        _SECRETS[:] = sorted({*_SECRETS, *forms}, key=len, reverse=True)


def scrub(text: str) -> str:
    """Mask registered secrets, passwords in URLs, tokens, signatures and authorization headers."""
    for secret in _SECRETS:
        if secret in text:
            text = text.replace(secret, MASK)
    text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    text = _QUERY_SECRET.sub(rf"\1{MASK}", text)
    text = _HEADER.sub(rf"\1{MASK}", text)
    return _SIGNATURE.sub(rf"\1{MASK}", text)


def redacted_url(url: str) -> str:
    """The URL with every password in it masked; masks too much rather than too little."""
    return _QUERY_SECRET.sub(rf"\1{MASK}", _WHOLE_URL_PASSWORD.sub(rf"\1:{MASK}@", url))


def passwords_of(url: str) -> list[str]:
    """Every password that stands in the URL, as written and percent-decoded, for `redact`."""
    found = [
        part.group(0)[len(part.group(1)) + 1 : -1] for part in _WHOLE_URL_PASSWORD.finditer(url)
    ]
    found += [part.group(2) for part in _QUERY_SECRET.finditer(url)]
    return [form for text in found if text for form in (text, unquote(text))]


def harmless_json(document: bytes) -> bytes:
    """JSON that means the same, with what a terminal would act upon, or hide, as escapes."""
    return _IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], document.decode()).encode()


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with control, format and unassigned characters as escapes (`\x1b`, `\u202e`)."""
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char in keep
        else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def shown(value: object, limit: int = 80) -> str:
    """A found value for an error's one line: quoted, scrubbed, at most about `limit` characters."""
    match value:
        case str():
            text = repr(scrub(value))
        case bool():
            text = str(value).lower()
        case int() if value.bit_length() > 64:  # noqa: PLR2004
            text = "a number over 64 bits"
        case dict():
            text = "a table"
        case list() | tuple():
            text = f"a list of {len(value)}"
        case _:
            text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def os_reason(error: Exception) -> str:
    """Why the system refused, or Python in its place (`ValueError`), in plain words."""
    number = getattr(error, "errno", None) or 0
    if number > 0:  # a resolver's are below zero
        return os.strerror(number)
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def counted(count: int, noun: str) -> str:
    """A number with its noun, which gets an `s` unless it is one."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say to a name that is not known: the one that was probably meant, or all."""
    names = list(known)
    near = get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"allowed: {', '.join(names) or 'none'}"
