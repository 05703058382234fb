"""An installation as an operator has it: a directory, a configuration, the command, a simulator."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from collector.ids import PUBLISHED_REGIONS
from tests.support.simulator import Simulator, SimulatorOptions, running

__all__ = ["Ended", "Site", "simulated", "until"]

ENTRY = "import sys; from collector.cli.main import main; sys.exit(main())"
KEYS = {"JDCLOUD_ACCESS_KEY": "simulator", "JDCLOUD_SECRET_KEY": "simulator"}
REGIONS = PUBLISHED_REGIONS


class Ended(NamedTuple):
    """What a command left behind; `signal.SIGKILL` as code is -9."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as the one JSON document that it must be."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def line(self) -> str:
        """Standard error as the one line that it must be."""
        (line,) = self.err.splitlines()
        return line


def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    """Poll another process's doings until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)


@contextmanager
def simulated(**options: Any) -> Iterator[Simulator]:
    """A simulator on a thread of its own; its faults and images may be changed while it runs."""
    loop, found = asyncio.new_event_loop(), []
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with running(SimulatorOptions(**options)) as simulator:
            found.append(simulator)
            ready.set()
            await stop.wait()

    def work() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            loop.close()
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


class Site:
    """A directory with `collector.toml` and a SQLite database."""

    def __init__(self, directory: Path, endpoint: str = "http://127.0.0.1:1") -> None:
        self.directory = directory
        self.endpoint = endpoint
        self.database = directory / "collector.db"
        self.config = directory / "collector.toml"
        self.configure()

    def configure(
        self,
        *targets: str,
        accounts: Mapping[str, str] | None = None,
        database: str | None = None,
        **api: Any,
    ) -> None:
        """Write the configuration; without targets, every private image of cn-north-1."""
        given = {"endpoint": self.endpoint, "rate_limit": 1000, "account_rate_limit": 0} | api
        lines = ["[database]", f'url = "{database or f"sqlite:///{self.database}"}"', "[api]"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in given.items()]
        for name, credentials in (accounts or {"default": "env"}).items():
            lines += ["[[accounts]]", f'name = "{name}"', f'credentials = "{credentials}"']
        default = ('region = "cn-north-1"\ndiscover = ["private"]',)
        for target in targets or default:
            account = "" if "account =" in target else 'account = "default"\n'
            lines.append(f"[[targets]]\n{account}{target}")
        self.config.write_text("\n".join(lines))

    def popen(self, *words: str, env: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Start a command in the directory, with nothing of ours in its environment."""
        clean = {n: v for n, v in os.environ.items() if not n.startswith(("COLLECTOR_", "JDC"))}
        return subprocess.Popen(
            options.pop("args", [sys.executable, "-c", ENTRY, *words]),
            env=clean | KEYS | dict(env or {}),
            cwd=self.directory,
            stdin=options.pop("stdin", subprocess.PIPE),
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            **options,
        )

    def run(
        self,
        *words: str,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Ended:
        """Run a command to its end; with options of `Popen` in an interpreter of its own."""
        from tests.support.forked import forker  # which imports this module

        if not options:
            return forker().run(self.directory, *words, stdin=stdin, env=env, constants={})
        with self.popen(*words, env=env, **options) as process:
            return self.end(process, stdin)

    def end(self, process: Any, stdin: str = "", *, number: int | None = None) -> Ended:
        """Wait for a command, which gets the signal `number` first."""
        if number is not None:
            process.send_signal(number)
        out, err = process.communicate(stdin.encode() or None, timeout=40)
        return Ended(process.returncode, out.decode(), err.decode())

    @contextmanager
    def running(self, *words: str, stdin: str = "", **options: Any) -> Iterator[Any]:
        """A command at work; killed at the end of the block if it still is."""
        with self.popen(*words, **options) as process:
            process.stdin.write(stdin.encode())
            process.stdin.close()
            process.stdin = None
            try:
                yield process
            finally:
                process.send_signal(signal.SIGKILL)

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the database."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query, values).fetchall()

    def column(self, query: str, *values: object) -> Sequence[Any]:
        """The only column of a query."""
        return [value for (value,) in self.sql(query, *values)]
