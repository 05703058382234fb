"""SQLite's journal: write-ahead while somebody writes, and a file by itself afterwards."""

import sqlite3
from pathlib import Path
from typing import Any, Final

__all__ = ["REASONS", "begin", "enter_wal", "leave_wal"]

REASONS: Final = {
    "SQLITE_BUSY": "it is locked: another program writes, or began to read before this one",
    "SQLITE_IOERR_GETTEMPPATH": "no directory for temporary files; name one by TMPDIR",
    "SQLITE_IOERR_SHMMAP": "its file system shares no memory; it must be a local disk's",
}
"""What SQLite itself tells in words that mislead or say too little, by its name of it."""

_SWITCHES: Final = 5
"""How often the switch is tried, when others use the file each time."""


def begin(connection: Any) -> None:
    """Begin a transaction: one that turns from reading to writing fails at once beside another."""
    write = connection.get_execution_options().get("collector_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def enter_wal(cursor: Any) -> None:
    """Switch the journal; SQLite does not wait for others to do it, so it is waited for here."""
    for left in reversed(range(_SWITCHES)):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or not left:
                raise
            cursor.execute("BEGIN EXCLUSIVE")
            cursor.execute("COMMIT")
        else:
            return


def leave_wal(path: Path) -> None:
    """Give the file its rollback journal back, unless somebody else is connected."""
    try:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    except sqlite3.Error:
        return
    try:
        connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error:
        pass  # somebody else is still connected, and will do it
    finally:
        connection.close()
