"""The recipes of `docs/recipes.md`, run as they are written but for the names of servers."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from collector.models import LaneKey, Outcome
from tests.support.inventory import START, image, inventory

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
RECIPES = {
    part.splitlines()[0]: re.findall(r"```(sh|python)\n(.*?)```", part, re.DOTALL)
    for part in PAGE.split("\n## ")[1:]
}


async def fill(url):
    north = LaneKey("default", "cn-north-1")
    both = {name: image(name, launchPermission="all") for name in ("img-a", "img-b")}
    async with inventory(url) as made:
        await made.run({north: both}, at=START)
        await made.run({north: {"img-b": Outcome.NOT_FOUND}}, at=START.replace(month=2))


def needs(*programs):
    missing = [name for name in programs if shutil.which(name) is None]
    if missing and os.environ.get("COLLECTOR_REQUIRE_SERVICES") == "1":
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def cook(title, folder, **replaced):
    """What each step of a recipe prints; none may fail or warn."""
    binaries = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    env = {name: text for name, text in os.environ.items() if not name.startswith("COLLECTOR_")}
    told, assigned = [], {}
    for language, step in RECIPES[title]:
        text = step
        for old, new in replaced.items():
            text = text.replace(WRITTEN[old], new)
        assigned |= dict(re.findall(r"^export (\w+)=(\S+)$", text, re.MULTILINE))
        words = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*words, text],
            cwd=folder,
            env=env | assigned | {"PATH": binaries},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), text
        told.append(done.stdout)
    return told


WRITTEN = {
    "psql": "postgresql://collector_auditor@db.example/collector",
    "mariadb": "--host=db.example --user=collector_auditor --table collector",
}
"""What the recipes call their servers."""


@pytest.fixture
async def folder(sqlite_url, tmp_path):
    """A directory with an inventory called collector.db, which nobody may write."""
    await fill(sqlite_url)
    path = tmp_path / "collector.db"
    shutil.move(sqlite_url.removeprefix("sqlite:///"), path)
    path.chmod(0o444)
    return tmp_path


async def test_sqlite3(folder):
    """Its own client, on a file that nobody may write."""
    needs("sqlite3")
    overview, rule = cook("sqlite3", folder)

    assert overview.splitlines()[-1].split() == ["cn-north-1", "private", "1"]
    assert rule.splitlines()[1:] == ['default,cn-north-1,img-a,"launch permission is all",1']


async def test_psql(new_database, tmp_path):
    """Whatever the session's time zone, a rule finds what it must."""
    needs("psql")
    url = new_database("postgresql")
    await fill(url)
    runs, rule = cook("psql", tmp_path, psql=url)

    assert "2026-02-01 00:00:00+00" in runs
    assert rule.splitlines()[1].startswith("default,cn-north-1,img-a,last read 2026-01-01")


async def test_mariadb(new_database, tmp_path):
    """The client runs a rule as it is printed."""
    needs("mariadb")
    url = make_url(new_database("mysql"))
    await fill(url.render_as_string(hide_password=False))
    server = f"--host={url.host} --port={url.port or 3306} --skip-ssl"
    options = f"{server} --user={url.username} --table {url.database}"
    (rule,) = cook("mariadb", tmp_path, mariadb=options)

    assert [cell.strip() for cell in rule.splitlines()[3].split("|")[1:5]] == [
        "default",
        "cn-north-1",
        "img-a",
        "created 2025-01-28",
    ]


async def test_duckdb(folder):
    """Exports join in DuckDB, with times as times."""
    *_, answer = cook("DuckDB", folder)

    assert "2026-01-01" in answer
    assert "│        2 │" in answer


async def test_pandas(folder):
    """A query becomes a data frame."""
    (answer,) = cook("pandas", folder)

    assert "cn-north-1 CentOS" in answer
