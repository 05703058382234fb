"""The report: a page that is whole, tells the truth, and runs nothing of what it shows."""

import asyncio
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import threading
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from collector import report as report_module
from collector.audit.catalogue import load_rules, parameters
from collector.cli.main import main
from collector.models import LaneKey, Members, Outcome
from collector.normalize import members
from collector.report import LISTED, Report, gather, render
from collector.store import ledger
from collector.store.engine import Database
from tests.support.inventory import disk, image, inventory

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NORTH, EAST = LaneKey("main", "cn-north-1"), LaneKey("main", "cn-east-2")
OTHER = LaneKey("other", "cn-north-1")
HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202e\x1b[31m"
VOID = {"meta", "br", "rect", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """A page's elements, its text, and where it is not well-formed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.errors: list[str] = []
        self.words: list[str] = []
        self.style = ""
        self._open: list[str] = []
        self.feed(html)
        self.errors += [f"{tag} is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.errors.append(f"unexpected </{tag}>")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes, _ in self.elements if tag in tags]


async def fill(url: str, many: int = 30) -> None:
    """A few weeks with everything in them: changes, failures, absence, hostile names, sharing."""
    friends = Members(Outcome.PRESENT, *members({"pins": [HOSTILE]}))
    evil = image("img-evil", name=HOSTILE, platform=HOSTILE, dataDisks=[disk(HOSTILE)])
    first = {
        f"img-{n:05}": image(f"img-{n:05}", createTime="2020-01-01 00:00:00") for n in range(many)
    }
    first |= {"img-evil": evil, "img-gone": image("img-gone"), "img-never": Outcome.DENIED}
    async with inventory(url) as made:
        run = await made.run(
            {NORTH: first, OTHER: {"img-evil": (evil, friends)}}, at=NOW - timedelta(days=20)
        )
        await ledger.seal(made.database, run)
        changed = image("img-00001", osVersion="9", dataDisks=[disk("vdb")])
        second = {"img-gone": Outcome.NOT_FOUND, "img-00000": Outcome.TIMEOUT, "img-00001": changed}
        run = await made.run({NORTH: second}, at=NOW - timedelta(days=10))
        await ledger.seal(made.database, run)
        run = await made.run({EAST: {"img-e": image("img-e")}}, at=NOW - timedelta(days=1))


async def read(url: str) -> Report:
    async with Database(url, read_only=True) as database:
        return await gather(database, parameters({}), NOW)


@pytest.fixture(scope="module")
def filled(sqlite_template: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "inventory.db"
    shutil.copy(sqlite_template, path)
    asyncio.run(fill(f"sqlite:///{path}"))
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def report(filled: str) -> Report:
    return asyncio.run(read(filled))


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return render(report)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_is_well_formed(page: Page) -> None:
    """Every element is closed where it was opened; no id is there twice."""
    ids = Counter(attributes["id"] for _, attributes, _ in page.elements if "id" in attributes)

    assert page.errors == []
    assert [name for name, count in ids.items() if count > 1] == []
    assert {link["href"] for link in page.of("a")} <= {f"#{name}" for name in ids}


def test_the_page_loads_and_runs_nothing(page: Page) -> None:
    """No script, no handler, no address; and a policy that forbids them all the same."""
    tags = {tag for tag, _, _ in page.elements}
    names = {name for _, attributes, _ in page.elements for name in attributes}
    policy = [m["content"] for m in page.of("meta") if "Content-Security-Policy" in m.values()]

    assert not tags & {
        "script",
        "img",
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "image",
    }
    assert not [name for name in names if name.startswith("on")]
    assert not names & {"src", "srcset", "action", "xlink:href", "data", "ping"}
    assert "url(" not in page.style
    assert "@import" not in page.style
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_hostile_names_are_only_text(page: Page, html: str) -> None:
    """What a name holds is shown, escapes and directions spelled out."""
    assert "<script>" in page.text
    assert "\\u202e\\x1b[31m" in page.text
    assert not set("\u202e\x1b") & set(html)


def test_the_page_can_be_used_without_a_mouse(page: Page) -> None:
    """What scrolls can be focused and has a name; what opens is a details with a summary."""
    scrolling = [a for a in page.of("div") if a.get("class") == "scroll"]
    charts = page.of("svg")

    assert scrolling
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in scrolling)
    assert all(a.get("aria-label") or a.get("aria-hidden") == "true" for a in charts)
    assert len(page.of("details")) == len(page.of("summary"))
    assert all(heading.get("scope") in {"col", "row"} for heading in page.of("th"))
    assert page.of("html") == [{"lang": "en"}]
    assert ":focus-visible" in page.style


def test_the_page_suits_dark_paper_and_phone(page: Page) -> None:
    """Its style speaks of each."""
    for medium in ("prefers-color-scheme: dark", "@media print", "max-width: 40rem"):
        assert medium in page.style
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")


def test_coverage_is_by_region_and_day(report: Report) -> None:
    """Each region has its newest finished run, and the share that was read on each day with one."""
    by_region = {(lane.account, lane.region): lane for lane in report.lanes}
    north = by_region["main", "cn-north-1"]

    assert report.days[0] == "2026-11-04"
    assert report.days[-1] == "2026-11-23"
    assert len(report.days) == 20
    assert (north.planned, north.read, north.run_id) == (3, 2, 2)
    assert [share for share in north.days if share is not None] == [32 / 33, 2 / 3]
    assert north.days[10] == 2 / 3
    assert report.lane_count == len(by_region) == 3


def test_the_timeline_counts_what_happened(report: Report) -> None:
    """By day; what only failed is no change."""
    told = {
        kind: {d: n for d, n in zip(report.days, numbers, strict=True) if n}
        for kind, numbers in report.timeline.items()
    }

    assert told == {
        "appeared": {"2026-11-04": 33, "2026-11-23": 1},
        "changed": {"2026-11-14": 1},
        "vanished": {"2026-11-14": 1},
    }
    assert [(c.kind, c.image_id) for c in report.latest[:3]] == [
        ("appeared", "img-e"),
        ("vanished", "img-gone"),
        ("changed", "img-00001"),
    ]
    assert len(report.latest) == LISTED


def test_the_inventory_is_broken_down(report: Report) -> None:
    """Every image, or disk, is in one bar of each breakdown."""
    bars = {
        title: {bar.label: bar.number for bar in some} for title, some in report.breakdowns.items()
    }

    assert report.states == {"present": 33, "gone": 1, "unknown": 1}
    assert bars["Source"] == {"private": 33}
    assert bars["Platform"] == {"CentOS": 31, HOSTILE: 2}
    assert bars["Age"] == {"1 to 2 years": 4, "over 5 years": 29}
    assert bars["Disks by encryption"] == {"not encrypted": 36}
    assert [(bar.label, bar.number) for bar in report.unread] == [("denied", 1), ("timeout", 1)]


def test_other_values_of_a_breakdown_share_a_bar(sqlite_url: str) -> None:
    """An open set of values does not make the page grow."""
    kinds = {n: (f"system {n // 2}", f"chip {n % 9}") for n in range(40)}
    many = {
        f"img-{n}": image(f"img-{n}", platform=platform, architecture=architecture)
        for n, (platform, architecture) in kinds.items()
    }

    async def made() -> Report:
        async with inventory(sqlite_url) as stock:
            await stock.run({NORTH: many}, at=NOW - timedelta(days=1))
        return await read(sqlite_url)

    bars = asyncio.run(made()).breakdowns

    assert (len(bars["Platform"]), bars["Platform"][-1]) == (9, ("12 others", 24))
    assert (len(bars["Architecture"]), bars["Architecture"][-1]) == (9, ("chip 8", 4))


def test_long_lists_are_cut_with_their_number_and_sql(filled: str, page: Page, html: str) -> None:
    """The SQL that is shown gives as many rows as the page counts."""
    old = asyncio.run(read(filled)).checked
    cut = next(one for one in old if one.rule.id == "old_image")
    with closing(sqlite3.connect(filled.removeprefix("sqlite:///"))) as connection:
        rows = connection.execute(cut.sql).fetchall()

    assert len(rows) == cut.total > LISTED
    assert f"{LISTED} of {cut.total} findings of old_image are listed." in page.text
    assert "SQL to see all findings of old_image" in page.text
    assert "create_time &lt; &#39;" in html


def test_every_rule_is_told(page: Page) -> None:
    """With its findings, or among those that found nothing."""
    assert [rule.title for rule in load_rules().values() if rule.title not in page.text] == []


def test_the_page_does_not_grow_with_the_inventory(new_database: Any) -> None:
    """Ten times the images, the same number of rows."""

    async def rows(count: int) -> int:
        url = new_database("sqlite")
        await fill(url, count)
        return len(Page(render(await read(url))).of("tr"))

    assert asyncio.run(rows(60)) == asyncio.run(rows(600))


def test_an_empty_database_has_a_page(sqlite_url: str) -> None:
    """It says that nothing was collected, and not that nothing was found."""
    page = Page(render(asyncio.run(read(sqlite_url))))

    assert page.errors == []
    assert "Nothing was collected yet: collector run" in page.text
    assert "nothing could be found" in page.text
    assert "found nothing" not in page.text
    assert "100%" not in page.text


def test_a_run_that_planned_nothing_has_a_page(sqlite_url: str) -> None:
    """Nothing is divided by nothing."""

    async def made() -> Report:
        async with inventory(sqlite_url) as stock:
            await stock.run({NORTH: {}}, at=NOW - timedelta(days=1), finish=False)
        return await read(sqlite_url)

    assert Page(render(asyncio.run(made()))).errors == []


async def test_the_page_is_of_one_moment(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed while it is made is in no part of it: the parts would contradict."""
    async with inventory(database_url) as made, Database(database_url, read_only=True) as database:
        await made.run({NORTH: {"img-0": image("img-0")}}, at=NOW - timedelta(days=2))
        read_lanes = report_module._read_lanes

        async def and_meanwhile(*given: Any) -> None:
            await read_lanes(*given)
            await made.run({NORTH: {"img-1": image("img-1")}}, at=NOW - timedelta(hours=1))

        monkeypatch.setattr(report_module, "_read_lanes", and_meanwhile)
        report = await gather(database, parameters({}), NOW)

    assert [change.image_id for change in report.latest] == ["img-0"]
    assert report.breakdowns["Source"] == [("private", 1)]
    assert sum(report.timeline["appeared"]) == 1


def test_charts_have_two_weeks_at_least(sqlite_url: str) -> None:
    """A single day is no development; the days before the first run are empty."""

    async def made() -> Report:
        async with inventory(sqlite_url) as stock:
            await stock.run({NORTH: {"img-0": image("img-0")}}, at=NOW - timedelta(days=1))
        return await read(sqlite_url)

    report = asyncio.run(made())

    assert (report.days[0], report.days[-1]) == ("2026-11-10", "2026-11-23")
    assert report.lanes[0].days == [None] * 13 + [1.0]
    assert "14 days" in Page(render(report)).text


async def test_every_database_gives_the_same_page(new_database: Any) -> None:
    """But for its address."""
    pages = []
    for kind in ("sqlite", "postgresql", "mysql"):
        url = new_database(kind)
        await fill(url)
        report = await read(url)
        report.database = "somewhere"
        pages.append(render(report))

    assert pages[0] == pages[1]
    assert pages[0] == pages[2]


def test_the_command_writes_the_page_for_its_owner_alone(filled: str, tmp_path: Any) -> None:
    """Mode 0600, and nothing else is left in the directory."""
    path = tmp_path / "report.html"
    path.write_text("old")
    path.chmod(0o644)

    assert main(["report", "--database", filled, "--output", str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Page(path.read_text()).errors == []
    assert os.listdir(tmp_path) == ["report.html"]  # noqa: PTH208


def test_a_page_that_cannot_be_written_is_a_usage_error(
    filled: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit 2; without --output too."""
    nowhere = str(tmp_path / "no" / "report.html")

    assert main(["report", "--database", filled, "--output", nowhere]) == 2
    assert main(["report", "--database", filled]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_a_password_is_not_in_the_page(new_database: Any, tmp_path: Any) -> None:
    """The database's address is shown without it."""
    url = new_database("postgresql").replace("root@", "root:hunter2@")
    path = tmp_path / "report.html"

    assert main(["report", "--database", url, "--output", str(path)]) == 0
    assert "hunter2" not in path.read_text()
    assert "postgresql" in path.read_text()


FRAME = """<body><iframe id="f" src="/report" style="width:390px;height:800px"></iframe><script>
f.onload = () => { const d = f.contentDocument;
  d.querySelectorAll("details").forEach(one => one.open = true);
  document.body.dataset.width = d.documentElement.scrollWidth; document.body.dataset.hostile =
  d.querySelectorAll("script, img").length; };
</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="not installed: chromium")
def test_chromium_shows_the_page_on_a_phone(html: str, tmp_path: Any) -> None:
    """At 390 pixels nothing sticks out, and nothing but the page itself is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = {"/": FRAME, "/report": html}.get(self.path, "").encode()
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with closing(server.socket):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
        flags += [
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
        ]
        words = ["chromium", *flags, f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000"]
        address = f"http://127.0.0.1:{server.server_port}/"
        done = subprocess.run(
            [*words, "--dump-dom", address], capture_output=True, text=True, timeout=90, check=True
        )
        server.shutdown()
    measured = dict(re.findall(r'data-(\w+)="(\d+)"', done.stdout))

    assert measured == {"width": "390", "hostile": "0"}
    assert set(asked) <= {"/", "/report", "/favicon.ico"}


async def test_the_evidence_names_what_was_sealed_last(sqlite_url: str) -> None:
    """The digest that covers all others belongs to the run at the chain's end, not the newest."""
    async with inventory(sqlite_url) as made:
        runs = [await made.run({NORTH: {"img-a": image("img-a")}}) for _ in range(2)]
        digests = [await ledger.seal(made.database, run) for run in reversed(runs)]
    report = await read(sqlite_url)
    assert report.sealed is not None
    assert (report.sealed["id"], report.sealed["digest"]) == (runs[0], digests[1])
    assert f"--expect {runs[0]}:{digests[1]}" in Page(render(report)).text


async def test_changes_of_members_alone_are_counted(sqlite_url: str) -> None:
    """The list of changes tells how many it leaves out, those of members among them."""
    lists = [Members(Outcome.PRESENT, *members({"pins": pins})) for pins in ([], ["friend"])]
    ids = [f"img-{n:05}" for n in range(LISTED)]
    async with inventory(sqlite_url) as made:
        for one in lists:
            at = NOW - timedelta(days=2 - lists.index(one))
            await made.run({NORTH: {i: (image(i), one) for i in ids}}, at=at)
    report = await read(sqlite_url)
    assert report.change_count == 2 * LISTED
    assert sum(map(sum, report.timeline.values())) == LISTED
    assert f"{LISTED} of {2 * LISTED} changes of these days" in Page(render(report)).text


async def test_an_empty_text_was_said(sqlite_url: str) -> None:
    """`""` is a value of the API's; only NULL is told as not said."""
    async with inventory(sqlite_url) as made:
        some = {"img-a": image("img-a", platform=""), "img-b": image("img-b", platform=None)}
        await made.run({NORTH: some}, at=NOW)
    bars = (await read(sqlite_url)).breakdowns["Platform"]
    assert sorted(bars) == [('""', 1), ("not said", 1)]
