"""Structured logs on standard error: JSON or console lines, without secrets or terminal escapes.

Event names are static words; what varies goes into fields, and what belongs to a unit of work
(run id, account, region) is bound once with `bound`.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, TextIO, cast

import structlog
from structlog.contextvars import bound_contextvars as bound
from typing_extensions import override

from collector.text import MASK, printable, redact, scrub

__all__ = ["bound", "configure", "get_logger", "redact"]

_MAX_VALUE: Final = 4096
"""Longest value of a field (characters); journald splits lines at 48 KiB."""

_MAX_TRACEBACK: Final = 16384
"""Longest traceback (characters)."""

_SECRET_KEYS: Final = ("authorization", "password", "secret", "security_token", "security-token")

_Event = MutableMapping[str, Any]


class _Writer:
    """Writes lines to a stream; a log that nobody can read never stops the work."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        # Looked up at each line: a progress display puts a stream of its own in its place.
        stream = self._stream or sys.stderr
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = exception = fatal = msg


class _LibraryHandler(logging.Handler):
    """Sends the standard library's log records the same way as our own events."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage().strip()
        except (TypeError, ValueError):  # a library's own mistake in its format
            message = str(record.msg)
        logger = get_logger(library=record.name)
        event = getattr(logger, record.levelname.lower(), logger.error)
        event("library_message", message=message, exc_info=record.exc_info or None)


_LIBRARIES: Final = _LibraryHandler(logging.WARNING)


def configure(
    log_format: str = "auto", level: str = "info", *, stream: TextIO | None = None
) -> None:
    """Send all logs to `stream`; may be called again.

    Args:
        log_format: `console`, `json`, or `auto`: console when the stream is a terminal.
        level: the lowest level of our own events; libraries speak from `warning` on.
        stream: by default whatever `sys.stderr` is at each line.
    """
    terminal = (stream or sys.stderr).isatty()
    console = log_format == "console" or (log_format == "auto" and terminal)
    colors = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    _structlog(console=console, colors=colors, level=level, stream=stream)
    root = logging.getLogger()
    root.addHandler(_LIBRARIES)  # once, however often it is added
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def get_logger(**fields: object) -> structlog.typing.FilteringBoundLogger:
    """A logger that carries these fields; it follows every later `configure`."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(**fields))


def _structlog(*, console: bool, colors: bool, level: str, stream: TextIO | None) -> None:
    renderer: Callable[[Any, str, _Event], str | bytes] = (
        structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _scrub_event,
            *([_neutralise] if console else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Writer(stream),
        cache_logger_on_first_use=False,
    )


def _scrub_event(_logger: object, _method: str, event: _Event) -> _Event:
    """Mask what is secret in every value, and bound its length."""
    return {str(key): _scrubbed(value, key) for key, value in event.items()}


def _scrubbed(value: object, key: object = "") -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {scrub(str(name)): _scrubbed(inner, name) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_scrubbed(inner, key) for inner in value]
        case _ if any(word in str(key).lower() for word in _SECRET_KEYS):
            return MASK
        case bytes():
            value = value.decode("utf-8", "backslashreplace")
        case _:
            pass
    text, limit = scrub(str(value)), _MAX_TRACEBACK if key == "exception" else _MAX_VALUE
    # A traceback says most at its end.
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 2 :]}"


def _neutralise(_logger: object, _method: str, event: _Event) -> _Event:
    """Make control characters harmless for a terminal; JSON and `repr` escape them anyway."""
    return {
        printable(key): printable(value, keep="\n" if key == "exception" else "")
        if isinstance(value, str)
        else value
        for key, value in event.items()
    }


# Until `configure` is called, structlog would print to standard output, which is for data.
_structlog(console=False, colors=False, level="warning", stream=None)
