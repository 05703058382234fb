"""Recomputes the tamper evidence and names what differs: chain, runs, blocks, rows, derivations."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from itertools import product
from types import MappingProxyType
from typing import Any, Final
from zlib import crc32

import msgspec
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from collector.models import Outcome
from collector.store import rederive
from collector.store.control import leases, ledger, ledger_head, run_blocks
from collector.store.engine import Database
from collector.store.evidence import (
    KINDS,
    Block,
    OpenBlock,
    blocks,
    pages,
    run_line,
    scan,
    unhurried,
)
from collector.store.ledger import FIRST, PRUNE, RUN, chain, stored_blocks
from collector.store.rederive import Finding
from collector.store.schema import image_versions, images, lanes, observation_rows, run_lanes, runs
from collector.text import shown

__all__ = ["Finding", "verify"]

_SEALING: Final = timedelta(hours=1)
"""A run that was finished within this, while an account is held, may be on its way to its seal."""

_PAGE: Final = 100
"""Entries of the ledger read at once."""

Findings = AsyncIterator[Finding]


async def verify(
    database: Database,
    expected: Mapping[int, str] = MappingProxyType({}),
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Findings:
    """Recompute everything from the rows, in one snapshot and flat memory, and yield what differs.

    Args:
        database: opened read-only, so that its reads are one snapshot on every kind.
        expected: run id → the digest that was kept elsewhere.
        progress: told what is looked at next.

    Raises:
        UnavailableError: the database cannot be reached or read.
    """
    async with database.read() as connection, unhurried(database, connection):
        examiner = _Examiner(database, connection, expected, progress)
        steps: dict[str, Callable[[], Findings]] = {
            "ledger": examiner.ledger,
            "runs": examiner.runs,
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
                if database.kind != "sqlite":
                    raise
                yield Finding("unreadable", name, str(error.orig))


class _Examiner:
    """Goes through the chain in order."""

    def __init__(
        self,
        database: Database,
        connection: AsyncConnection,
        expected: Mapping[int, str],
        progress: Callable[[str], None],
    ) -> None:
        self.pruned: set[int] = set()
        self.pruned_until: datetime | None = None
        self._database = database
        self._connection = connection
        self._expected = expected
        self._progress = progress
        self._pruned_digests: set[str] = set()
        self._digests: set[str] = set()
        # What the last entry's digest may be: as it stands, and as it follows from its content.
        self._previous = {FIRST}

    async def ledger(self) -> Findings:
        """Every entry, and the head."""
        prunings = select(ledger.c.content).where(ledger.c.kind == PRUNE)
        async for page in pages(self._connection, prunings):
            for (content,) in page:
                self._pruned_digests.update(_pruned(content))
        seq, digest, query = 0, FIRST, select(ledger).order_by(ledger.c.seq).limit(_PAGE)
        after: Any = -1
        while entries := (await self._connection.execute(query.where(ledger.c.seq > after))).all():
            for entry in entries:
                if entry.seq != seq + 1:
                    yield Finding("chain", f"entry {entry.seq}", f"it follows entry {seq}")
                    self._previous = set()
                step = self._run if entry.kind == RUN else self._pruning
                async for finding in step(entry):
                    yield finding
                seq, digest = entry.seq, entry.digest
                self._digests.add(digest)
            after = seq
        heads = [tuple(row) for row in (await self._connection.execute(select(ledger_head))).all()]
        if heads != [(1, seq, digest)]:
            found = ", ".join(f"entry {shown(head[1])}" for head in heads) or "nothing"
            what = f"it says {found}; the last is entry {seq} with digest {digest}"
            yield Finding("chain", "ledger_head", what)

    async def _pruning(self, entry: Any) -> Findings:
        where, named = f"entry {entry.seq}", _pruned(entry.content)
        if entry.kind != PRUNE or not named or not self._follows(entry, entry.content, []):
            yield Finding("chain", where, "it does not follow from the entry before it")
        for digest in sorted(named - self._digests):
            yield Finding("chain", where, f"it prunes {shown(digest)}, which no run before it has")
        self._previous = {entry.digest, *self._computed(entry.kind, entry.content, [])}

    def _computed(self, kind: str, content: str, sealed: list[Block]) -> set[str]:
        lines = [block.line() for block in sealed]
        return {chain(previous, kind, content, lines) for previous in self._previous}

    def _follows(self, entry: Any, content: str, sealed: list[Block]) -> bool:
        # Nothing can be said of an entry whose predecessor is missing.
        computed = self._computed(entry.kind, content, sealed)
        return not computed or entry.digest in computed

    async def _run(self, entry: Any) -> Findings:
        run_id, where = entry.run_id, f"run {entry.run_id}"
        self._progress(where)
        if entry.digest in self._pruned_digests:
            self.pruned.add(run_id)
        stored = await stored_blocks(self._connection, run_id)
        row = await run_line(self._connection, run_id)
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
            async for finding in self._locate(run_id, kind, sealed):
                yield finding
        if not damaged and row is not None:
            async for finding in self._counts(run_id):
                yield finding

    async def _found(self, run_id: int, stored: list[Block]) -> list[Block]:
        found = await blocks(self._connection, run_id)
        if run_id not in self.pruned:
            return found
        # Rows of a pruned run that are there again are found as added.
        kept = [block for block in found if block.kind != "observations"]
        if any(block.kind == "observations" for block in found):
            return found
        place = sum(block.kind == "lanes" for block in kept)
        return [*kept[:place], *(b for b in stored if b.kind == "observations"), *kept[place:]]

    async def _stretches(
        self, run_id: int, kind: str, expected: list[Block]
    ) -> AsyncIterator[tuple[Block | None, OpenBlock]]:
        """The rows as they are now, in the stretches of the sealed blocks; the rest has none."""
        waiting, here = list(expected), OpenBlock()
        async for rows in scan(self._connection, kind, run_id):
            for key, line in rows:
                while waiting and key.split("/") > waiting[0].last.split("/"):
                    yield waiting.pop(0), here
                    here = OpenBlock()
                here.add(key, line)
        yield waiting.pop(0) if waiting else None, here
        for block in waiting:
            yield block, OpenBlock()

    async def _locate(self, run_id: int, kind: str, sealed: list[Block]) -> Findings:
        """Name the blocks of a kind that differ, and the row where it is a single one."""
        differing, rest = [], OpenBlock()
        expected = [block for block in sealed if block.kind == kind]
        async for block, rows in self._stretches(run_id, kind, expected):
            if block is None:
                rest = rows
            elif rows.block(kind, block.number) != block:
                differing.append((block, rows))
        for block, rows in differing:
            where = f"run {run_id}, block {block.number} ({block.first} … {block.last})"
            count, name = len(rows.keys), await self._name(block, rows)
            what = f"it has {count:,} rows, {block.row_count:,} were sealed"
            if name is not None:
                where, what = f"{where}, {name}", _CHANGES[count - block.row_count]
            elif count == block.row_count:
                what = f"several of its {count:,} rows were edited after its seal"
            yield Finding(kind, where, what)
        if rest.keys:
            what = f"{len(rest.keys):,} rows were added after its seal"
            yield Finding(kind, f"run {run_id}, {rest.keys[0]} … {rest.keys[-1]}", what)

    async def _name(self, block: Block, now: OpenBlock) -> str | None:
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
        async for page in pages(self._connection, select(*columns)):
            for row in page:
                if crc32((key := "/".join(row)).encode()) == checksum:
                    return key
        return None

    async def _counts(self, run_id: int) -> Findings:
        """Compare the counters of a run with its lanes and its observations."""
        run = (await self._connection.execute(select(runs).where(runs.c.id == run_id))).one()
        if run.planned_at is None:
            return  # killed while planning: it was never counted
        by_lane = select(run_lanes).where(run_lanes.c.run_id == run_id)
        told = {row.lane_id: row for row in (await self._connection.execute(by_lane)).all()}
        rows = observation_rows.c
        query = select(rows.lane_id, rows.outcome, func.count()).where(rows.run_id == run_id)
        seen: dict[int, Counter[str]] = {lane: Counter() for lane in told}
        grouped = query.group_by(rows.lane_id, rows.outcome)
        for lane, outcome, count in (await self._connection.execute(grouped)).all():
            kind = outcome if outcome in _READ else "failed"
            seen.setdefault(lane, Counter()).update({kind: count, "planned": count})
        if run_id not in self.pruned:
            for lane, counts in seen.items():
                row = told.get(lane)
                if row is None or any(counts[n] != getattr(row, n) for n in _COUNTS):
                    yield Finding("run", f"run {run_id}", f"the counts of lane {lane} are not so")
        sums = {name: sum(getattr(row, name) for row in told.values()) for name in _COUNTS}
        opened = select(func.count()).where(image_versions.c.run_id == run_id)
        sums["new_versions"] = (await self._connection.execute(opened)).scalar_one()
        for name, count in sums.items():
            if getattr(run, name) != count:
                what = f"{name} is {getattr(run, name)}, its rows say {count}"
                yield Finding("run", f"run {run_id}", what)

    async def runs(self) -> Findings:
        """What the chain does not know: runs and blocks without an entry; digests kept apart."""
        held = select(func.count()).where(leases.c.expires > self._database.now())
        held_now = (await self._connection.execute(held)).scalar_one()
        now = (await self._connection.execute(select(self._database.now()))).scalar_one()
        entries = select(ledger.c.run_id).where(ledger.c.run_id.is_not(None))
        query = select(runs.c.id, runs.c.status, runs.c.finished_at, runs.c.digest)
        for row in (await self._connection.execute(query.where(runs.c.id.not_in(entries)))).all():
            where = f"run {row.id}"
            if row.digest is not None:
                yield Finding("run", where, "it has a digest, and the ledger has no entry of it")
            elif row.status in ("running", "interrupted") or row.finished_at is None:
                yield Finding("unsealed", where, f"{row.status}: it may still be resumed")
            elif held_now and row.finished_at > now - _SEALING:
                yield Finding("unsealed", where, f"{row.status}: about to be sealed")
            else:
                what = "finished and not sealed: killed before it, or added; the next run seals it"
                yield Finding("run", where, what)
        stray = select(run_blocks.c.run_id).distinct().where(run_blocks.c.run_id.not_in(entries))
        for run_id in (await self._connection.execute(stray)).scalars():
            yield Finding("chain", f"run {run_id}", "it has blocks, and the ledger has no entry")
        for run_id, digest in self._expected.items():
            sealed = select(ledger.c.digest).where(ledger.c.run_id == run_id)
            found = (await self._connection.execute(sealed)).scalar_one_or_none()
            if found != digest.lower():
                what = f"its digest is {found or 'not there'}, {digest} was expected"
                yield Finding("expected", f"run {run_id}", what)
        if self.pruned:
            last = select(func.max(runs.c.finished_at)).where(runs.c.id.in_(self.pruned))
            self.pruned_until = (await self._connection.execute(last)).scalar_one()


_READ: Final = tuple(outcome.value for outcome in Outcome if outcome.is_reading)
_COUNTS: Final = ("planned", *_READ, "failed")
_CHANGES: Final = {0: "edited after its seal", 1: "added after its seal", -1: "removed"}


def _beside(left: list[Block], right: list[Block]) -> list[Block]:
    """The blocks that are on one side only."""
    return [b for b in left if b not in right] + [b for b in right if b not in left]


def _sums(locator: str) -> tuple[int, int]:
    try:
        total, weighted = locator.split(".")
        return int(total, 16), int(weighted, 16)
    except ValueError:
        return 0, 0


def _pruned(content: str) -> set[str]:
    """The digests of the runs that a pruning names; none when it cannot be read."""
    try:
        return set(msgspec.json.decode(content)["runs"])
    except (KeyError, TypeError, ValueError):
        return set()


def _different_columns(now: str, sealed: str) -> list[str]:
    try:
        ours, theirs = msgspec.json.decode(now), msgspec.json.decode(sealed)
    except (TypeError, ValueError):
        return ["its entry in the ledger cannot be read"]
    return [
        f"{name} is {shown(ours.get(name))}, sealed as {shown(theirs.get(name))}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
