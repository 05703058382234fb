"""Logs: where they go, what they never show."""

import base64
import io
import json
import logging
import warnings
from unicodedata import category
from urllib.parse import quote

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from collector import log, text


@pytest.fixture(autouse=True)
def _restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(log_format="json", level="info"):
    stream = io.StringIO()
    logging.getLogger().handlers[:] = []  # pytest's own raise on a library's mistake
    log.configure(log_format, level, stream=stream)
    return stream


def fail(message):
    raise ValueError(message)


def test_json_lines_carry_event_level_time_and_bound_fields():
    """A line of a run carries what was bound for the run, and only inside of it."""
    stream = lines()
    with log.bound(run_id=7, account="default", region="cn-north-1"):
        log.get_logger().info("lane_done", present=3)
    log.get_logger().info("over")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert {
        "event": "lane_done",
        "level": "info",
        "run_id": 7,
        "present": 3,
    }.items() <= first.items()
    assert first["timestamp"].endswith("Z")
    assert "run_id" not in second


def test_nothing_goes_to_standard_output(capsys):
    """Standard output is for data, before the log is configured too."""
    log.get_logger().error("before")
    log.configure("json", "debug")
    log.get_logger().debug("after")
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["before", "after"]


def test_level_is_the_lowest_that_is_written():
    """What is below the level is dropped."""
    stream = lines(level="warning")
    log.get_logger().info("quiet")
    log.get_logger().warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_refused(monkeypatch, name, value):
    """A terminal gets none that shows none, or whose user wants none."""
    monkeypatch.setenv(name, value)
    terminal = Terminal()
    log.configure("auto", "info", stream=terminal)
    log.get_logger().info("plain", answer=42)
    assert "plain" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


def test_auto_is_json_unless_the_stream_is_a_terminal():
    """A person gets a console's lines, a journal gets JSON."""
    stream = lines("auto")
    log.get_logger().info("plain")
    assert json.loads(stream.getvalue())["event"] == "plain"
    terminal = Terminal()
    log.configure("auto", "info", stream=terminal)
    log.get_logger().info("coloured")
    assert "coloured" in terminal.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(terminal.getvalue())


SECRET = 'sk"4/é+\\x'


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        repr([SECRET]),
        json.dumps(SECRET),
    ],
)
def test_a_registered_secret_appears_in_no_form(log_format, form):
    """Plain, quoted, escaped, base64; in values, keys, containers, bytes, objects, tracebacks."""
    stream = lines(log_format)
    log.redact(SECRET)
    logger = log.get_logger(bound=form)

    class Holder:
        def __str__(self):
            return f"holder {form}"

    logger.info("values", a=f"x{form}y", b=[{form: form}], c=(form,), d=form.encode(), e=Holder())
    try:
        fail(f"with {form}")
    except ValueError:
        logger.exception("failed")
    logging.getLogger("library").error("it said %s", form)
    written = stream.getvalue()
    core = form.strip("[]'\"")
    assert core not in written
    assert SECRET not in written
    assert json.dumps(core)[1:-1] not in written
    assert written.count("***") >= 8


@pytest.mark.parametrize(
    ("given_text", "secret"),
    [
        ("postgresql://u:hunter2@h/db", "hunter2"),
        ("cannot reach amqp://u:hunter2@h:5672/ now", "hunter2"),
        ("mysql://u:p/hunter2@h/db", "hunter2"),
        ("postgresql://h/db?user=u&password=hunter2&x=1", "hunter2"),
        ("{'Authorization': 'JDCLOUD2-HMAC-SHA256 Credential=AK/x, Signature=0a1b'}", "0a1b"),
        ("Authorization: JDCLOUD2-HMAC-SHA256 Credential=AKID/x", "AKID"),
        ("('x-jdcloud-security-token', 'hunter2')", "hunter2"),
        ("Credential=x, Signature=0a1b2c", "0a1b2c"),
    ],
)
def test_unregistered_secrets_are_masked_by_their_place(given_text, secret):
    """Passwords in URLs, tokens, signatures and authorization headers are masked unregistered."""
    stream = lines()
    log.get_logger().info("event", value=given_text, headers={"Authorization": secret})
    written = json.loads(stream.getvalue())
    assert secret not in str(written)
    assert "***" in written["value"]


def test_lease_tokens_and_plain_urls_are_left_readable():
    """Masking does not take what is no secret."""
    stream = lines()
    log.get_logger().info("lease", token=5, endpoint="https://vm.jdcloud-api.com:443/v1/x?ids.1=a")
    written = json.loads(stream.getvalue())
    assert written["token"] == 5
    assert written["endpoint"] == "https://vm.jdcloud-api.com:443/v1/x?ids.1=a"


@pytest.mark.parametrize("log_format", ["json", "console"])
@given(hostile=st.text(max_size=40))
def test_no_value_reaches_a_terminal_raw(log_format, hostile):
    """Whatever an image is called, its line stays one line without control characters."""
    stream = lines(log_format)
    log.get_logger().info("image", name=hostile, nested=[hostile])
    written = stream.getvalue()
    assert written.endswith("\n")
    assert written[:-1].isprintable()


def test_a_traceback_keeps_its_lines_on_a_console_and_nothing_else():
    """A traceback is readable, and what an exception says cannot steer the terminal."""
    stream = lines("console")
    try:
        fail("\x1b[2Jgone\u202e")
    except ValueError:
        log.get_logger().exception("failed")
    written = stream.getvalue()
    assert "Traceback" in written
    assert written.count("\n") >= 3
    assert written.replace("\n", "").isprintable()


def test_values_are_bounded():
    """A huge value cannot split a journal's line; a traceback keeps its end."""
    stream = lines()
    log.get_logger().info("event", value="x" * 10**6, exception="a" * 10**6 + "the end")
    assert len(stream.getvalue()) < 24_000
    assert json.loads(stream.getvalue())["exception"].endswith("the end")


def test_libraries_and_warnings_speak_from_warning_on():
    """The standard library's records and Python's warnings become lines like ours."""
    stream = lines(level="debug")
    logging.getLogger("aiohttp.access").info("chatter")
    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("broken").warning("%d", "no number")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["library"] for line in written] == ["asyncio", "broken", "py.warnings"]
    assert written[0]["message"] == "slow callback"


def test_configuring_again_replaces():
    """A second `configure` moves every logger, and no line comes twice."""
    first = lines()
    logger = log.get_logger()
    second = lines()
    logger.warning("moved")
    logging.getLogger("library").warning("moved too")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 2


def test_a_log_that_cannot_be_written_stops_nothing():
    """A full disk or a reader that went away behind standard error is not the work's failure."""

    class Broken(io.StringIO):
        tried = 0

        def write(self, _line):
            self.tried += 1
            raise BrokenPipeError

    stream = Broken()
    log.configure("json", "info", stream=stream)
    log.get_logger().info("event")
    closed = lines()
    closed.close()
    log.get_logger().info("event")
    assert stream.tried == 1


def test_passwords_of_a_url_are_found_as_written_and_decoded():
    """What a driver's error may show of a configured URL can be registered."""
    found = text.passwords_of("postgresql://u:a%2Fb@h/db?sslpassword=c")
    assert set(found) == {"a%2Fb", "a/b", "c"}
    assert text.passwords_of("sqlite:///collector.db") == []
    assert text.redacted_url("postgresql://u:a@h/db") == "postgresql://u:***@h/db"


@given(st.text())
def test_printable_text_is_unchanged_and_all_other_becomes_printable(value):
    """Nothing a terminal obeys is left, and ordinary text of any script is."""
    made = text.printable(value)
    assert made.isprintable()
    if value.isprintable():
        assert made == value


def test_json_shows_no_invisible_character():
    """Control and format characters of every script are escapes, which mean the same."""
    hidden = [char for char in map(chr, range(0x110000)) if category(char) in {"Cc", "Cf"}]
    document = json.dumps({"name": f"a{''.join(hidden)}é镜像😀"}, ensure_ascii=False).encode()
    made = text.harmless_json(document)
    assert json.loads(made) == json.loads(document)
    assert not set(hidden).intersection(made.decode())
    assert "é镜像😀" in made.decode()
