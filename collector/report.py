"""The report: one self-contained HTML page about what is known, how it is known, and what is wrong.

Everything is counted by the database, and every list is cut, so that memory does not grow with the
inventory; what was cut is told with its number and the SQL that shows the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from math import log1p
from typing import Any, Final, NamedTuple

from jinja2 import Environment, StrictUndefined, Template
from sqlalchemy import ColumnElement, String, case, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from collector import __version__
from collector.audit.catalogue import SEVERITIES, Rule, Values, load_rules
from collector.audit.runner import Finding, portable_sql, sample
from collector.store.changes import Change, latest, moments
from collector.store.engine import Database
from collector.store.freshness import PLACE, unread_images
from collector.store.reads import rows
from collector.store.schema import (
    disk_attachments,
    image_versions,
    images,
    lanes,
    ledger,
    run_lanes,
    runs,
)
from collector.text import printable

__all__ = ["Report", "gather", "render"]

DAYS: Final = range(14, 60)
"""Length of the charts over time, in days that end with the newest run; fewer would be no chart."""

LISTED: Final = 20
"""Rows of a list, before it is cut."""

RUNS: Final = 10
"""Newest runs that are listed."""

KINDS: Final = 8
"""Values of a breakdown that have a bar of their own, when there are two more at least."""

_AGES: Final = {
    "under 30 days": 30,
    "30 to 90 days": 90,
    "90 days to 1 year": 365,
    "1 to 2 years": 730,
    "2 to 5 years": 1826,
}
"""Label → days that an image of this age is younger than."""

_OLDEST: Final = "over 5 years"


class Bar(NamedTuple):
    """A labelled number of images, or of disks."""

    label: str
    number: int


class LaneRow(NamedTuple):
    """One (account, region): its newest finished run, and the share that was read, by day."""

    account: str
    region: str
    run_id: int
    planned: int
    read: int
    days: list[float | None]


class Checked(NamedTuple):
    """A rule with its first findings, how many there are, and the SQL that shows them all."""

    rule: Rule
    findings: list[Finding]
    total: int
    sql: str


@dataclass(slots=True)
class Report:
    """Everything that the page tells.

    Attributes:
        database: where it was read, without a password.
        days: the days of the charts.
        states: number of images by state.
        run_count: runs in all; `runs` has the newest.
        sealed: the run that was sealed last, which need not be the one with the highest number.
        lane_count: lanes in all; `lanes` has the first.
        timeline: kind of change → its number by day.
        latest: the latest changes, newest first; of members as well, which the timeline leaves out.
        change_count: changes in these days in all.
        unread: unread images by outcome; `unread_examples` has the longest unread.
        breakdowns: title → bars.
    """

    at: datetime
    database: str
    version: str = __version__
    days: list[str] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    run_count: int = 0
    runs: Sequence[Mapping[str, Any]] = ()
    sealed: Mapping[str, Any] | None = None
    lane_count: int = 0
    lanes: Sequence[LaneRow] = ()
    timeline: dict[str, list[int]] = field(default_factory=dict)
    latest: Sequence[Change] = ()
    change_count: int = 0
    unread: Sequence[Bar] = ()
    unread_examples: Sequence[Mapping[str, Any]] = ()
    breakdowns: dict[str, list[Bar]] = field(default_factory=dict)
    checked: Sequence[Checked] = ()

    def findings(self, severity: str) -> int:
        """Number of findings of a severity."""
        return sum(one.total for one in self.checked if one.rule.severity == severity)


async def gather(database: Database, values: Mapping[str, Values], now: datetime) -> Report:
    """Read everything that the page tells as of `now`, from which the rules and the ages count.

    `values` are every audit rule's parameters, by its id.

    Raises:
        UnavailableError: the database cannot be read.
    """
    report = Report(now, str(database))
    async with database.read() as connection:
        await _read_runs(connection, report)
        states = select(images.c.state, func.count()).group_by(images.c.state)
        report.states = {row[0]: row[1] for row in await connection.execute(states)}
        if report.runs:
            await _read_lanes(connection, report)
            await _read_timeline(connection, report)
            await _read_breakdowns(connection, report)
        unread, report.unread_examples = await unread_images(connection, LISTED)
        report.unread = [Bar(*one) for one in unread.items()]
        report.checked = [
            Checked(
                rule,
                *await sample(connection, rule, values[rule.id], now, LISTED),
                portable_sql(rule, values[rule.id], now),
            )
            for rule in load_rules().values()
        ]
    return report


async def _read_runs(connection: AsyncConnection, report: Report) -> None:
    planned = select(runs).where(runs.c.planned_at.is_not(None)).order_by(runs.c.id.desc())
    report.runs = await rows(connection, planned.limit(RUNS))
    counted = select(func.count()).select_from(runs).where(runs.c.planned_at.is_not(None))
    report.run_count = await connection.scalar(counted) or 0
    columns = (runs.c.id, runs.c.finished_at, ledger.c.digest)
    sealed = select(*columns).join(ledger, ledger.c.run_id == runs.c.id)
    newest = sealed.order_by(ledger.c.seq.desc()).limit(1)
    report.sealed = next(iter(await rows(connection, newest)), None)


def _day(column: ColumnElement[datetime]) -> ColumnElement[str]:
    return func.substr(cast(column, String(26)), 1, 10)


async def _read_lanes(connection: AsyncConnection, report: Report) -> None:
    """The days of the charts, and the coverage of each lane on them."""
    newest = max(run["started_at"] for run in report.runs)
    begin = (newest - timedelta(days=DAYS.stop - 1)).replace(hour=0, minute=0, second=0)
    first = select(func.min(runs.c.started_at)).where(runs.c.started_at >= begin)
    oldest = await connection.scalar(first)
    number = max(DAYS.start, (newest.date() - oldest.date()).days + 1)
    report.days = [f"{newest.date() - timedelta(days=ago)}" for ago in reversed(range(number))]
    c = run_lanes.c
    counted = select(func.count(func.distinct(c.lane_id)))
    report.lane_count = await connection.scalar(counted) or 0
    read = (c.present + c.not_found).label("read")
    last = (
        select(c.lane_id, c.run_id, c.planned, read, PLACE)
        .join(runs, runs.c.id == c.run_id)
        .where(runs.c.finished_at.is_not(None))
    )
    of = last.subquery().c
    query = (
        select(of.lane_id, lanes.c.account, lanes.c.region, of.run_id, of.planned, of.read)
        .join(lanes, lanes.c.id == of.lane_id)
        .where(of.place == 1)
        .order_by(lanes.c.account, lanes.c.region)
        .limit(LISTED)
    )
    shown = (await connection.execute(query)).all()
    day = _day(runs.c.started_at).label("day")
    by_day = (
        select(c.lane_id, day, func.sum(c.planned), func.sum(c.present + c.not_found))
        .join(runs, runs.c.id == c.run_id)
        .where(runs.c.started_at >= begin, runs.c.finished_at.is_not(None), c.planned > 0)
        .where(c.lane_id.in_([row[0] for row in shown]))
        .group_by(c.lane_id, "day")
    )
    shares = {(r[0], r[1]): int(r[3]) / int(r[2]) for r in await connection.execute(by_day)}
    report.lanes = [
        LaneRow(*row[1:], [shares.get((row[0], one)) for one in report.days]) for row in shown
    ]


async def _read_timeline(connection: AsyncConnection, report: Report) -> None:
    """How many images appeared (or returned), changed and vanished, by day."""
    begin = datetime.fromisoformat(report.days[0]).replace(tzinfo=UTC)
    found = moments(lambda at: at >= begin).subquery().c
    appeared, vanished = (found.before.is_(None), "appeared"), (found.after == 0, "vanished")
    kind = case(appeared, vanished, else_="changed").label("what")
    query = select(_day(found.at).label("day"), kind, func.count()).where(found.kind == 0)
    by_day = await connection.execute(query.group_by("day", "what"))
    numbers = {(row[0], row[1]): row[2] for row in by_day}
    report.timeline = {
        what: [numbers.get((day, what), 0) for day in report.days]
        for what in ("appeared", "changed", "vanished")
    }
    report.latest, report.change_count = await latest(connection, begin, report.at, LISTED)


async def _read_breakdowns(connection: AsyncConnection, report: Report) -> None:
    """The current images and disks by what auditors group them by."""
    current, encrypted = image_versions.c, disk_attachments.c.encrypted
    disks = image_versions.join(disk_attachments)
    encryption = case((encrypted.is_(True), "encrypted"), (encrypted.is_(False), "not encrypted"))
    created = current.create_time
    ages = ((created > report.at - timedelta(days=days), label) for label, days in _AGES.items())
    wanted: dict[str, ColumnElement[Any]] = {
        "Source": current.image_source,
        "Platform": current.platform,
        "Architecture": current.architecture,
        "Status": current.status,
        "Disks by encryption": encryption,
        "Age": case(*ages, (created.is_not(None), _OLDEST)),
    }
    number = func.count()
    sums = (func.count().over().label("kinds"), func.sum(number).over().label("total"))
    for title, kind in wanted.items():
        grouped = select(kind.label("kind"), number.label("number"), *sums).group_by("kind")
        source = disks if title.startswith("Disks") else image_versions
        query = grouped.select_from(source).where(current.valid_to.is_(None))
        top = query.order_by(number.desc(), "kind").limit(KINDS + 1)
        found = (await connection.execute(top)).all()
        bars = [Bar(_label(row.kind), row.number) for row in found]
        if found and found[0].kinds > len(bars):
            del bars[KINDS:]
            rest = int(found[0].total) - sum(bar.number for bar in bars)
            bars.append(Bar(f"{found[0].kinds - KINDS} others", rest))
        report.breakdowns[title] = bars
    by_age = [*_AGES, _OLDEST, _label(None)]
    report.breakdowns["Age"].sort(key=lambda bar: by_age.index(bar.label))


def _label(kind: str | None) -> str:
    return "not said" if kind is None else kind or '""'


def render(report: Report) -> str:
    """The page; whatever a text of the inventory holds, the browser only shows it."""
    return _template().render(report=report, severities=list(reversed(SEVERITIES)))


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "moment": lambda at: "-" if at is None else f"{at:%Y-%m-%d %H:%M}",
        "height": lambda number, most: 100 * log1p(number) / log1p(most),
        "number": lambda value: f"{value:,}",
        "shown": lambda value: "-" if value is None else printable(str(value)),
        "percent": _percent,
    }
    text = (resources.files("collector") / "report.html.j2").read_text("utf-8")
    return environment.from_string(text)


def _percent(share: float) -> str:
    """Rounded down, so that 100 % means all."""
    return f"{int(share * 1000) / 10:g}%"
