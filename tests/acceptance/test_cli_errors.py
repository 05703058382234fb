"""The installed command: its frame, `init`, and one line with the right exit code for a mistake."""

import asyncio
import importlib
import json
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tomllib
import types
from contextlib import closing
from pathlib import Path

import click
import pytest
import structlog

import collector
from collector.cli import init
from collector.cli import main as cli
from collector.cli.options import config_option, database_of, database_options, settings_of
from collector.errors import (
    CollectorError,
    ConfigurationError,
    HeldError,
    SchemaError,
    UnavailableError,
    UsageError,
)

FULL = Path("/dev/full")
ENTRY = "import sys; from collector.cli.main import main; sys.exit(main())"


def run(*words, env=None, cwd=None, **options):
    """Run the command as its console script does, with nothing of ours in the environment."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("COLLECTOR_")}
    return subprocess.run(
        [sys.executable, "-c", ENTRY, *words],
        capture_output="stdout" not in options,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env=clean | (env or {}),
        **options,
    )


@pytest.fixture(autouse=True)
def _restored():
    root, configured_before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**configured_before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def command(monkeypatch):
    """Puts a function in the place of `collector check`, then runs it in this process."""

    def install(function):
        module = types.ModuleType("collector.cli.check")
        module.command = click.command("check")(function)
        monkeypatch.setitem(sys.modules, "collector.cli.check", module)
        return cli.main(["check"])

    return install


def raising(error):
    def function():
        raise error

    return function


def test_version():
    """`--version` says name and version on standard output."""
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"collector {collector.__version__}\n",
        "",
    )


def test_help_lists_the_sixteen_commands_and_imports_none():
    """Help is quick: it comes from a table, and nothing heavy is imported for it."""
    code = (
        "import sys; from collector.cli.main import main; assert main(['--help']) == 0; "
        "sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert set(cli.COMMANDS) <= set(listed)
    assert len(cli.COMMANDS) == 16
    heavy = {"pydantic", "structlog", "sqlalchemy", "aiohttp", "asyncio", "rich", "alembic"}
    loaded = set(done.stderr.split())
    assert not heavy & loaded
    assert not {f"collector.cli.{name}" for name in cli.COMMANDS} & loaded


@pytest.mark.parametrize("name", [*cli.COMMANDS])
def test_every_command_takes_a_configuration(name):
    """Those too that use nothing of it."""

    def leaves(command):
        if not isinstance(command, click.Group):
            return [command]
        return [leaf for one in command.commands.values() for leaf in leaves(one)]

    for leaf in leaves(importlib.import_module(f"collector.cli.{name}").command):
        assert any("--config" in option.opts for option in leaf.params), leaf.name


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["rum"], "No such command 'rum'. Did you mean 'run'? (see collector --help)"),
        (["--foo"], "No such option '--foo'. (see collector --help)"),
        (["init", "--foo"], "No such option '--foo'. (see collector init --help)"),
        (["init", "x"], "Got unexpected extra argument (x) (see collector init --help)"),
        (["init", "--path"], "Option '--path' requires an argument."),
        (
            ["simulate", "--latency", "nan"],
            (
                "Invalid value for '--latency': found 'nan'; allowed: x>=0.0"
                " (see collector simulate --help)"
            ),
        ),
        (["\x1b[31m"], r"No such command '\x1b[31m'. (see collector --help)"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(words, line):
    """The line says what is wrong and where help is."""
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"collector: {line}\n")


def test_no_command_is_a_usage_error_that_shows_the_help():
    """Help goes to standard error, since it was not asked for."""
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: collector" in done.stderr


def test_init_writes_a_configuration_that_loads(tmp_path, monkeypatch):
    """The file is the example, for its owner alone, and valid as it is."""
    monkeypatch.chdir(tmp_path)
    done = run("init", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "collector check --config collector.toml" in done.stdout
    written = tmp_path / "collector.toml"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert settings_of(written).account("default").credentials == "env"
    assert settings_of(None).path.name == "collector.toml"


@pytest.mark.parametrize("option", ["--path", "--config"])
def test_init_never_overwrites(tmp_path, option):
    """An existing file, and what a dangling link names, stay as they were."""
    target, link = tmp_path / "mine.toml", tmp_path / "link.toml"
    target.write_text("mine", encoding="utf-8")
    link.symlink_to(tmp_path / "nowhere")
    for path in (target, link):
        done = run("init", option, str(path))
        assert done.returncode == 2
        assert done.stderr == f"collector: {path} exists already; nothing was written\n"
    assert target.read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("path", ["missing/collector.toml", "."])
def test_init_where_nothing_can_be_written_is_one_line(tmp_path, path):
    """A directory that is not there, or a path that is one."""
    done = run("init", "--path", path, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"collector: {path}")
    assert done.stderr.count("\n") == 1


def test_a_full_disk_leaves_no_half_configuration(tmp_path, monkeypatch, capsys):
    """Exit 69 in one line, and the next `init` is not refused."""
    monkeypatch.chdir(tmp_path)

    def full(descriptor, mode):
        os.close(descriptor)
        return FULL.open(mode, buffering=0)

    monkeypatch.setattr(os, "fdopen", full)
    assert cli.main(["init"]) == 69
    assert capsys.readouterr().err == "collector: no space left on the disk\n"
    assert list(tmp_path.iterdir()) == []


def test_the_example_is_packaged_where_init_looks_for_it():
    """A wheel has the example inside of the package; a checkout has it in `config/`."""
    root = Path(collector.__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    name = "collector.example.toml"
    assert included[f"config/{name}"] == f"collector/{init.PACKAGED}/{name}"
    assert init.example() == (root / "config" / name).read_bytes()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError, 2),
        (UnavailableError, 69),
        (HeldError, 75),
        (ConfigurationError, 78),
        (SchemaError, 78),
    ],
)
def test_an_expected_error_is_its_line_and_its_code(command, capsys, error, code):
    """Each line of its text gets the program's name; there is no traceback."""
    assert command(raising(error("first\nsecond \x1b[0m postgresql://u:hunter2@h/db"))) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("collector: first\ncollector: second \\x1b[0m postgresql://u:***@h/db\n")


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([UsageError("a"), ConfigurationError("b")], 78),
        ([HeldError("a"), UnavailableError("b")], 69),
        ([KeyboardInterrupt(), ConfigurationError("b")], 130),
        ([CollectorError("a"), KeyboardInterrupt()], 70),
        ([ValueError("a"), ConfigurationError("b")], 70),
    ],
)
def test_of_several_errors_the_contracts_order_decides(command, errors, code):
    """A task group's errors are told apart, and the gravest code counts."""
    nested = BaseExceptionGroup("tasks", [errors[0], BaseExceptionGroup("inner", errors[1:])])
    assert command(raising(nested)) == code


def test_what_fails_many_times_is_told_once(command, capsys):
    """Sixteen requests in flight that lose one lease are one line, and another error another."""
    errors = [HeldError("lost") for _ in range(16)] + [UnavailableError("lost")]
    assert command(raising(BaseExceptionGroup("tasks", errors))) == 69
    assert capsys.readouterr().err == "collector: lost\ncollector: lost\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_130_without_a_word(command, capsys, error):
    """A person who stops the program knows it."""
    assert command(raising(error)) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("value", "code"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_a_commands_return_value_is_the_exit_code(command, value, code):
    """A command returns its code; nothing means done."""
    assert command(lambda: value) == code


@pytest.mark.parametrize("error", [ValueError, RecursionError, asyncio.CancelledError, OSError])
def test_anything_else_is_a_bug_in_one_line(command, capsys, error):
    """The traceback is not shown, nor a secret."""
    assert command(raising(error("odd\npostgresql://u:hunter2@h/db"))) == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"collector: this is a bug: {error.__name__}: odd postgresql://u:***@h")
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_out_of_memory_is_said(command, capsys, error):
    """A thread, too, starts with memory for its stack."""
    assert command(raising(error)) == 70
    assert capsys.readouterr().err == "collector: out of memory\n"


def test_a_bugs_traceback_is_in_the_debug_log_scrubbed(tmp_path):
    """Whoever sets the level to debug sees where it happened, and no secret."""
    code = (
        "import sys, types, click\n"
        "from collector.cli.main import main\n"
        "def broken(): raise ValueError('at postgresql://u:hunter2@h/db')\n"
        "module = types.ModuleType('collector.cli.check')\n"
        "module.command = click.command('check')(broken)\n"
        "sys.modules['collector.cli.check'] = module\n"
        "sys.exit(main(['check']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"COLLECTOR_LOG__LEVEL": "debug"},
    )
    said, logged = done.stderr.splitlines()
    assert done.returncode == 70
    assert said.startswith("collector: this is a bug")
    event = json.loads(logged)
    assert event["event"] == "unexpected_error"
    assert "in broken" in event["exception"]
    assert "hunter2" not in done.stderr


def test_a_reader_that_goes_away_is_quiet():
    """`collector … | head` shows no traceback, and is no success either."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run("--help", stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "list"),  # a table
        ("export", "schema_drift", "--format", "csv"),
        ("export", "schema_drift", "--format", "jsonl"),
        ("export", "schema_drift", "--format", "parquet"),
    ],
)
def test_a_reader_that_goes_away_in_the_middle_is_quiet(sqlite_url: str, words: tuple[str, ...]):
    """The same where more is written than is held back: it is no finding, and not the database."""
    moment = "2026-01-01 00:00:00.000000"
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.execute(
            "INSERT INTO schema_drift (id, path, json_type, value, first_seen_at, last_seen_at,"
            " seen, example_image_id) VALUES ('x', 'image.x', 'string', ?, ?, ?, 1, 'img-1')",
            (os.urandom(100_000).hex(), moment, moment),
        )
        connection.commit()
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(*words, "--database", sqlite_url, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_python_throws_away_is_heeded(number: int):
    """What is raised in a weak reference's callback, as in `import`, is lost; the wish is not."""
    code = f"""
import os, signal, sys, weakref
from collector.cli import main as cli

class Lock: pass

def importing(name, held=[Lock()], real=cli.import_module):
    callback = weakref.ref(held[0], lambda _: os.kill(os.getpid(), {int(number)}))
    held.clear()
    return real(name)

signal.signal(signal.SIGINT, signal.default_int_handler)
cli.import_module = importing
sys.argv = ["collector", "simulate", "--port", "0"]
sys.exit(cli.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "ignored" in done.stderr  # else nothing was tried
    assert done.returncode == 128 + number


def test_a_full_disk_behind_standard_output_is_one_line():
    """Exit 69: what was asked for could not be written."""
    with FULL.open("w", encoding="utf-8") as full:
        done = run("--help", stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (69, "collector: no space left on the disk\n")


def test_standard_error_that_is_closed_changes_no_exit_code():
    """What cannot be told is still what happened."""
    with FULL.open("w", encoding="utf-8") as full:
        done = run("rum", stdout=subprocess.DEVNULL, stderr=full)
    assert done.returncode == 2


def configured():
    @config_option
    def function(config_path):
        settings_of(config_path)

    return function


def reading():
    @database_options
    def function(where):
        click.echo(database_of(where))

    return function


@pytest.mark.parametrize("make", [configured, reading])
def test_a_missing_configuration_names_the_places(command, capsys, tmp_path, monkeypatch, make):
    """Exit 78 in one line that says where the file was looked for and how to get one."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLLECTOR_CONFIG", "COLLECTOR_DATABASE__URL"):
        monkeypatch.delenv(name, raising=False)
    assert command(make()) == 78
    err = capsys.readouterr().err
    assert err.startswith("collector: no configuration: looked for collector.toml, /etc/collector/")
    assert "`collector init`" in err
    assert err.count("\n") == 1


def test_a_bad_configuration_is_told_a_line_a_mistake(command, capsys, tmp_path, monkeypatch):
    """Exit 78; file, key, found, allowed."""
    monkeypatch.chdir(tmp_path)
    text = "[api]\nrate_limit = -1\nrate_limitt = 1\n"
    (tmp_path / "collector.toml").write_text(text, encoding="utf-8")
    assert command(configured()) == 78
    where = "collector: collector.toml: api"
    assert capsys.readouterr().err.splitlines() == [
        f"{where}.rate_limit: found -1; allowed: a number above 0, at most 100000",
        f"{where}.rate_limitt: unknown key; did you mean rate_limit?",
    ]


def test_an_unknown_rule_is_refused_by_every_command(command, capsys, tmp_path, monkeypatch):
    """Not only by the audit: exit 78, and the file or the variable is named."""
    monkeypatch.chdir(tmp_path)
    text = "[audit.old_images]\ndays = 1\n[audit.gone_image]\nday = 1\n"
    (tmp_path / "collector.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("COLLECTOR_AUDIT__OLD_IMAGE__DAYS", '"x"')
    lines = [
        "collector: collector.toml: audit.old_images.days: unknown rule; did you mean old_image?",
        "collector: collector.toml: audit.gone_image.day: unknown parameter; did you mean days?",
        "collector: COLLECTOR_AUDIT__OLD_IMAGE__DAYS: found 'x'; allowed: a number from 0 to 36500",
    ]
    assert command(configured()) == 78
    assert capsys.readouterr().err.splitlines() == lines
    assert cli.main(["audit", "list"]) == 78
    assert capsys.readouterr().err.splitlines() == lines


def test_a_reading_command_runs_on_the_environment_alone(command, capsys, tmp_path, monkeypatch):
    """`COLLECTOR_DATABASE__URL` serves without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLECTOR_DATABASE__URL", "sqlite:///x.db")
    assert command(reading()) == 0
    assert capsys.readouterr().out == "sqlite:///x.db\n"
