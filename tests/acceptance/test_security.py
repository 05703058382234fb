"""Nothing dangerous comes out of what hostile people put in, and no secret comes out at all."""

import csv
import io
import json
import os
import re
import stat
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web
from sqlalchemy import make_url

from tests.conftest import server
from tests.support import forked
from tests.support.forked import Forker, forking
from tests.support.simulator import Simulator
from tests.support.site import Ended, Site, simulated

REGION = "cn-north-1"
HOSTILE = {
    "sql": "'; DROP TABLE images; --",
    "sql2": '" OR 1=1; DELETE FROM runs; #',
    "escape": "\x1b]0;owned\x07\x1b[31mred\x1b[2J",
    "link": "\x1b]8;;http://evil.example/\x1b\\click\x1b]8;;\x1b\\",
    "c1": "\x9b31mred\x9d0;owned\x9c",
    "backspace": "good\b\b\b\bevil\x7f\r\rINJECTED",
    "lines": "one\nINJECTED: run 99 is complete\r\nINJECTED\u2028INJECTED\u2029INJECTED\x85",
    "formula": "=cmd|' /C calc'!A0",
    "plus": "+1+cmd|' /C calc'!A0",
    "minus": "-2+3",
    "at": "@SUM(1+1)*cmd|' /C calc'!A0",
    "tab": "\t=1+1",
    "return": "\r=1+1",
    "script": "<script>alert(1)</script>",
    "attribute": "\"'><img src=x onerror=alert(1)>",
    "style": "</style></title></textarea><svg onload=alert(1)>",
    "template": "{{ 7*7 }}{% raw %}${7*7}",
    "rtl": "\u202egpj.exe\u202c \u2066x\u2069 \u200f\u061c",
    "nul": "before\x00after",
    "markup": "[bold red]marked[/bold red] [link=http://evil.example]x[/link] [/]",
    "format": "%s%n%x {0} {__class__} $(reboot) `reboot`",
    "long": "A" * 100_000,
    "invisible": "\ufeff\u200b\u00ad\ufff9",
}
"""Names that somebody may give to an image."""

IDS = {key: f"img-{key}" for key in HOSTILE}
FAILING, GONE = "img-failing", "img-gone"

TERMINAL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""What a terminal may act upon, or shows in another order than it is."""


@pytest.fixture(scope="module")
def forker() -> Forker:
    return forked.forker()


def fill(simulator: Simulator) -> None:
    """Hostile texts in every field that takes one, and in names of fields that nobody knows."""
    for key, text in HOSTILE.items():
        fields = dict.fromkeys(("name", "desc", "ownerPin", "loginName", "platform"), text)
        disk = {"deviceName": text, "diskCategory": text, "cloudDisk": {"diskType": text}}
        fields |= {"dataDisks": [disk], text[:2000]: text, "status": text, "launchPermission": "x"}
        simulator.add(REGION, IDS[key], imageSource="private", **fields)
        simulator.share(REGION, IDS[key], text, f"{text} too")
    for one in (FAILING, GONE):
        simulator.add(REGION, one, imageSource="private", name=HOSTILE["escape"])


async def refuse(request: web.BaseRequest) -> web.StreamResponse | None:
    """An error whose every word is hostile."""
    if not request.path.endswith(FAILING):
        return None
    text = "".join(HOSTILE[key] for key in ("escape", "lines", "c1", "rtl", "script", "markup"))
    envelope = {"requestId": text, "error": {"code": 403, "status": text, "message": text}}
    return web.json_response(envelope, status=403)


@pytest.fixture(scope="module")
def site(forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two collections, between which everything changed; one image fails, one is gone."""
    with simulated(images=0, regions=(REGION,)) as simulator:
        fill(simulator)
        site = Site(tmp_path_factory.mktemp("hostile"), simulator.url)
        site.configure(members=True, max_attempts=1)
        site.first = forker.run(site.directory, "run", "--json")
        for key, text in HOSTILE.items():
            simulator.change(REGION, IDS[key], name=f"{text} again", osVersion=text)
            simulator.share(REGION, IDS[key], f"{text} now")
        simulator.delete(REGION, GONE)
        simulator.intercept = refuse
        site.second = forker.run(site.directory, "run")
        yield site


def visible(done: Ended) -> Ended:
    """What was printed holds nothing that a terminal acts upon, and no line of somebody else's."""
    for text in (done.out, done.err):
        found = TERMINAL.search(text)
        assert found is None, text[max(0, found.start() - 80) : found.end() + 20].encode()
        assert not any(line.startswith("INJECTED") for line in text.splitlines())
    assert "Traceback" not in done.err
    return done


def test_hostile_names_are_collected_whole(site: Site) -> None:
    """They are data: stored as they came, except for NUL, which no column can hold."""
    assert (site.first.code, site.second.code) == (0, 3)
    names = dict(site.sql("SELECT image_id, name FROM current_images"))
    for key, text in HOSTILE.items():
        assert names[IDS[key]] == f"{text} again".replace("\x00", "\ufffd")
    payload = site.column("SELECT payload FROM image_versions WHERE valid_to IS NULL")
    stored = {json.loads(text)["imageId"]: json.loads(text)["name"] for text in payload}
    assert stored == {IDS[k]: f"{t} again" for k, t in HOSTILE.items()} | {
        FAILING: HOSTILE["escape"]
    }


def test_what_run_says(site: Site) -> None:
    """The summary names the failure with its hostile message, harmless; JSON is one document."""
    assert visible(site.first).document["present"] == len(HOSTILE) + 2
    assert "1 denied" in visible(site.second).out


READING = [
    *([["show", f"{REGION}/{one}"] for one in IDS.values()]),
    *([["show", "--history", f"{REGION}/{one}"] for one in IDS.values()]),
    ["show", "--json", "--history", f"{REGION}/{IDS['c1']}"],
    ["show", f"{REGION}/{GONE}"],
    ["show", f"{REGION}/{HOSTILE['escape']}"],
    ["show", HOSTILE["rtl"]],
    ["changes"],
    ["changes", "--json"],
    ["status"],
    ["status", "--json"],
    ["audit", "list"],
    ["audit", "run"],
    ["audit", "run", "--json"],
    ["audit", "run", "--rule", HOSTILE["c1"]],
    ["verify"],
    ["verify", "--json"],
    ["verify", "--expect", HOSTILE["escape"]],
    ["export", "current_images", "--format", "jsonl"],
    ["export", HOSTILE["escape"], "--format", "csv"],
    ["db", "status"],
    ["queue", "add", f"{REGION}/{HOSTILE['c1']}"],
    ["queue", "failed"],
    ["run", "--image", f"{REGION}/{HOSTILE['escape']}"],
    ["run", "--dry-run", "--ids-file", HOSTILE["rtl"]],
    ["discover", "--account", HOSTILE["c1"]],
    ["check", "--config", HOSTILE["lines"]],
    ["status", "--database", f"sqlite:///{HOSTILE['rtl']}"],
]


@pytest.mark.parametrize("words", READING, ids=lambda words: ascii(" ".join(words))[:60])
def test_what_commands_print(site: Site, forker: Forker, words: list[str]) -> None:
    """Control characters are shown as escapes, whatever asked for them and wherever they come."""
    words = [word.replace("\x00", "") for word in words]
    done = visible(forker.run(site.directory, *words))
    assert done.code in (0, 1, 2, 3, 69, 78), done
    if "--json" in words:
        json.loads(done.out)


def test_json_is_exact_though_it_is_escaped(site: Site, forker: Forker) -> None:
    """An escape in JSON is the character itself for whoever reads the document."""
    lines = forker.run(site.directory, "export", "current_images", "--format", "jsonl").out
    names = {row["image_id"]: row["name"] for row in map(json.loads, lines.splitlines())}
    for key, text in HOSTILE.items():
        assert names[IDS[key]] == f"{text} again".replace("\x00", "\ufffd")


def test_markup_is_text(site: Site, forker: Forker) -> None:
    """What looks like the markup of our own tables is shown as it is."""
    for words in (["show", f"{REGION}/{IDS['markup']}"], ["changes"]):
        out = forker.run(site.directory, *words, env={"COLUMNS": "500"}).out
        assert "[bold red]marked[/bold red]" in out


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_what_is_logged(site: Site, forker: Forker, log_format: str) -> None:
    """Both formats, at their most talkative."""
    env = {"COLLECTOR_LOG__FORMAT": log_format, "COLLECTOR_LOG__LEVEL": "debug"}
    done = forker.run(site.directory, "run", "--fresh", env=env)
    assert len(visible(done).err.splitlines()) >= 2


CSV = [
    ["export", "current_images", "--format", "csv"],
    ["export", "image_versions", "--format", "csv"],
    ["export", "observations", "--format", "csv"],
    ["export", "schema_drift", "--format", "csv"],
    ["export", "current_members", "--format", "csv"],
    ["audit", "run", "--format", "csv"],
]


@pytest.mark.parametrize("words", CSV, ids=" ".join)
def test_a_spreadsheet_runs_nothing(site: Site, forker: Forker, words: list[str]) -> None:
    """No cell that is text begins with what a spreadsheet takes for a formula."""
    done = forker.run(site.directory, *words)
    assert done.code == 0
    csv.field_size_limit(10**7)
    header, *rows = csv.reader(io.StringIO(done.out, newline=""))
    assert rows
    for row in rows:
        assert len(row) == len(header)
        for cell in row:
            number = re.fullmatch(r"-?\d+(\.\d+)?", cell)
            assert number or not cell.startswith(tuple("=+-@\t\r")), cell[:80]


class Page(HTMLParser):
    """Collects what a page would run, load or style."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.bad: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name.startswith("on") or (name in ("src", "href") and not value.startswith("#")):
                self.bad.append(f"{tag} {name}={value}")
        given = dict(attrs)
        if given.get("http-equiv", "").lower() == "content-security-policy":
            self.policy = given["content"]


def test_a_browser_runs_nothing(site: Site, forker: Forker) -> None:
    """The report has names as text, no script, no outside request, and a policy that says so."""
    done = forker.run(site.directory, "report", "--output", "report.html")
    assert visible(done).code == 0
    html = (site.directory / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert not page.tags & {"script", "img", "iframe", "object", "embed", "link", "form", "base"}
    assert page.bad == []
    assert "default-src 'none'" in page.policy
    assert TERMINAL.search(html.replace("\t", "")) is None
    assert "&lt;script&gt;alert(1)" in html
    assert "&lt;img src=x onerror" in html


def test_names_are_not_run_as_sql(site: Site) -> None:
    """Every table is there, and every run."""
    assert len(site.sql("SELECT id FROM runs")) >= 2
    assert len(site.sql("SELECT id FROM images")) == len(HOSTILE) + 2


SECRETS = {
    "JDCLOUD_ACCESS_KEY": "AK-VERY-OPEN-KEY",
    "JDCLOUD_SECRET_KEY": "SK+very/secret==&x",
    "JDCLOUD_SECURITY_TOKEN": "token-very+secret/==",
}
PASSWORD = "pass/word+very secret"


def forms(secret: str) -> set[str]:
    """A secret as it is, and as an address or JSON would have it."""
    return {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1]}


@pytest.fixture
def secretive(new_database, tmp_path: Path) -> Iterator[tuple[Site, str]]:
    """A site on PostgreSQL whose URL has a password, and whose keys are refused."""
    url = make_url(new_database("postgresql"))
    role = f"secretive_{url.database}"
    server("postgresql")([f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"])
    server("postgresql", url.database)(
        [
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        ]
    )
    try:
        with simulated(images=4) as simulator:
            site = Site(tmp_path, simulator.url)
            given = url.set(username=role, password=PASSWORD)
            site.configure(database=given.render_as_string(hide_password=False), max_attempts=1)
            yield site, given.render_as_string(hide_password=False)
    finally:
        server("postgresql", url.database)([f"DROP OWNED BY {role}", f"DROP ROLE {role}"])


def test_secrets_are_nowhere(secretive, forker: Forker) -> None:
    """Not printed, logged, stored or shown by `ps`, whether all is well, refused or broken."""
    site, url = secretive
    env = SECRETS | {"COLLECTOR_LOG__LEVEL": "debug"}
    wrong = env | {"COLLECTOR_DATABASE__URL": url.replace("127.0.0.1", "127.0.0.1:1")}
    said = []
    for words in (
        *(["run"], ["run", "--json"], ["check"], ["check", "--json"], ["discover"]),
        *(["status", "--json"], ["verify", "--json"], ["queue", "status", "--json"]),
        *(["db", "status", "--json"], ["db", "upgrade"], ["changes"], ["audit", "run"]),
        *(["report", "--output", "r.html"], ["export", "runs", "--format", "csv"]),
        *(["db", "copy", "--to", url], ["status", "--database", url + "?x=1"]),
        ["run", "--config", "missing.toml"],
    ):
        said.append(forker.run(site.directory, *words, env=env))
        said.append(forker.run(site.directory, *words, env=wrong))
    # A bug's traceback is scrubbed like everything else.
    broken = {"collector.run:seal_abandoned": None}
    said.append(forker.run(site.directory, "run", env=env, constants=broken))
    assert said[-1].code == 70
    with forker.running(site.directory, "run", env=env, before="opening") as run:
        run.reached()
        shown = Path(f"/proc/{run.pid}/cmdline").read_bytes().decode()
    printed = "".join(done.out + done.err for done in said) + shown
    printed += (
        (site.directory / "r.html").read_text() if (site.directory / "r.html").exists() else ""
    )
    dump = [
        str(row)
        for table in ("runs", "leases", "observation_rows", "lanes", "ledger")
        for row in rows(url, table)
    ]
    assert "***" in printed
    assert {done.code for done in said} >= {0, 69, 70, 77, 78}
    for secret in (*SECRETS.values(), PASSWORD):
        for form in forms(secret):
            assert form not in printed
            assert form not in "".join(dump)


def rows(url: str, table: str) -> list[tuple[object, ...]]:
    import psycopg

    given = make_url(url)
    options = {"host": given.host, "port": given.port, "user": given.username}
    options |= {"password": given.password, "dbname": given.database}
    with psycopg.connect(**options) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def test_files_are_for_their_owner_alone(tmp_path: Path, forker: Forker) -> None:
    """Whatever the umask: configuration, database, its journal, exports, reports, the demo's."""
    with simulated(images=8) as simulator:
        site = Site(tmp_path, simulator.url)
        site.config.unlink()
        before = os.umask(0)
        try:
            with forking() as careless:
                assert careless.run(tmp_path, "init").code == 0
                site.config.rename(tmp_path / "initial.toml")
                site.configure()
                with careless.running(tmp_path, "run", before="sealing") as run:
                    run.reached()
                    working = {p.name: mode(p) for p in tmp_path.glob("collector.db*")}
                    run.go()
                    assert run.end().code == 0
                for words in (
                    ["export", "images", "--format", "csv", "--output", "e.csv"],
                    ["report", "--output", "r.html"],
                    ["db", "copy", "--to", f"sqlite:///{tmp_path}/copy.db"],
                    ["demo", "--images", "4", "--keep", "demo"],
                ):
                    assert careless.run(tmp_path, *words).code == 0, words
        finally:
            os.umask(before)
    assert set(working) == {"collector.db", "collector.db-wal", "collector.db-shm"}
    assert set(working.values()) == {0o600}
    written = {
        str(path.relative_to(tmp_path)): mode(path)
        for path in tmp_path.rglob("*")
        if path.is_file() and path != site.config
    }
    assert {"initial.toml", "collector.db", "e.csv", "r.html", "copy.db"} <= set(written)
    assert {name: found for name, found in written.items() if found != 0o600} == {}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
