"""The line that says what a long command does."""

import asyncio
import io
import sys

import pytest
from typing_extensions import override

from collector.cli.output import progress_line
from tests.support.virtual_time import run_virtual


class Terminal(io.StringIO):
    """What is written to a terminal."""

    @override
    def isatty(self) -> bool:
        return True


async def work() -> None:
    with progress_line() as progress:
        progress("ledger")
        progress("readings")
        await asyncio.sleep(2.5)
        progress("")
        await asyncio.sleep(2.5)


def test_what_takes_long_is_shown_with_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is written over the one before; where nothing is said, nothing is drawn."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    run_virtual(work())
    lines = sys.stderr.getvalue().split("\r\x1b[K")  # type: ignore[attr-defined]
    assert lines == ["", "ledger", "readings", "readings, 1 s", "readings, 2 s", "", ""]


def test_a_failure_begins_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told of it is not written behind the progress."""
    monkeypatch.setattr(sys, "stderr", Terminal())

    async def fail() -> None:
        with progress_line() as progress:
            progress("images")
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        asyncio.run(fail())
    assert sys.stderr.getvalue().endswith("images\r\x1b[K")  # type: ignore[attr-defined]


def test_a_log_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Where standard error is no terminal, nothing is written."""
    run_virtual(work())
    assert capsys.readouterr().err == ""
