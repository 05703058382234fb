"""Output files: whole or not there at all, and for their owner alone."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from collector.errors import UsageError
from collector.text import os_reason, printable

__all__ = ["output"]


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
