"""The command in real processes, each forked from one that has imported everything already.

A process can be made to stop before a stage of its work, so that a fault strikes there and nowhere
else; its limits, its user, its clock and the program's constants can be set before it begins.
"""

import asyncio
import atexit
import functools
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tests.support.site import KEYS, Ended, until

__all__ = ["QUICK", "STAGES", "Forked", "Forker", "forker", "forking", "short_lease"]

STAGES: Final[Mapping[str, tuple[str, str]]] = {
    "opening": ("collector.store.migrate", "create_if_empty"),
    "planning": ("collector.store.plan", "Plan.add"),
    "listing": ("collector.run", "_Run._discover_lane"),
    "writing": ("collector.store.writes", "Writer.commit"),
    "in a transaction": ("collector.store.writes", "_count"),
    "finishing": ("collector.store.plan", "finish"),
    "sealing": ("collector.store.ledger", "seal"),
}
"""Stage → where it begins; `in a transaction` has written results and not committed them."""

QUICK: Final = {"collector.store.leases:GAP_S": 0.05}
"""Constants of a process whose rates nobody measures: its successor need not wait a second."""

_PRELOADED: Final = (
    *("asyncmy", "psycopg", "alembic.command", "alembic.autogenerate", "aiosqlite"),
    *("rich.table", "rich.live", "collector.cli.main", "collector.cli.run", "collector.cli.verify"),
    *("collector.run", "collector.serve", "collector.metrics", "collector.cli.collection"),
    *("collector.store.migrate", "collector.store.verify"),
)


def short_lease(ttl_s: float) -> dict[str, Any]:
    """Constants of a process whose lease is that long, in the proportions of the real one."""
    leases = "collector.store.leases"
    return QUICK | {
        f"{leases}:TTL_S": ttl_s,
        f"{leases}:RENEW_S": 0.3 * ttl_s,
        f"{leases}:SEND_S": 0.7 * ttl_s,
    }


class Forked:
    """A command at work.

    Attributes:
        pid: of its process.
    """

    def __init__(self, forker: "Forker", pid: int, files: Path) -> None:
        self.pid = pid
        self._forker, self._files = forker, files
        self._code: int | None = None

    @property
    def code(self) -> int | None:
        """Its exit code, or the negative number of the signal that killed it."""
        if self._code is None:
            self._code = self._forker.ask({"poll": self.pid})["code"]
        return self._code

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def reached(self, timeout_s: float = 20.0) -> None:
        """Wait until it stands before its stage."""
        mark = self._files.with_suffix(".at")
        until(lambda: mark.exists() or self.code is not None, timeout_s)
        if not mark.exists():
            raise AssertionError(f"it ended before its stage: {self.end()}")

    def go(self) -> None:
        """Let it into its stage."""
        self._files.with_suffix(".go").touch()

    def end(self, timeout_s: float = 60.0) -> Ended:
        """Wait for its end."""
        until(lambda: self.code is not None, timeout_s)
        files = [self._files.with_suffix(kind) for kind in (".out", ".err")]
        # Killed at once, it has none.
        out, err = (f.read_text(errors="replace") if f.exists() else "" for f in files)
        return Ended(self.code or 0, out, err)


class Forker:
    """Starts commands; made by `forking`."""

    def __init__(self, server: Any, files: Path) -> None:
        self._server, self._files = server, files
        self._count = 0

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        self._server.stdin.write(json.dumps(message).encode() + b"\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer

    @contextmanager
    def running(
        self,
        directory: Path,
        *words: str,
        before: str | None = None,
        nth: int = 1,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        constants: Mapping[str, Any] = QUICK,
        limits: Mapping[str, int] | None = None,
        clock_s: float = 0.0,
        uid: int | None = None,
    ) -> Iterator[Forked]:
        """A command at work; killed at the end of the block if it still is.

        Args:
            directory: where it works.
            words: its arguments.
            before: it stops before this stage, the `nth` time it comes there, until `go`.
            env: added to an environment that has nothing of ours but the simulator's keys.
            stdin: what it reads.
            constants: `module:NAME` → value; of a function, what it returns.
            limits: of `resource`, by name without `RLIMIT_`.
            clock_s: how far its clock is ahead of ours.
            uid: the user that it runs as.
        """
        self._count += 1
        files = self._files / f"command-{self._count}"
        clean = {n: v for n, v in os.environ.items() if not n.startswith(("COLLECTOR_", "JDC"))}
        message = {
            "words": words,
            "directory": str(directory),
            "files": str(files),
            "stdin": stdin,
            "before": before,
            "nth": nth,
            "env": clean | KEYS | dict(env or {}),
            "constants": constants,
            "limits": limits or {},
            "clock_s": clock_s,
            "uid": uid,
        }
        forked = Forked(self, self.ask(message)["pid"], files)
        try:
            yield forked
        finally:
            if forked.code is None:
                forked.kill(signal.SIGCONT)
                forked.kill()
                forked.end()
            for file in self._files.glob(f"{files.name}.*"):
                file.unlink()

    def run(self, directory: Path, *words: str, **options: Any) -> Ended:
        """Run a command to its end."""
        with self.running(directory, *words, **options) as forked:
            return forked.end()


@contextmanager
def forking() -> Iterator[Forker]:
    """A process of this one's kind that forks commands as long as the block lasts."""
    words = [sys.executable, "-c", "from tests.support.forked import _serve; _serve()"]
    with (
        tempfile.TemporaryDirectory() as files,
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server,
    ):
        Path(files).chmod(0o777)  # a command may be another user's
        try:
            yield Forker(server, Path(files))
        finally:
            assert server.stdin is not None
            server.stdin.close()


@functools.cache
def forker() -> Forker:
    """The one that all tests share."""
    kept = ExitStack()
    atexit.register(kept.close)
    return kept.enter_context(forking())


def _serve() -> None:
    for name in _PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    messages, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    for line in messages:
        message = json.loads(line)
        if "poll" in message:
            answer = {"code": _poll(message["poll"])}
        else:
            pid = os.fork()
            if pid == 0:
                messages.close()
                answers.close()
                _become(message)  # never returns
            answer = {"pid": pid}
        answers.write(json.dumps(answer).encode() + b"\n")


def _poll(pid: int) -> int | None:
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if found else None


def _become(message: dict[str, Any]) -> None:
    from collector.cli.main import main

    files = Path(message["files"])
    os.chdir(message["directory"])
    os.environ.clear()
    os.environ.update(message["env"])
    for number, kind in ((1, "out"), (2, "err")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(files.with_suffix(f".{kind}"), flags, 0o666), number)
    read = os.memfd_create("stdin")
    os.pwrite(read, message["stdin"].encode(), 0)
    os.dup2(read, 0)
    sys.argv = ["collector", *message["words"]]
    for path, value in message["constants"].items():
        module, _, name_of = path.partition(":")
        owner = importlib.import_module(module)
        setattr(owner, name_of, (lambda v=value: v) if callable(getattr(owner, name_of)) else value)
    if message["before"]:
        module, path = STAGES[message["before"]]
        owner = functools.reduce(getattr, path.split(".")[:-1], importlib.import_module(module))
        attribute = path.rpartition(".")[2]
        pause = _pausing(getattr(owner, attribute), files, message["nth"])
        setattr(owner, attribute, pause)
    if message["clock_s"]:
        _shift(message["clock_s"])
    for kind, value in message["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (value, value))
    if message["uid"] is not None:
        os.setgroups([])
        os.setgid(message["uid"])
        os.setuid(message["uid"])
    sys.exit(main(message["words"]))


def _pausing(function: Callable[..., Any], path: Path, nth: int) -> Callable[..., Any]:
    calls = 0

    @functools.wraps(function)
    async def paused(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            path.with_suffix(".at").touch()
            while not path.with_suffix(".go").exists():  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.005)
        return await function(*args, **options)

    return paused


def _shift(seconds: float) -> None:
    """Set the clock on the wall, where the program reads it; monotonic clocks stay."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

    for module in ("collector.lanes", "collector.run", "collector.jdcloud.client"):
        vars(importlib.import_module(module))["datetime"] = Shifted
    real = time.time
    time.time = lambda: real() + seconds
