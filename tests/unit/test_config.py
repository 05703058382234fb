"""The configuration as the contract spells it: values, defaults, limits, and every mistake told."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector import config
from collector.config import database_url, distinct_keys, load
from collector.errors import ConfigurationError
from collector.settings import duration

EXAMPLE = Path(__file__).parents[2] / "config" / "collector.example.toml"
ACCOUNT = '[[accounts]]\nname = "a"\n'
TARGET = '[[targets]]\naccount = "a"\nregion = "cn-north-1"\n'


@pytest.fixture
def file(tmp_path):
    return tmp_path / "collector.toml"


def read(file, text, env=None):
    file.write_text(text, encoding="utf-8")
    return load(file, env=env or {})


def refusal(file, text, env=None):
    with pytest.raises(ConfigurationError) as caught:
        read(file, text, env)
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_an_empty_file_has_every_default_of_the_contract(file):
    """What is left out has the contract's value."""
    found = read(file, "").model_dump()
    assert found == {
        "database": {"url": "sqlite:///collector.db"},
        "api": {
            "endpoint": "https://vm.jdcloud-api.com",
            "rate_limit": 10.0,
            "account_rate_limit": 16.0,
            "signature": "JDCLOUD2",
            "security_token_encoding": "raw",
            "concurrency": 16,
            "timeout": 10.0,
            "max_attempts": 5,
            "fetch": "single",
            "adaptive": True,
            "members": False,
            "max_response_bytes": 4194304,
            "deadline": None,
            "time_zone": "Asia/Shanghai",
        },
        "accounts": (),
        "targets": (),
        "queue": {"url": "database", "name": "collector", "max_deliveries": 5},
        "schedule": {"every": 3600.0},
        "serve": {"listen": "127.0.0.1:9464"},
        "metrics": {"textfile": ""},
        "retention": {"observations": 400 * 86400.0},
        "audit": {},
        "log": {"format": "auto", "level": "info"},
    }


def test_the_example_names_every_key_with_its_default(file):
    """The file that `init` writes loads, says the defaults, and leaves no key out."""
    example = EXAMPLE.read_text(encoding="utf-8")
    found = read(file, example)
    defaults = read(file, "")
    for table in ("database", "api", "queue", "schedule", "serve", "metrics", "retention", "log"):
        assert getattr(found, table) == getattr(defaults, table)
        for key in type(getattr(found, table)).model_fields:
            assert re.search(rf"^{key} = ", example, re.MULTILINE), key
    assert found.account("default").credentials == "env"
    assert found.warnings == []
    found.require_targets()


def test_values_are_read_as_written(file):
    """Every table is read under its own name; paths of id files start at the file."""
    found = read(
        file,
        "[database]\nurl = 'mariadb://u:p@h/db'\n"
        "[api]\nendpoint = 'http://127.0.0.1:8080/'\nrate_limit = 0.5\ndeadline = '30m'\n"
        "[[accounts]]\nname = 'a'\ncredentials = 'jdc:p'\n"
        "[[targets]]\naccount = 'a'\nregion = 'cn-east-2'\nimages = ['img-1', 'B_2']\n"
        "ids_file = 'sub/ids.txt'\ndiscover = ['private', 'shared']\n"
        "[queue]\nurl = 'amqp://u:p@h/'\n[schedule]\nevery = ''\n[serve]\nlisten = '[::1]:80'\n"
        "[audit.old_image]\ndays = 30\nnames = ['x', 'y']\n",
    )
    assert found.database.url == "mariadb://u:p@h/db"
    assert found.api.endpoint == "http://127.0.0.1:8080"
    assert (found.api.rate_limit, found.api.deadline) == (0.5, 1800.0)
    (target,) = found.targets
    assert target.images == ("img-1", "B_2")
    assert target.ids_file == str(file.parent / "sub/ids.txt")
    assert target.discover == ("private", "shared")
    assert found.schedule.every is None
    assert found.serve.address == ("::1", 80)
    assert found.audit == {"old_image": {"days": 30, "names": ["x", "y"]}}
    assert found.base == file.parent
    assert set(found.secrets) == {"p"}


def test_an_account_takes_from_api_what_it_does_not_set(file):
    """Rates and endpoint of an account win over `[api]`, 0 included."""
    found = read(
        file,
        "[api]\nrate_limit = 3\n[[accounts]]\nname = 'a'\naccount_rate_limit = 0\n"
        "[[accounts]]\nname = 'b'\nrate_limit = 7.5\nendpoint = 'https://b.example.com'\n",
    )
    first, second = found.account("a"), found.account("b")
    assert (first.rate_limit, first.account_rate_limit) == (3.0, 0.0)
    assert (second.rate_limit, second.account_rate_limit) == (7.5, 16.0)
    assert first.endpoint == "https://vm.jdcloud-api.com"
    assert second.endpoint == "https://b.example.com"
    with pytest.raises(KeyError):
        found.account("c")


def test_settings_are_frozen(file):
    """Nobody changes the settings after they were read."""
    found = read(file, "")
    with pytest.raises(ValueError, match="frozen"):
        found.api.rate_limit = 1.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("1h", 3600), ("400d", 34560000), ("1.5s", 1.5), ("2w", 1209600)],
)
def test_durations_are_a_number_and_a_unit(text, seconds):
    """s, m, h, d and w; the result is in seconds."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "0.0h"])
def test_no_duration_is_none(text):
    """Zero and nothing mean none."""
    assert duration(text) is None


@pytest.mark.parametrize(
    ("text", "key", "found", "allowed"),
    [
        ("[api]\nrate_limit = -1\n", "api.rate_limit", "-1", "a number above 0"),
        ("[api]\nrate_limit = 0\n", "api.rate_limit", "0", "a number above 0"),
        ("[api]\nrate_limit = inf\n", "api.rate_limit", "inf", "a number above 0"),
        ("[api]\nrate_limit = nan\n", "api.rate_limit", "nan", "a number above 0"),
        ("[api]\nrate_limit = '10'\n", "api.rate_limit", "'10'", "a number above 0"),
        ("[api]\nrate_limit = true\n", "api.rate_limit", "true", "a number above 0"),
        ("[api]\naccount_rate_limit = -0.1\n", "api.account_rate_limit", "-0.1", "from 0 (none)"),
        ("[api]\nendpoint = 'http://vm.x.com'\n", "api.endpoint", "'http://vm.x.com'", "loopback"),
        ("[api]\nendpoint = 'ftp://x'\n", "api.endpoint", "'ftp://x'", "https://HOST"),
        ("[api]\nendpoint = 'https://'\n", "api.endpoint", "'https://'", "https://HOST"),
        ("[api]\nendpoint = 'https://h/v1'\n", "api.endpoint", "'https://h/v1'", "https://HOST"),
        ("[api]\nendpoint = 'https://h:99999'\n", "api.endpoint", "'https://h:99999'", "[:PORT]"),
        ('[api]\nendpoint = "https://h\\n"\n', "api.endpoint", r"'https://h\n'", "https://HOST"),
        ("[api]\nsignature = 'v4'\n", "api.signature", "'v4'", '"JDCLOUD2" or "JDCLOUD3"'),
        ("[api]\nconcurrency = 0\n", "api.concurrency", "0", "a whole number from 1 to 1024"),
        ("[api]\nconcurrency = 1.5\n", "api.concurrency", "1.5", "a whole number from 1 to 1024"),
        (
            "[api]\nmax_attempts = 0xffffffffffffffffffff\n",
            "api.max_attempts",
            "over 64",
            "1 to 100",
        ),
        ("[api]\ntimeout = 0\n", "api.timeout", "0", "seconds, above 0"),
        ("[api]\nadaptive = 1\n", "api.adaptive", "1", "true or false"),
        ("[api]\nfetch = ['single']\n", "api.fetch", "a list of 1", '"single" or "batch"'),
        ("[api]\ntimeout.a.b = 1\n", "api.timeout", "a table", "seconds"),
        ("[api]\ndeadline = '30'\n", "api.deadline", "'30'", 'as "30m"'),
        ("[api]\ndeadline = 30\n", "api.deadline", "30", 'as "30m"'),
        ("[api]\ndeadline = '-1h'\n", "api.deadline", "'-1h'", 'as "30m"'),
        ("[api]\ntime_zone = 'Mars/X'\n", "api.time_zone", "'Mars/X'", "time zone"),
        ("[api]\ntime_zone = '../x'\n", "api.time_zone", "'../x'", "time zone"),
        ("api = 5\n", "api", "5", "a table"),
        ("accounts = 5\n", "accounts", "5", "[[accounts]]"),
        ("[accounts]\nname = 'a'\n", "accounts", "a table", "[[accounts]]"),
        ("accounts = [1]\n", "accounts[0]", "1", "[[accounts]]"),
        ("[[accounts]]\n", "accounts[0].name", "nothing", "1 to 64 of letters"),
        ("[[accounts]]\nname = 'a b'\n", "accounts[0].name", "'a b'", "1 to 64 of letters"),
        (ACCOUNT + "rate_limit = 0\n", "accounts[0].rate_limit", "0", "a number above 0"),
        (ACCOUNT + ACCOUNT, "accounts[1].name", "'a', which accounts[0] has", "of its own"),
        (ACCOUNT + "[[targets]]\naccount = 'a'\n", "targets[0].region", "nothing", "lower-case"),
        (ACCOUNT + "[[targets]]\nregion = 'x'\n", "targets[0].account", "nothing", "an account"),
        (
            ACCOUNT + TARGET + "images = ['ok', 'img m5']\n",
            "targets[0].images[1]",
            "'img m5', which has ' ' at position 4",
            "1 to 64 of letters",
        ),
        (
            ACCOUNT + TARGET + "images = 'img-a'\n",
            "targets[0].images",
            "'img-a'",
            "a list of image",
        ),
        (
            ACCOUNT + TARGET + "discover = ['mine']\n",
            "targets[0].discover[0]",
            "'mine'",
            "private,",
        ),
        (ACCOUNT + TARGET + "ids_file = ''\n", "targets[0].ids_file", "''", "the path of a file"),
        (
            ACCOUNT + "[[targets]]\naccount = 'a'\nregion = 'cn_1'\n",
            "targets[0].region",
            "'cn_1', which has '_' at position 3",
            "lower-case letters",
        ),
        ("[database]\nurl = 'oracle://h/x'\n", "database.url", "oracle://…", "sqlite:///FILE"),
        ("[database]\nurl = 'sqlite://x.db'\n", "database.url", "sqlite://…", "sqlite:///FILE"),
        ("[database]\nurl = 'sqlite://'\n", "database.url", "sqlite://…", "sqlite:///FILE"),
        (
            "[database]\nurl = 'sqlite:///:memory:'\n",
            "database.url",
            "sqlite://…",
            "sqlite:///FILE",
        ),
        ("[database]\nurl = 'mysql://h:1/?a=b'\n", "database.url", "mysql://…", "HOST/NAME"),
        ("[database]\nurl = 'x.db'\n", "database.url", "a text of 4 characters", "sqlite:///FILE"),
        ("[queue]\nurl = 'amqp://h:99999'\n", "queue.url", "amqp://…", '"database", amqp://'),
        ("[queue]\nurl = 'amqp://h:port/'\n", "queue.url", "amqp://…", '"database", amqp://'),
        ("[queue]\nurl = 'amqps://[::1'\n", "queue.url", "amqps://…", '"database", amqp://'),
        ("[queue]\nurl = 'redis://h'\n", "queue.url", "redis://…", '"database", amqp://'),
        ("[queue]\nmax_deliveries = 0\n", "queue.max_deliveries", "0", "a whole number from 1"),
        ("[serve]\nlisten = '9464'\n", "serve.listen", "'9464'", "HOST:PORT"),
        ("[serve]\nlisten = 'h:70000'\n", "serve.listen", "'h:70000'", "HOST:PORT"),
        ("[metrics]\ntextfile = '/x'\n", "metrics.textfile", "'/x'", "ends in .prom"),
        ("[retention]\nobservations = 'x'\n", "retention.observations", "'x'", 'as "30m"'),
        ("[log]\nlevel = 'INFO'\n", "log.level", "'INFO'", '"debug", "info"'),
        ("[audit]\ndays = 3\n", "audit.days", "3", "a table for each rule"),
        ("[audit.r]\nx = 1979-05-27\n", "audit.r.x", "1979-05-27", "a table for each rule"),
        ("[audit.r]\nx = nan\n", "audit.r.x", "nan", "a table for each rule"),
    ],
)
def test_a_bad_value_is_told_in_one_line(file, text, key, found, allowed):
    """The line names the file, the key, what was found and what is allowed."""
    (line,) = refusal(file, text).splitlines()
    assert line.startswith(f"{file}: {key}: found ")
    what, _, may = line.removeprefix(f"{file}: {key}: found ").partition("; allowed: ")
    assert found in what
    assert allowed in may
    assert line.isprintable()


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("[api]\nrate_limitt = 1\n", "api.rate_limitt", "did you mean rate_limit?"),
        ("[apii]\n", "apii", "did you mean api?"),
        ("[[target]]\n", "target", "did you mean targets?"),
        (ACCOUNT + "secret_key = 'hunter2'\n", "accounts[0].secret_key", "allowed: endpoint, "),
        (ACCOUNT + TARGET + "image = []\n", "targets[0].image", "did you mean images?"),
        ("[queue]\n'q\\u001b' = 1\n".replace("'", '"'), r"queue.q\x1b", "allowed: url, name"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(file, text, key, hint):
    """A misspelt key is never passed over, and its value, perhaps a secret, is not shown."""
    (line,) = refusal(file, text).splitlines()
    assert line.startswith(f"{file}: {key}: unknown key; {hint}")
    assert "hunter2" not in line


def test_a_target_of_no_account_is_told_with_the_nearest(file):
    """A target names one of the accounts."""
    text = "[[accounts]]\nname = 'production'\n[[targets]]\naccount = 'prodction'\nregion = 'x'\n"
    (line,) = refusal(file, text).splitlines()
    assert line == (
        f"{file}: targets[0].account: found 'prodction', no account's name; "
        "did you mean production?"
    )


def test_every_mistake_is_told_at_once(file):
    """Types, unknown keys, the environment and what is wrong between tables, a line each."""
    text = "[api]\ntimeout = -1\nx = 1\n" + ACCOUNT + ACCOUNT + TARGET.replace('"a"', '"b"')
    lines = refusal(file, text, {"COLLECTOR_API__CONCURRENCY": "many"}).splitlines()
    keys = {line.split(": found")[0].split(": unknown")[0] for line in lines}
    assert keys == {
        f"{file}: api.timeout",
        f"{file}: api.x",
        "COLLECTOR_API__CONCURRENCY",
        f"{file}: accounts[1].name",
        f"{file}: targets[0].account",
    }
    assert len(lines) == 5


def test_a_thousand_mistakes_do_not_flood(file):
    """Beyond fifty lines the rest is a number."""
    images = ", ".join("'a b'" for _ in range(1000))
    lines = refusal(file, ACCOUNT + TARGET + f"images = [{images}]\n").splitlines()
    assert len(lines) == 51
    assert lines[-1] == "and 950 more"


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"[api\n", "line 1, column 5"),
        (b"[api]\nrate_limit = \n", "line 2, column 14"),
        (b"[api]\n\nrate_limit = 'x", "end of document"),
        (b"a = 1\n\xff", "line 2, column 1: found byte 0xff"),
        (b"a = 1\na = 2\n", "line 2"),
        (b"\x00", "line 1, column 1"),
        (b"x = " + b"[" * 5000, "allowed: TOML"),
        (b"x = " + b"9" * 5000, "allowed: TOML"),
    ],
)
def test_bad_toml_is_told_with_line_and_column(file, content, where):
    """Syntax errors name the place."""
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(file, env={})
    text = str(caught.value)
    assert text.startswith(f"{file}: ")
    assert where in text
    assert text.isprintable()


def test_a_byte_order_mark_is_no_error(file):
    """Some editors write one."""
    file.write_bytes(b"\xef\xbb\xbf[api]\r\nrate_limit = 3\r\n")
    assert load(file, env={}).api.rate_limit == 3


def test_a_huge_file_is_not_read_whole():
    """A device without end is refused."""
    with pytest.raises(ConfigurationError, match="over 16777216 bytes"):
        load(Path("/dev/zero"), env={})


@pytest.mark.parametrize("name", ["missing.toml", ".", "nul\0"])
def test_an_unreadable_file_is_one_line(tmp_path, name):
    """A file that was named and cannot be read is said, and no other is tried."""
    with pytest.raises(ConfigurationError, match="cannot read the configuration") as caught:
        load(tmp_path / name, env={})
    assert str(caught.value).isprintable()


def test_the_file_is_looked_for_in_the_contracts_order(tmp_path, monkeypatch):
    """`--config`, then `$COLLECTOR_CONFIG`, then ./collector.toml, then /etc."""
    monkeypatch.chdir(tmp_path)
    assert list(map(str, config.PLACES)) == ["collector.toml", "/etc/collector/collector.toml"]
    monkeypatch.setattr(config, "PLACES", (Path("collector.toml"), tmp_path / "etc.toml"))
    with pytest.raises(ConfigurationError, match=r"looked for collector\.toml, .*/etc\.toml;"):
        load(None, env={"COLLECTOR_CONFIG": ""})
    for rate, name in enumerate(("etc.toml", "collector.toml", "env.toml", "option.toml"), start=1):
        (tmp_path / name).write_text(f"[api]\nrate_limit = {rate}\n", encoding="utf-8")
        env = {"COLLECTOR_CONFIG": str(tmp_path / "env.toml")} if rate >= 3 else {}
        option = tmp_path / name if rate == 4 else None
        assert load(option, env=env).api.rate_limit == rate


@pytest.mark.usefixtures("no_entry")
def test_a_directory_that_may_not_be_entered(tmp_path, monkeypatch):
    """There is nothing in root's home for a service's user; what stands in /etc says why."""
    monkeypatch.setattr(config, "PLACES", (Path("collector.toml"),))
    assert config.found() is None
    with pytest.raises(ConfigurationError, match="no configuration: looked for"):
        load(None, env={})
    monkeypatch.setattr(config, "PLACES", (Path("collector.toml"), tmp_path / "etc.toml"))
    assert config.found() == tmp_path / "etc.toml"


def test_the_environment_wins_and_is_read_as_its_keys_type(file):
    """`COLLECTOR_SECTION__KEY` overrides the file, in tables that the file does not have too."""
    env = {
        "COLLECTOR_DATABASE__URL": "postgresql://u:p@h/db",
        "COLLECTOR_API__RATE_LIMIT": "2.5",
        "COLLECTOR_API__CONCURRENCY": "4",
        "COLLECTOR_API__ADAPTIVE": "False",
        "COLLECTOR_SCHEDULE__EVERY": "",
        "COLLECTOR_AUDIT__OLD_IMAGE__DAYS": "30",
        "COLLECTOR_AUDIT__OLD_IMAGE__OWNER": "me",
        "COLLECTOR_CONFIG": "elsewhere",
        "COLLECTOR_REQUIRE_SERVICES": "1",
        "PATH": "/bin",
    }
    found = read(file, "[api]\nrate_limit = 9\n", env)
    assert found.database.url == "postgresql://u:p@h/db"
    assert (found.api.rate_limit, found.api.concurrency, found.api.adaptive) == (2.5, 4, False)
    assert found.schedule.every is None
    assert found.audit == {"old_image": {"days": 30, "owner": "me"}}


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("API__RATE_LIMIT", "fast", ": found 'fast'; allowed: a number above 0, at most 100000"),
        ("API__RATE_LIMIT", "nan", ": found nan; allowed: a number above 0, at most 100000"),
        ("API__ADAPTIVE", "yes", ": found 'yes'; allowed: true or false"),
        ("API__RATE_LIMITT", "1", ": unknown key; did you mean COLLECTOR_API__RATE_LIMIT?"),
        ("ACCOUNTS__0__NAME", "a", ": found a key of a list; allowed: keys outside of lists"),
        ("AUDIT__DAYS", "3", ": found 3; allowed: a table for each rule, of texts, numbers, true,"),
        ("DATABASE__URL", "oracle://u:hunter2@h", ": found oracle://…; allowed: sqlite:///FILE"),
    ],
)
def test_a_bad_variable_is_told_by_its_name(file, name, value, line):
    """The line names the variable, not the file, where the value came from it."""
    (told,) = refusal(file, "", {f"COLLECTOR_{name}": value}).splitlines()
    assert told.startswith(f"COLLECTOR_{name}{line}")


def test_an_unpublished_region_only_warns(file):
    """The API has no list of regions, so a well-formed one is believed."""
    text = ACCOUNT + TARGET + TARGET.replace("cn-north-1", "cn-west-9")
    (warning,) = read(file, text).warnings
    assert warning.startswith(f"{file}: targets[1].region: 'cn-west-9' is none of the published")


@pytest.mark.parametrize("text", ["", ACCOUNT, ACCOUNT + TARGET, ACCOUNT + TARGET + "images = []"])
def test_a_configuration_without_an_image_is_refused_where_one_is_needed(file, text):
    """Commands that collect what the file names end with 78 when it names nothing."""
    found = read(file, text)
    with pytest.raises(ConfigurationError, match="targets: found no image to collect"):
        found.require_targets()


@pytest.mark.parametrize("key", ["images = ['a']", "ids_file = 'x'", "discover = ['private']"])
def test_any_source_of_images_is_enough(file, key):
    """Ids, a file of ids or a listing."""
    read(file, ACCOUNT + TARGET + key).require_targets()


def test_two_accounts_may_not_share_an_access_key():
    """The error names the accounts and not the key."""
    distinct_keys([("a", "AKID1"), ("b", "AKID2")])
    with pytest.raises(ConfigurationError, match="'a' and 'c' have the same access key") as caught:
        distinct_keys([("a", "AKID1"), ("b", "AKID2"), ("c", "AKID1")])
    assert "AKID1" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[database]\nurl = 'postgresql://u:hunter2@h/db'\n[api]\nx = 1\n",
        "[database]\nurl = 'postgres://u:hunter2@h/db'\n",
        "[database]\nurl = 'postgresql:u:hunter2@h/db'\n",
        "[database]\nurl = 'hunter2'\n",
        "[queue]\nurl = 'http://u:hunter2@h/db'\n",
        "[api]\nendpoint = 'https://u:hunter2@h'\n",
        ACCOUNT + "credentials = 'hunter2'\n",
    ],
)
def test_no_error_shows_a_secret(file, text):
    """Where a URL or credentials stand, an error shows at most the scheme."""
    assert "hunter2" not in refusal(file, text)


def test_a_printed_configuration_shows_no_password(file):
    """The settings' own text, as in a log or a traceback, is safe."""
    text = "[database]\nurl = 'mysql://u:hunter2@h/db'\n[queue]\nurl = 'amqp://u:hunter2@h'\n"
    assert "hunter2" not in repr(read(file, text))


def test_the_digest_covers_effective_values_and_no_password(file):
    """Writing a default out changes nothing, a value does, another password does not."""
    plain = read(file, "").digest()
    assert re.fullmatch("[0-9a-f]{64}", plain)
    assert read(file, "[api]\nrate_limit = 10\n").digest() == plain
    assert read(file, "", {"COLLECTOR_API__RATE_LIMIT": "10"}).digest() == plain
    assert read(file, "[api]\nrate_limit = 11\n").digest() != plain
    first, second, other = (
        read(file, f"[database]\nurl = 'mysql://u:{password}@{host}/db'\n").digest()
        for password, host in (("a", "h"), ("b", "h"), ("a", "i"))
    )
    assert first == second
    assert first != other


def test_a_read_only_command_needs_a_database_and_no_file(file, tmp_path, monkeypatch):
    """`--database` wins, then the environment; else the configuration is read."""
    monkeypatch.chdir(tmp_path)
    env = {"COLLECTOR_DATABASE__URL": "sqlite:///env.db"}
    assert database_url(None, "sqlite:///option.db", env) == "sqlite:///option.db"
    assert database_url(None, None, env) == "sqlite:///env.db"
    file.write_text("[database]\nurl = 'sqlite:///file.db'\n", encoding="utf-8")
    assert database_url(file, None, {}) == "sqlite:///file.db"
    assert database_url(None, None, {}) == "sqlite:///file.db"
    assert database_url(file, None, env) == "sqlite:///env.db"
    assert database_url(tmp_path / "no.toml", "sqlite:///option.db", {}) == "sqlite:///option.db"


@pytest.mark.parametrize(
    ("override", "env", "where"),
    [
        ("oracle://u:hunter2@h", {}, "--database: found oracle://…; allowed: sqlite"),
        ("postgres://u:hunter2@h", {}, "(did you mean postgresql://?)"),
        (None, {"COLLECTOR_DATABASE__URL": ""}, "COLLECTOR_DATABASE__URL: found a text of 0"),
    ],
)
def test_a_bad_database_of_a_read_only_command_is_one_line(override, env, where):
    """It names the option or the variable, and shows no password."""
    with pytest.raises(ConfigurationError) as caught:
        database_url(None, override, env)
    assert where in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_importing_the_configuration_is_quick():
    """Nothing heavy comes with it: neither the database, the client nor the log."""
    code = "import sys, collector.config; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"sqlalchemy", "aiohttp", "structlog", "asyncio", "alembic", "rich"}
    assert not heavy & set(run.stdout.split())


names = st.sampled_from(
    [
        "api",
        "accounts",
        "targets",
        "queue",
        "audit",
        "name",
        "region",
        "rate_limit",
        "images",
        "url",
    ]
) | st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


def told(file, env):
    """The error's text, or nothing; any other exception fails the test."""
    try:
        load(file, env=env).digest()
    except ConfigurationError as error:
        return str(error)
    return ""


function_scoped = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(raw=st.dictionaries(names, values, max_size=6))
@function_scoped
def test_any_table_is_settings_or_a_configuration_error(raw, monkeypatch, file):
    """Whatever a file says, nothing but the documented error comes out, in printable lines."""
    monkeypatch.setattr(config, "_read", lambda _file: raw)

    text = told(file, {})

    assert all(line.isprintable() and line for line in text.split("\n") if text)


@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@function_scoped
def test_any_bytes_are_settings_or_a_configuration_error(content, file):
    """Whatever bytes a file has, nothing but the documented error comes out."""
    file.write_bytes(content)

    text = told(file, {})

    assert not text or text.startswith(str(file))


@given(
    name=names
    | st.sampled_from(["api__rate_limit", "audit__x__y", "api____", "__", "log__level__x"]),
    value=st.text(max_size=20) | st.just(os.fsdecode(b"\xff")),
)
@function_scoped
def test_any_variable_is_settings_or_a_configuration_error(name, value, file):
    """Whatever the environment says, nothing but the documented error comes out."""
    file.write_text("", encoding="utf-8")

    text = told(file, {f"COLLECTOR_{name}": value})

    assert text.isprintable()
