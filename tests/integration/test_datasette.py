"""Datasette with `config/datasette.yaml` on a collected database."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml

from collector.audit.catalogue import load_rules, parameters
from collector.audit.runner import audit
from collector.models import LaneKey, Members, Outcome
from collector.normalize import members
from collector.store.engine import Database
from tests.support.inventory import disk, image, inventory

CONFIG = Path(__file__).parents[2] / "config" / "datasette.yaml"
QUERIES = yaml.safe_load(CONFIG.read_text())["databases"]["collector"]["queries"]
NORTH = LaneKey("default", "cn-north-1")


async def fill(url):
    now = datetime.now(UTC)
    shared = Members(Outcome.PRESENT, *members({"pins": ["x", "friend"]}))
    first = {
        "img-open": image("img-open", launchPermission="all"),
        "img-gone": image("img-gone"),
        "img-left": image("img-left", dataDisks=[disk("vdb")]),
        "img-never": Outcome.DENIED,
    }
    second = {
        "img-open": image("img-open", launchPermission="all", odd=1),
        "img-gone": Outcome.NOT_FOUND,
        "img-shared": (image("img-shared"), shared),
    }
    async with inventory(url) as made:
        await made.run({NORTH: first}, at=now - timedelta(days=20))
        await made.run({NORTH: second}, at=now - timedelta(days=2))


@pytest.fixture(scope="module")
def site(sqlite_template, tmp_path_factory):
    """The URL of a Datasette that serves a database, and the database's."""
    folder = tmp_path_factory.mktemp("datasette")
    path = folder / "collector.db"
    shutil.copy(sqlite_template, path)
    asyncio.run(fill(f"sqlite:///{path}"))
    path.chmod(0o444)
    words = [sys.executable, "-m", "datasette", str(path), "--metadata", str(CONFIG), "--port", "0"]
    # Its own warnings, and where it logs its address, are not ours to judge.
    env = {name: text for name, text in os.environ.items() if name != "PYTHONWARNINGS"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=folder, env=env) as process:
        try:
            lines = iter(process.stderr.readline, "")
            address = next(m[0] for line in lines if (m := re.search(r"http://[\d.]+:\d+", line)))
            yield address, f"sqlite:///{path}"
        finally:
            process.terminate()


def ask(address, path, **values):
    query = urlencode({"_shape": "array", **values})
    with urllib.request.urlopen(f"{address}/{path}?{query}", timeout=30) as answer:
        return answer.read()


def rows(address, name, **values):
    return json.loads(ask(address, f"collector/{name}.json", **values))


async def found(url, rule_id, **values):
    async with Database(url, read_only=True) as database:
        given = parameters({rule_id: values})
        chosen, now = [load_rules()[rule_id]], datetime.now(UTC)
        return [finding._asdict() async for _, finding in audit(database, chosen, given, now)]


@pytest.mark.parametrize("name", QUERIES)
def test_every_canned_query_runs(site, name):
    """Also without its parameters, and its page says what it is."""
    address, _ = site
    rows(address, name)
    page = ask(address, f"collector/{name}").decode()

    assert QUERIES[name]["description"].split(":")[0].split("'")[0][:40] in page


@pytest.mark.parametrize("rule_id", load_rules())
async def test_a_canned_rule_finds_what_the_command_finds(site, rule_id):
    """With the parameters left empty it has the same defaults."""
    address, url = site

    assert rows(address, f"audit_{rule_id}") == await found(url, rule_id)


@pytest.mark.parametrize(
    ("rule_id", "asked", "values"),
    [
        ("gone_image", "1", {"days": 1}),
        ("gone_image", "3", {"days": 3}),
        ("unread_image", "21", {"days": 21}),
        ("end_of_life_os", "36500", {"days": 36500}),
    ],
)
async def test_a_parameter_can_be_typed(site, rule_id, asked, values):
    """Days are what they are in the configuration."""
    address, url = site

    assert rows(address, f"audit_{rule_id}", days=asked) == await found(url, rule_id, **values)


@pytest.mark.parametrize(
    ("asked", "left"),
    [("", ["x", "friend"]), ("friend", ["x"]), ("friend, x", []), ('"', ["x", "friend"])],
)
def test_an_allow_list_is_typed_with_commas(site, asked, left):
    """Spaces after a comma do not count; a quote is part of a name."""
    address, _ = site
    reasons = [
        row["reason"] for row in rows(address, "audit_shared_outside_allow_list", allowed=asked)
    ]

    assert reasons == sorted(
        f"shared with account {pin}, which is not on the allow-list" for pin in left
    )


def test_tables_and_views_are_described(site):
    """The page of a view says what its columns are."""
    address, _ = site
    page = ask(address, "collector/current_images").decode()

    assert "neither gone nor never seen" in page
    assert "Declared system disk size (GiB)" in page
