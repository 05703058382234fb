"""The one text of a JSON document, and its fingerprint."""

import hashlib
from collections.abc import Iterable
from math import isfinite
from types import NoneType
from typing import Any

import msgspec

__all__ = ["MAX_DEPTH", "NotCanonical", "canonical", "fingerprint"]

MAX_DEPTH = 64
"""Levels of nesting that are accepted; answers have six, and whatever reads them recurses."""

_ENCODER = msgspec.json.Encoder(order="sorted")

_ATOMS = frozenset({str, int, bool, NoneType})


class NotCanonical(ValueError):  # noqa: N818 - reads as what it says of the document
    """The document has no canonical form: NaN, infinity, a lone surrogate, nesting without end."""


def canonical(document: Any) -> str:
    """Return the one text of a JSON document: keys sorted, no spaces, UTF-8 unescaped.

    It is RFC 8785 but for three points, none of which loses anything: integers of any size are
    written in full, floats in the shortest notation of msgspec (`1.0`, `1e22`), and keys are
    sorted by code point (which differs for keys beyond the basic plane only).

    Raises:
        NotCanonical: for NaN, infinity, lone surrogates, over 64 levels, or what JSON has not.
    """
    _check((document,), MAX_DEPTH)
    try:
        return _ENCODER.encode(document).decode()
    except ValueError as error:  # a lone surrogate, or an integer of over 4,300 digits
        raise NotCanonical(str(error)) from None


def fingerprint(payload: str) -> str:
    """Return the lower-case hex SHA-256 of the text's UTF-8 bytes."""
    return hashlib.sha256(payload.encode()).hexdigest()


def _check(values: Iterable[object], depth: int) -> None:
    """Refuse what msgspec would write as something else, or not at all."""
    for value in values:
        kind = type(value)
        if kind in _ATOMS:
            continue
        if isinstance(value, dict | list):
            if not depth:
                raise NotCanonical(f"nested over {MAX_DEPTH} levels")
            _check(value.values() if isinstance(value, dict) else value, depth - 1)
        elif not isinstance(value, float):
            raise NotCanonical(f"{kind.__name__} is not JSON")
        elif not isfinite(value):
            raise NotCanonical(f"{value} is not JSON")
