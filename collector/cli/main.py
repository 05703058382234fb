"""The `collector` command: imports a sub-command when it is used, maps errors to exit codes.

Commands and codes are those of the public contract. Nothing heavy is imported here, so that
`collector --help` stays fast.
"""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final, cast

import click
from typing_extensions import override

from collector import __version__
from collector.cli import early
from collector.errors import CollectorError, Exit, gravest, leaves
from collector.text import printable, scrub

__all__ = ["COMMANDS", "main"]

COMMANDS: Final = {
    "init": "Write a commented configuration; never overwrites.",
    "check": "Preflight: configuration, database, credentials, clock, queue.",
    "run": "Collect once, or resume what was interrupted.",
    "status": "Tell whether the inventory is fresh and whole.",
    "serve": "Work on the queue and the schedule until stopped.",
    "queue": "Fill the durable queue, show it, retry what failed.",
    "discover": "List image ids, one REGION/ID per line.",
    "db": "Migrate, inspect, prune and copy the database.",
    "show": "Show one image now, at a time, or through its history.",
    "changes": "List all changes of a period, field by field.",
    "audit": "Run the audit rules, or print their SQL.",
    "export": "Export a table or view as CSV, JSON lines or Parquet.",
    "report": "Write one self-contained HTML page.",
    "verify": "Recompute the tamper evidence.",
    "simulate": "Serve a local stand-in for the JD Cloud VM endpoint.",
    "demo": "Collect simulated images into a fresh database.",
}
"""Every command with its line of help; `collector.cli.<name>` has it as `command`."""

_MAX_TEXT: Final = 300
"""Characters of an unexpected error's text that are shown."""


class _LazyGroup(click.Group):
    """Knows its commands by name and imports one only to run it."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in COMMANDS:
            raise click.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        return cast("click.Command", import_module(f"collector.cli.{cmd_name}").command)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done and complete, 1 findings, 2 usage, 3 partial or stale, 69 out of "
    "reach, 70 a bug, 75 held by another process, 77 credentials refused, 78 bad configuration, "
    "130 and 143 stopped by a signal.",
)
@click.version_option(__version__, prog_name="collector", message="%(prog)s %(version)s")
def _collector() -> None:
    """Collect the inventory of JD Cloud images into SQL: every answer dated, every gap shown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is one line on standard error."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    _open_closed_streams()
    if arguments is None:
        early.install()
    try:
        colours = False if os.environ.get("NO_COLOR") else None
        with _collector.make_context("collector", words, color=colours) as context:
            code = _collector.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 — the last place that can turn it into a line
        # What fails for all requests in flight fails with the same words: told once.
        single = {(type(leaf), str(leaf)): leaf for leaf in leaves(error)}
        codes = {_told(leaf) for leaf in single.values()}
        return int(gravest(codes))
    return int(code or Exit.OK)


def _open_closed_streams() -> None:
    """Put nothing in the place of a standard stream that was closed.

    Else the next file that is opened, perhaps the database, has the stream's number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nothing, mode, errors="replace"))


def _told(error: BaseException) -> int:
    """Say on standard error what happened; return its exit code."""
    code: int = Exit.USAGE
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
        case click.ClickException():
            context = error.ctx if isinstance(error, click.UsageError) else None
            hint = f" (see {context.command_path} --help)" if context else ""
            _say(" ".join(error.format_message().split()) + hint)
        case CollectorError():
            code = error.exit_code
            _say(str(error))
        case KeyboardInterrupt(args=[int(number)]):  # the first signal, where there was a second
            code = 128 + number
        case KeyboardInterrupt() | click.Abort():
            code = Exit.SIGINT
        case BrokenPipeError():
            code = Exit.SIGPIPE
            _discard_output()
        case MemoryError() | RuntimeError(args=["can't start new thread"]):
            code = Exit.BUG
            _say("out of memory")
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            code = Exit.UNAVAILABLE
            _say("out of file descriptors")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            code = Exit.UNAVAILABLE
            _discard_output()
            _say("no space left on the disk")
        case _:
            code = Exit.BUG
            text = " ".join(scrub(str(error)).split())[:_MAX_TEXT]
            hint = "COLLECTOR_LOG__LEVEL=debug logs the traceback"
            _say(f"this is a bug: {type(error).__name__}: {text} ({hint})")
            _log_traceback(error)
    return code


def _log_traceback(error: BaseException) -> None:
    from collector import log

    if os.environ.get("COLLECTOR_LOG__LEVEL", "").lower() == "debug":
        log.configure(level="debug")
    log.get_logger().debug("unexpected_error", exc_info=error)


def _say(text: str) -> None:
    """Write lines to standard error, without secrets and terminal escapes, if anyone listens."""
    try:
        for line in text.splitlines() or [""]:
            sys.stderr.write(f"collector: {printable(scrub(line))}\n")
    except (OSError, ValueError):
        return


def _discard_output() -> None:
    """Let the interpreter's last flush succeed: what cannot be written is given up."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
