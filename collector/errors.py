"""Every error this program raises on purpose, each with the exit code that it ends a command with.

    CollectorError
    ├── UsageError            2   the command line asks for something that is not possible
    ├── UnavailableError     69   endpoint, database or broker out of reach, or the disk is full
    ├── HeldError            75   another process holds the account or the plan
    │   └── LeaseLostError   75   this process held it and no longer does
    └── ConfigurationError   78   bad configuration
        └── SchemaError      78   the database is not at this program's revision

The numbers are those of the public contract (after BSD's sysexits).
"""

from collections.abc import Collection, Iterator
from enum import IntEnum
from typing import Final

__all__ = [
    "CollectorError",
    "ConfigurationError",
    "Exit",
    "HeldError",
    "LeaseLostError",
    "SchemaError",
    "UnavailableError",
    "UsageError",
    "gravest",
    "leaves",
]


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    PARTIAL = 3
    UNAVAILABLE = 69
    BUG = 70
    HELD = 75
    REFUSED = 77
    CONFIGURATION = 78
    SIGPIPE = 141  # a filter whose reader went away: neither success nor a known failure
    SIGINT = 130
    SIGTERM = 143


_PRECEDENCE: Final = (
    *(Exit.BUG, Exit.SIGINT, Exit.SIGTERM, Exit.CONFIGURATION, Exit.REFUSED, Exit.UNAVAILABLE),
    *(Exit.HELD, Exit.USAGE, Exit.PARTIAL, Exit.SIGPIPE, Exit.FINDINGS, Exit.OK),
)


def gravest(codes: Collection[int]) -> Exit:
    """Which exit code counts when several apply."""
    return next(code for code in _PRECEDENCE if code in codes)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The single errors of a task group's failure."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


class CollectorError(Exception):
    """An expected failure: its text is one line for a person, without secrets."""

    exit_code = Exit.BUG


class UsageError(CollectorError):
    """The command line asks for something that is not possible."""

    exit_code = Exit.USAGE


class UnavailableError(CollectorError):
    """The endpoint, the database or the broker cannot be reached, or the disk is full."""

    exit_code = Exit.UNAVAILABLE


class HeldError(CollectorError):
    """Another process holds the account or the plan."""

    exit_code = Exit.HELD


class LeaseLostError(HeldError):
    """This process held an account's lease and no longer does: it must send and write nothing."""


class ConfigurationError(CollectorError):
    """The configuration is wrong; the text names file, key, what was found and what is allowed."""

    exit_code = Exit.CONFIGURATION


class SchemaError(ConfigurationError):
    """The database is not at this program's revision; the text names the command that mends it."""
