"""Fills a database through the real plan and writer, at times of the test's choosing."""

from collections.abc import Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from collector.models import Item, LaneKey, Members, Outcome, Result
from collector.normalize import normalize
from collector.store import plan
from collector.store.engine import Database
from collector.store.leases import Leases
from collector.store.plan import Opening, Plan
from collector.store.writes import Writer

ZONE = ZoneInfo("Asia/Shanghai")
START = datetime(2026, 1, 1, tzinfo=UTC)

Answers = Mapping[str, Outcome | Mapping[str, Any] | tuple[Mapping[str, Any], Members]]
"""Image id → the image object, or it with its members, or the outcome of a failed reading."""


def image(image_id: str, **fields: Any) -> dict[str, Any]:
    """An image object as the API sends it; `fields` replace or add, None removes."""
    base: dict[str, Any] = {
        "imageId": image_id,
        "name": f"image {image_id}",
        "platform": "CentOS",
        "osVersion": "8.2",
        "architecture": "x86_64",
        "systemDiskSizeGB": 40,
        "imageSource": "private",
        "osType": "linux",
        "status": "ready",
        "createTime": "2025-01-28 16:49:05",
        "sizeMB": 2494,
        "desc": "",
        "ownerPin": "owner",
        "launchPermission": "ownerOnly",
        "systemDisk": disk("vda", 40),
        "snapshotId": f"snapshot-{image_id[-10:]}",
        "rootDeviceType": "cloudDisk",
        "progress": "100",
    }
    return {name: value for name, value in {**base, **fields}.items() if value is not None}


def disk(device: str, size_gb: int = 100, **cloud: Any) -> dict[str, Any]:
    """A cloud disk attachment; `cloud` replaces or adds fields of cloudDisk."""
    fields = {"diskType": "ssd.gp1", "diskSizeGB": size_gb, "encrypted": False, **cloud}
    return {
        "diskCategory": "cloud",
        "autoDelete": True,
        "deviceName": device,
        "cloudDisk": fields,
    }


class Inventory:
    """A migrated database that runs are written into."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = START
        self._leases = Leases(database, {})

    async def run(
        self,
        answers: Mapping[LaneKey, Answers],
        *,
        at: datetime | None = None,
        trigger: str = "run",
        scope: str = "whole",
        account: str | None = None,
        finish: bool = True,
    ) -> int:
        """One run over some lanes; its answers arrive a millisecond apart."""
        self.now = at or self.now + timedelta(hours=1)
        names = {key.account: f"ak:{key.account}" for key in answers}
        leases = Leases(self.database, names)
        await leases.take_all()
        opening = Opening(trigger, "p" * 64, "c" * 64, "0.1.0", scope, ZONE.key, account)
        opened = await Plan.open(self.database, leases, opening, self.now)
        for key, images in answers.items():
            await opened.add(key, list(images), self.now)
        await opened.planned(self.now)
        writer = Writer(self.database, leases)
        for key, (lane, _) in (await opened.lanes()).items():
            writer.lane(lane, key)
            async for items in opened.waiting(lane):
                results = [self._result(item, answers[key][item.image_id]) for item in items]
                await writer.commit([r for r in results if r.outcome is not Outcome.NOT_ATTEMPTED])
        if finish:
            await plan.finish(self.database, opened.run_id, self._tick())
        await leases.release()
        return opened.run_id

    def _tick(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def _result(self, item: Item, answer: Any) -> Result:
        members = None
        if isinstance(answer, tuple):
            answer, members = answer
        if isinstance(answer, Outcome):
            status = {Outcome.NOT_FOUND: 404, Outcome.DENIED: 403}.get(answer)
            return Result(item, answer, 1, 5, self._tick(), status, request_id="r")
        content = normalize(answer, time_zone=ZONE)
        return Result(
            item,
            Outcome.PRESENT,
            attempts=1,
            duration_ms=5,
            observed_at=self._tick(),
            http_status=200,
            request_id="r",
            image=content,
            members=members,
        )


@asynccontextmanager
async def inventory(url: str) -> Any:
    """An `Inventory` on a migrated database."""
    async with Database(url) as database:
        yield Inventory(database)
