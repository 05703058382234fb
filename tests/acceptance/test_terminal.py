"""What a person sees who runs a collection in a terminal."""

import os
import pty
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from termios import tcsetwinsize
from typing import Any

from collector.simulator.faults import Faults
from tests.support.site import REGIONS, Site, simulated, until

EVERYWHERE = [f'region = "{region}"\ndiscover = ["private", "shared"]' for region in REGIONS]
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CLEARED = "\x1b[2K"
"""Erases the line that the cursor is in."""


class Terminal:
    """A pseudo-terminal of some size, and all that was written to it."""

    def __init__(self, reading: int, writing: int) -> None:
        self.file = writing
        self.shown = ""
        self._reading = reading
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):  # EIO: nobody has it open any more
            while data := os.read(self._reading, 65536):
                self.shown += data.decode()

    @property
    def text(self) -> str:
        """Without colours and movements."""
        return CONTROL.sub("", self.shown)

    def close(self) -> None:
        """Nobody here writes to it any more; what a process wrote is read to its end."""
        os.close(self.file)
        self._thread.join()
        os.close(self._reading)


@contextmanager
def on_a_terminal(
    site: Site, *words: str, rows: int = 24, **options: Any
) -> Iterator[tuple[Any, Terminal]]:
    reading, writing = pty.openpty()
    tcsetwinsize(writing, (rows, 100))
    terminal = Terminal(reading, writing)
    # pytest-xdist says 24 and 80 in the environment.
    env = {"TERM": "xterm-256color", "LINES": f"{rows}", "COLUMNS": "100"}
    try:
        with site.popen(*words, stderr=writing, env=env, **options) as process:
            process.stdin.close()
            process.stdin = None
            yield process, terminal
    finally:
        terminal.close()


def test_a_line_a_lane_that_is_gone_at_the_end(tmp_path: Path) -> None:
    """Progress is drawn while there is some, as many lanes as there is room; the summary stays."""
    with simulated(images=80, latency=0.3) as simulator:
        site = Site(tmp_path, simulator.url)
        site.configure(*EVERYWHERE)
        with on_a_terminal(site, "run", rows=6) as (process, terminal):
            assert process.wait(60) == 0
            summary = process.stdout.read().decode()
        assert re.search(r"default/[a-z0-9-]+ .* 0 of \d+ ", terminal.text)
        assert "and 2 lanes more" in terminal.text
        after = CONTROL.sub("", terminal.shown.rpartition(CLEARED)[2])
        assert ("default/" in after, "run_finished" in after) == (False, True)
        assert "complete" in summary


def test_a_stop_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    """The cursor is shown again, and nothing of the drawing is left."""
    with simulated(images=40) as simulator:
        site = Site(tmp_path, simulator.url)
        listed = site.run("discover").out
        simulator.faults = Faults.parse("hang=1")
        (tmp_path / "ids").write_text(listed)
        with on_a_terminal(site, "run", "--ids-file", "ids") as (process, terminal):
            until(lambda: " of " in terminal.text)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        assert terminal.shown.count("\x1b[?25l") == terminal.shown.count("\x1b[?25h") == 1
        assert terminal.shown.rindex(CLEARED) > terminal.shown.rindex(" of ")


def test_no_color_holds_for_what_a_command_prints(tmp_path: Path) -> None:
    """As for the log; without it a terminal gets colours."""
    with simulated(images=4) as simulator:
        site = Site(tmp_path, simulator.url)
        assert site.run("run", "--quiet").code == 0
    for no_color in ("", "1"):
        reading, writing = pty.openpty()
        terminal = Terminal(reading, writing)
        env = {"TERM": "xterm-256color", "NO_COLOR": no_color}
        with site.popen("status", stdout=writing, env=env) as process:
            assert process.wait(60) == 0
        terminal.close()
        assert ("\x1b[32mfresh" in terminal.shown) is not bool(no_color)
