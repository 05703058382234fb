"""The rules' files, their parameters, and `collector audit`."""

import asyncio
import csv
import io
import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from collector.audit import catalogue
from collector.audit.catalogue import SEVERITIES, choose, load_rules, parameters, parse
from collector.audit.runner import portable_sql
from collector.cli.audit import SHOWN
from collector.cli.main import main
from collector.errors import ConfigurationError, UsageError
from collector.models import LaneKey
from tests.support.inventory import disk, image, inventory

NORTH = LaneKey("main", "cn-north-1")
EVIL = "=\x1b]0;owned\x07cmd"
NOW = datetime(2026, 3, 1, tzinfo=UTC)

FILE = """\
-- id: some
-- title: Title
-- severity: low
-- rationale: Why,
--   and more of it.
-- remedy: What
-- source: Where: there
-- parameter days = 30: Days.
-- parameter names = ["a"]: Names.
-- moment before: now - days
select 1 as a -- no header: any more
where x < :before and '12:00' <> y and n not in :names
"""


async def fill(url, count):
    many = {f"img-{n:03}": image(f"img-{n:03}", launchPermission="all") for n in range(count)}
    gone = {"img-evil": image("img-evil", dataDisks=[disk(EVIL)])}
    async with inventory(url) as made:
        await made.run({NORTH: many | gone})


@pytest.fixture
def database(sqlite_url, monkeypatch, tmp_path):
    """An inventory with more findings of one rule than a table shows, and no configuration."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLLECTOR_CONFIG", "COLLECTOR_DATABASE__URL"):
        monkeypatch.delenv(name, raising=False)
    asyncio.run(fill(sqlite_url, SHOWN + 5))
    return sqlite_url


def test_a_file_becomes_a_rule():
    """Header lines go on over indented ones; the statement begins at the first that is none."""
    rule = parse("some", FILE)

    assert (rule.id, rule.title, rule.severity, rule.source) == (
        "some",
        "Title",
        "low",
        "Where: there",
    )
    assert rule.rationale == "Why, and more of it."
    assert {n: p.default for n, p in rule.parameters.items()} == {"days": 30, "names": ["a"]}
    assert rule.parameters["days"].meaning == "Days."
    assert rule.sql.startswith("select 1 as a --")
    assert rule.sql.endswith("in :names")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-- title: Title\n", ""),
        ("-- title: Title\n", "-- titel: Title\n"),
        ("-- id: some", "-- id: other"),
        ("severity: low", "severity: grave"),
        (":before", ":after"),
        ("n not in :names", "1 = 1"),
        ("now - days", "yesterday"),
        ("-- remedy: What", "--   remedy"),
    ],
)
def test_a_file_with_a_mistake_is_no_rule(old, new):
    """A header that lacks something, or does not fit its statement, is refused when it is read."""
    with pytest.raises((ValueError, KeyError)):
        parse("some", FILE.replace(old, new))


def test_rules_are_complete_and_ordered():
    """At least fifteen rules, the most severe first, whose texts say something."""
    ranks = [SEVERITIES.index(rule.severity) for rule in load_rules().values()]

    assert len(ranks) >= 15
    assert ranks == sorted(ranks, reverse=True)
    for rule in load_rules().values():
        assert min(len(rule.title), len(rule.rationale), len(rule.remedy)) > 20, rule.id
        assert all(parameter.meaning for parameter in rule.parameters.values())


def test_no_rule_asks_what_mysql_does_not_know():
    """Its VALUES wants the word ROW before each row, which the others refuse: UNION ALL instead."""
    assert not [rule.id for rule in load_rules().values() if re.search(r"(?i)\bvalues\b", rule.sql)]


def test_parameters_come_from_the_configuration_over_the_defaults():
    """What is configured replaces a default; the other rules keep theirs."""
    values = parameters(
        {"old_image": {"days": 0.5}, "shared_outside_allow_list": {"allowed": ["a"]}}
    )

    assert values["old_image"] == {"days": 0.5}
    assert values["shared_outside_allow_list"] == {"allowed": ["a"]}
    assert values["unread_image"] == {"days": 7}
    assert parameters({})["old_image"] == {"days": 365}


@pytest.mark.parametrize(
    ("configured", "line"),
    [
        ({"old_images": {}}, "audit.old_images: unknown rule; did you mean old_image?"),
        ({"old_image": {"day": 1}}, "audit.old_image.day: unknown parameter; did you mean days?"),
        ({"old_image": {"days": "1"}}, "audit.old_image.days: found '1'; allowed: a number from 0"),
        ({"old_image": {"days": True}}, "audit.old_image.days: found true; allowed: a number"),
        ({"old_image": {"days": -1}}, "audit.old_image.days: found -1; allowed: a number"),
        (
            {"old_image": {"days": 1e9}},
            "audit.old_image.days: found 1000000000.0; allowed: a number",
        ),
        ({"shared_outside_allow_list": {"allowed": "x"}}, "found 'x'; allowed: a list of texts"),
        ({"shared_outside_allow_list": {"allowed": ["a\\"]}}, "allowed: a list of texts without"),
        ({"error_status": {"x": 1}}, "audit.error_status.x: unknown parameter; allowed: none"),
    ],
)
def test_a_wrong_parameter_is_refused_in_words(configured, line):
    """The line names the key, what was found and what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        parameters(configured)

    assert line in str(caught.value)


def test_every_wrong_parameter_is_told_at_once():
    """One line each."""
    with pytest.raises(ConfigurationError) as caught:
        parameters({"old_image": {"days": "x", "hours": 1}, "nothing": {}})

    assert len(str(caught.value).splitlines()) == 3


def test_chosen_rules_keep_their_order_and_an_unknown_one_is_refused():
    """Whatever order they are asked for in."""
    assert [rule.id for rule in choose(["old_image", "never_read"])] == ["never_read", "old_image"]
    assert len(choose([])) == len(load_rules())
    with pytest.raises(UsageError, match="no rule 'neverread'; did you mean never_read"):
        choose(["neverread"])


def test_literals_are_quoted_and_times_are_in_utc():
    """A text cannot end its literal; a time names its offset; other colons are left alone."""
    rule = parse("some", FILE)
    sql = portable_sql(rule, {"days": 1.5, "names": ["o'; drop", "b"]}, NOW)

    assert "x < '2026-02-27 12:00:00.000000+00:00'" in sql
    assert "not in ('o''; drop', 'b');" in sql
    assert "'12:00' <> y" in sql


def test_a_date_parameter_lies_ahead():
    """`now + days` is in the future, as a day."""
    sql = portable_sql(load_rules()["end_of_life_os"], {"days": 31}, NOW)

    assert "e.ended < '2026-04-01'" in sql


def test_list_shows_the_rules_with_the_configured_parameters(capsys, tmp_path, database):
    """Without a configuration the defaults; with one what it says; as JSON everything."""
    assert main(["audit", "list"]) == 0
    assert "days = 365" in capsys.readouterr().out
    path = tmp_path / "some.toml"
    path.write_text("[audit.old_image]\ndays = 5\n")

    assert main(["audit", "list", "--config", str(path), "--json"]) == 0
    listed = {rule["id"]: rule for rule in json.loads(capsys.readouterr().out)}
    assert listed.keys() == load_rules().keys()
    assert listed["old_image"]["parameters"] == {"days": 5}
    assert listed["old_image"]["remedy"]


def test_the_environment_sets_a_parameter(capsys, monkeypatch, database):
    """Also without a configuration file."""
    monkeypatch.setenv("COLLECTOR_AUDIT__OLD_IMAGE__DAYS", "12")

    assert main(["audit", "sql", "old_image"]) == 0
    assert "-- days = 12" in capsys.readouterr().out


def test_no_audit_command_needs_a_configuration_beside_a_database(capsys, tmp_path, monkeypatch):
    """A configuration that lies there is not read then; neither is the database by these two."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "collector.toml").write_text("no TOML")
    for words in (["list"], ["sql", "old_image"]):
        assert main(["audit", *words, "--database", "sqlite:///x.db"]) == 0
        assert "days = 365" in capsys.readouterr().out
    assert not (tmp_path / "x.db").exists()


def test_a_wrong_configuration_ends_with_78(capsys, tmp_path, database):
    """One line, no traceback."""
    path = tmp_path / "some.toml"
    path.write_text("[audit.old_image]\ndays = 'x'\n")

    assert main(["audit", "run", "--config", str(path), "--database", database]) == 78
    assert capsys.readouterr().err.count("\n") == 1


def test_sql_runs_as_it_is_printed(capsys, database):
    """What is printed is one statement that the database's own client takes."""
    assert main(["audit", "sql", "open_to_everyone"]) == 0
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection:
        rows = connection.execute(capsys.readouterr().out).fetchall()

    assert len(rows) == SHOWN + 5
    assert rows[0] == ("main", "cn-north-1", "img-000", "launch permission is all", 1)


def test_run_prints_a_table_that_is_cut_with_the_way_to_see_all(capsys, database):
    """Hostile text reaches no terminal; the last line counts by severity."""
    assert main(["audit", "run", "--database", database]) == 0
    out = capsys.readouterr().out

    assert "high open_to_everyone: Private image that everyone may use" in out
    assert "… and 5 more: collector audit run --rule open_to_everyone --format csv" in out
    assert "\x1b]" not in out
    assert re.search(r"findings: \d+ of \d+ rules: \d+ high, .*, \d+ info$", out.strip())


def test_run_as_json_is_one_document(capsys, database):
    """All findings, and every rule with its number of them, also when it is zero."""
    assert main(["audit", "run", "--database", database, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    counts = {rule["id"]: rule["findings"] for rule in document["rules"]}

    assert counts.keys() == load_rules().keys()
    assert counts["open_to_everyone"] == SHOWN + 5
    assert counts["never_read"] == 0
    assert len(document["findings"]) == sum(counts.values())
    assert {"rule": "unencrypted_disk", "severity": "medium", "account": "main"}.items() <= next(
        one for one in document["findings"] if one["rule"] == "unencrypted_disk"
    ).items()


def test_run_without_findings_is_still_json(capsys, sqlite_url):
    """An empty database gives an empty list."""
    assert main(["audit", "run", "--database", sqlite_url, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []


def test_run_as_csv_guards_spreadsheets(capsys, database, monkeypatch):
    """A header and a line each; a reason that would run as a formula would get an apostrophe."""
    words = ["audit", "run", "--database", database, "--format", "csv"]
    assert main([*words, "--rule", "unencrypted_disk"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))

    assert rows[0] == ["rule", "severity", "account", "region", "image_id", "reason", "run_id"]
    assert any(EVIL in row[5] for row in rows)
    hostile = parse(
        "some", FILE.partition("-- parameter")[0] + f"select 'a', 'b', 'c', '{EVIL}', 1"
    )
    monkeypatch.setattr(catalogue, "load_rules", lambda: {"some": hostile})
    assert main(words) == 0
    assert f",'{EVIL},1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fail_on", "rule", "code"),
    [
        ("high", "open_to_everyone", 1),
        ("info", "open_to_everyone", 1),
        ("high", "unencrypted_disk", 0),
        ("medium", "unencrypted_disk", 1),
        ("info", "never_read", 0),
        (None, "open_to_everyone", 0),
    ],
)
def test_fail_on_ends_with_1_at_or_over_its_severity(capsys, database, fail_on, rule, code):
    """Below it, or without it, findings end with 0."""
    words = ["audit", "run", "--database", database, "--rule", rule]

    assert main(words + (["--fail-on", fail_on] if fail_on else [])) == code


def test_an_unknown_rule_is_a_usage_error(capsys, database):
    """The nearest one is named."""
    assert main(["audit", "run", "--database", database, "--rule", "old_imag"]) == 2
    assert "did you mean old_image?" in capsys.readouterr().err
