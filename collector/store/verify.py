"""Recomputes the tamper evidence and names what differs: chain, runs, blocks, rows, derivations."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from types import MappingProxyType
from typing import Any, Final
from zlib import crc32

import msgspec
from sqlalchemy import func, select
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.models import READINGS
from collector.store import rederive
from collector.store.engine import Database
from collector.store.evidence import KINDS, Block, OpenBlock, blocks, raw, run_line, scan
from collector.store.ledger import FIRST, PRUNE, RUN, chain, stored_blocks, strictly
from collector.store.rederive import Finding
from collector.store.schema import (
    image_versions,
    images,
    lanes,
    leases,
    ledger,
    ledger_head,
    observation_rows,
    run_blocks,
    run_lanes,
    runs,
)
from collector.store.stream import pages
from collector.text import shown

__all__ = ["Finding", "examine", "verify"]

_SEALING_S: Final = 3600.0
"""A run that was finished within this may be on its way to its seal, while an account is held."""

_LONG_AGO: Final = datetime(1000, 1, 1, tzinfo=UTC)

_PAGE: Final = 100
"""Entries of the ledger read at once."""

_CHANGES: Final = {0: "edited after its seal", 1: "added after its seal", -1: "removed"}

Findings = AsyncIterator[Finding]


async def verify(
    database: Database,
    expected: Mapping[int, str] = MappingProxyType({}),
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Findings:
    """Recompute everything from the rows, in one snapshot and flat memory, and yield what differs.

    The database is opened read-only, so that its reads are one snapshot on every kind. `expected`
    has digests that were kept elsewhere, by run id; `progress` is told what is looked at next.

    Raises:
        UnavailableError: the database cannot be reached or read.
    """
    async with database.read() as connection:
        async for finding in examine(database, connection, expected, progress):
            yield finding


async def examine(
    database: Database,
    connection: AsyncConnection,
    expected: Mapping[int, str],
    progress: Callable[[str], None],
) -> Findings:
    """As `verify`, on a connection that is open already."""
    examiner = _Examiner(connection, progress)
    steps: dict[str, Callable[[], Findings]] = {
        "ledger": examiner.ledger,
        "runs": lambda: _unchained(database, connection, expected),
        "versions": lambda: rederive.versions(connection),
        "members": lambda: rederive.member_lists(connection),
        "history": lambda: rederive.history(connection, examiner.pruned),
        "readings": lambda: rederive.readings(connection, examiner.pruned_until),
        "references": lambda: rederive.orphans(connection),
    }
    for name, step in steps.items():
        progress(name)
        try:
            async for finding in step():
                yield finding
        except DBAPIError as error:
            # Of a server, only what it holds and Python does not, as a time that is 'infinity'.
            if database.kind != "sqlite" and not isinstance(error, DataError):
                raise
            yield Finding("unreadable", name, str(error.orig))


class _Entry(msgspec.Struct):
    """An entry of the ledger, of the types that it must have."""

    seq: int
    kind: str
    run_id: int | None
    content: str
    digest: str


@dataclass
class _Examiner:
    """Goes through the chain in order."""

    connection: AsyncConnection
    progress: Callable[[str], None]
    pruned: set[int] = field(default_factory=set)
    pruned_until: datetime | None = None
    _pruned_digests: set[str] = field(default_factory=set)
    _digests: set[str] = field(default_factory=set)
    # What the last entry's digest may be: as it stands, and as it follows from its content.
    _previous: set[str] = field(default_factory=lambda: {FIRST})

    async def ledger(self) -> Findings:
        """Every entry, and the head."""
        prunings = select(ledger.c.content).where(ledger.c.kind == PRUNE)
        async for some in pages(self.connection, prunings):
            for (content,) in some:
                self._pruned_digests.update(_pruned(content))
        seq, digest, query = 0, FIRST, select(ledger).order_by(ledger.c.seq).limit(_PAGE)
        page = query  # without a bound, for an entry below the first is a forged one
        while entries := (await self.connection.execute(page)).all():
            for row in entries:
                try:
                    entry = strictly(row, _Entry)
                except ValueError as error:
                    yield Finding("chain", f"entry {shown(row.seq)}", f"it cannot be read: {error}")
                    self._previous = set()
                    continue
                if entry.seq != seq + 1:
                    yield Finding("chain", f"entry {entry.seq}", f"it follows entry {seq}")
                    self._previous = set()
                step = self._run if entry.kind == RUN else self._pruning
                async for finding in step(entry):
                    yield finding
                seq, digest = entry.seq, entry.digest
                self._digests.add(digest)
            page = query.where(ledger.c.seq > entries[-1].seq)
        heads = [tuple(row) for row in (await self.connection.execute(select(ledger_head))).all()]
        if heads != [(1, seq, digest)]:
            found = ", ".join(f"entry {shown(head[1])}" for head in heads) or "nothing"
            what = f"it says {found}; the last is entry {seq} with digest {digest}"
            yield Finding("chain", "ledger_head", what)

    async def _pruning(self, entry: _Entry) -> Findings:
        where, named = f"entry {entry.seq}", _pruned(entry.content)
        if entry.kind != PRUNE or not named or not self._follows(entry, entry.content, []):
            yield Finding("chain", where, "it does not follow from the entry before it")
        for digest in sorted(named - self._digests, key=str):
            yield Finding("chain", where, f"it prunes {shown(digest)}, which no run before it has")
        self._previous = {entry.digest, *self._computed(entry.kind, entry.content, [])}

    def _computed(self, kind: str, content: str, sealed: list[Block]) -> set[str]:
        lines = [block.line() for block in sealed]
        return {chain(previous, kind, content, lines) for previous in self._previous}

    def _follows(self, entry: _Entry, content: str, sealed: list[Block]) -> bool:
        # Nothing can be said of an entry whose predecessor is missing.
        computed = self._computed(entry.kind, content, sealed)
        return not computed or entry.digest in computed

    async def _run(self, entry: _Entry) -> Findings:
        run_id, where = entry.run_id or 0, f"run {entry.run_id}"
        self.progress(where)
        if entry.digest in self._pruned_digests:
            self.pruned.add(run_id)
            self.pruned_until = max(self.pruned_until or _LONG_AGO, _finished_at(entry.content))
        stored = await stored_blocks(self.connection, run_id)
        row = await run_line(self.connection, run_id)
        now, digest = row or (entry.content, entry.digest)
        if row is None:
            yield Finding("run", where, "its row was removed")
        if digest != entry.digest:
            yield Finding("run", where, f"digest is {shown(digest)}, its entry says {entry.digest}")
        found = await self._found(run_id, stored)
        content, sealed = entry.content, stored
        for content, sealed in product((entry.content, now), (stored, found)):
            if self._follows(entry, content, sealed):
                break
        else:
            content, sealed = entry.content, stored
            what = "it does not follow from the entry before it, the run's row and its blocks"
            yield Finding("chain", f"entry {entry.seq}, {where}", what)
        if content != entry.content:
            yield Finding("chain", f"entry {entry.seq}, {where}", "its content was edited")
        for block in _beside(stored, sealed):
            yield Finding(block.kind, f"{where}, block {block.number}", "run_blocks was edited")
        async for finding in self._rows(run_id, row, content, sealed, found):
            yield finding
        self._previous = {entry.digest, *self._computed(entry.kind, entry.content, stored)}

    async def _rows(
        self, run_id: int, row: Any, content: str, sealed: list[Block], found: list[Block]
    ) -> Findings:
        """Compare a run's rows with what was sealed of them."""
        for what in _different_columns(row[0] if row else content, content):
            yield Finding("run", f"run {run_id}", what)
        damaged = {block.kind for block in _beside(sealed, found)}
        for kind in sorted(damaged & KINDS.keys()):
            async for finding in _locate(self.connection, run_id, kind, sealed):
                yield finding
        if not damaged and row is not None:
            async for finding in self._counts(run_id):
                yield finding

    async def _found(self, run_id: int, stored: list[Block]) -> list[Block]:
        found = await blocks(self.connection, run_id)
        # Rows of a pruned run that are there again are found as added.
        if run_id not in self.pruned or any(block.kind == "observations" for block in found):
            return found
        pruned = [block for block in stored if block.kind == "observations"]
        return sorted([*found, *pruned], key=lambda block: [*KINDS].index(block.kind))

    async def _counts(self, run_id: int) -> Findings:
        """Compare the counters of a run with its lanes and its observations."""
        columns = (raw(runs.c[name]) for name in (*_COUNTS, "new_versions"))
        query = select(*columns).where(runs.c.id == run_id)
        run = (await self.connection.execute(query)).one()
        by_lane = select(run_lanes).where(run_lanes.c.run_id == run_id)
        told = {row.lane_id: row for row in (await self.connection.execute(by_lane)).all()}
        rows = observation_rows.c
        grouped = select(rows.lane_id, rows.outcome, func.count()).where(rows.run_id == run_id)
        grouped = grouped.group_by(rows.lane_id, rows.outcome)
        seen: dict[int, Counter[str]] = {lane: Counter() for lane in told}
        for lane, outcome, count in (await self.connection.execute(grouped)).all():
            kind = outcome if outcome in READINGS else "failed"
            seen.setdefault(lane, Counter()).update({kind: count, "planned": count})
        if run_id not in self.pruned:
            for lane, counts in seen.items():
                row = told.get(lane)
                if row is None or any(counts[n] != getattr(row, n) for n in _COUNTS):
                    yield Finding("run", f"run {run_id}", f"the counts of lane {lane} are not so")
        sums = {name: sum(getattr(row, name) for row in told.values()) for name in _COUNTS}
        opened = select(func.count()).where(image_versions.c.run_id == run_id)
        sums["new_versions"] = (await self.connection.execute(opened)).scalar_one()
        for name, count in sums.items():
            if getattr(run, name) != count:
                what = f"{name} is {getattr(run, name)}, its rows say {count}"
                yield Finding("run", f"run {run_id}", what)


async def _unchained(
    database: Database, connection: AsyncConnection, expected: Mapping[int, str]
) -> Findings:
    """What the chain does not know: runs and blocks without an entry; digests kept apart."""
    held = select(func.count()).where(leases.c.expires > database.now())
    held_now = (await connection.execute(held)).scalar_one()
    entries = select(ledger.c.run_id).where(ledger.c.run_id.is_not(None))
    recent = runs.c.finished_at > database.now(-_SEALING_S)
    columns = [raw(runs.c[name]) for name in ("id", "status", "finished_at", "digest")]
    query = select(*columns, recent.label("recent")).where(runs.c.id.not_in(entries))
    query = query.order_by(runs.c.id)
    for row in (await connection.execute(query)).all():
        where = f"run {row.id}"
        if row.digest is not None:
            yield Finding("run", where, "it has a digest, and the ledger has no entry of it")
        elif row.status in ("running", "interrupted") or row.finished_at is None:
            what = f"{row.status}: not finished for good; a later run resumes it or seals it"
            yield Finding("unsealed", where, what)
        elif held_now and row.recent:
            yield Finding("unsealed", where, f"{row.status}: about to be sealed")
        else:
            what = "finished and not sealed: killed before it, or added; the next run seals it"
            yield Finding("run", where, what)
    stray = select(run_blocks.c.run_id).distinct().where(run_blocks.c.run_id.not_in(entries))
    for run_id in (await connection.execute(stray.order_by("run_id"))).scalars():
        yield Finding("chain", f"run {run_id}", "it has blocks, and the ledger has no entry")
    for run_id, digest in expected.items():
        sealed = select(ledger.c.digest).where(ledger.c.run_id == run_id)
        found = (await connection.execute(sealed)).scalar_one_or_none()
        if found != digest.lower():
            what = f"its digest is {found or 'not there'}, {digest} was expected"
            yield Finding("expected", f"run {run_id}", what)


async def _stretches(
    connection: AsyncConnection, run_id: int, kind: str, expected: Iterable[Block]
) -> AsyncIterator[tuple[Block | None, OpenBlock]]:
    """The rows as they are now, in the stretches of the sealed blocks; the rest has none."""
    waiting, here = list(expected), OpenBlock()
    async for rows in scan(connection, kind, run_id):
        for key, line in rows:
            while waiting and key.split("/") > waiting[0].last.split("/"):
                yield waiting.pop(0), here
                here = OpenBlock()
            here.add(key, line)
    yield waiting.pop(0) if waiting else None, here
    for block in waiting:
        yield block, OpenBlock()


async def _locate(
    connection: AsyncConnection, run_id: int, kind: str, sealed: Iterable[Block]
) -> Findings:
    """Name the blocks of a kind that differ, and the row where it is a single one."""
    differing, rest = [], OpenBlock()
    expected = [block for block in sealed if block.kind == kind]
    async for block, rows in _stretches(connection, run_id, kind, expected):
        if block is None:
            rest = rows
        elif rows.block(kind, block.number) != block:
            differing.append((block, rows))
    for block, rows in differing:
        where = f"run {run_id}, block {block.number} ({block.first} … {block.last})"
        count, name = len(rows.keys), await _name(connection, block, rows)
        what = f"it has {count:,} rows, {block.row_count:,} were sealed"
        if name is not None:
            where, what = f"{where}, {name}", _CHANGES[count - block.row_count]
        elif count == block.row_count:
            what = f"several of its {count:,} rows were edited after its seal"
        yield Finding(kind, where, what)
    if rest.keys:
        what = f"{len(rest.keys):,} rows were added after its seal"
        yield Finding(kind, f"run {run_id}, {rest.keys[0]} … {rest.keys[-1]}", what)


async def _name(connection: AsyncConnection, block: Block, now: OpenBlock) -> str | None:
    """The key of the only row that differs; None when there are several."""
    sums = now.block(block.kind, block.number).locator
    (sum_now, product_now), (total, weighted) = _sums(sums), _sums(block.locator)
    difference, count = sum_now - total, len(now.keys) - block.row_count
    if not difference or (product_now - weighted) % difference or count not in _CHANGES:
        return None
    checksum = (product_now - weighted) // difference
    for key in now.keys:
        if crc32(key.encode()) == checksum:
            return key
    table, names = (lanes, "") if block.kind == "lanes" else (images, "image_id")
    columns = [table.c[name] for name in ("account", "region", names) if name]
    async for page in pages(connection, select(*columns)):
        for row in page:
            if crc32((key := "/".join(map(str, row))).encode()) == checksum:
                return key
    return None


def _sums(locator: str) -> tuple[int, int]:
    try:
        total, weighted = locator.split(".")
        return int(total, 16), int(weighted, 16)
    except ValueError:
        return 0, 0


_COUNTS: Final = ("planned", *READINGS, "failed")


def _beside(left: list[Block], right: list[Block]) -> list[Block]:
    """The blocks that are on one side only."""
    return [b for b in left if b not in right] + [b for b in right if b not in left]


def _pruned(content: str) -> set[str]:
    """The digests of the runs that a pruning names; none when it cannot be read."""
    try:
        return set(msgspec.json.decode(content)["runs"])
    except (KeyError, TypeError, ValueError):
        return set()


def _finished_at(content: str) -> datetime:
    try:
        text = msgspec.json.decode(content, type=dict[str, Any])["finished_at"]
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        return _LONG_AGO


def _different_columns(now: str, sealed: str) -> list[str]:
    try:
        ours, theirs = (msgspec.json.decode(t, type=dict[str, Any]) for t in (now, sealed))
    except ValueError:
        return ["its entry in the ledger cannot be read"]
    return [
        f"{name} is {shown(ours.get(name))}, sealed as {shown(theirs.get(name))}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
