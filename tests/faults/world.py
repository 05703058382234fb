"""A small inventory with a past, and what must be true of it whatever went wrong."""

import asyncio
import json
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from sqlalchemy import text

from collector.simulator.faults import Faults
from collector.store.engine import Database
from collector.store.verify import verify
from tests.support.simulator import Simulator
from tests.support.site import simulated

__all__ = [
    "HIT",
    "IDS",
    "REGION",
    "Image",
    "canonical",
    "check",
    "exact",
    "history",
    "rest",
    "strike",
    "world",
]

REGION: Final = "cn-north-1"
HIT: Final = ("img-hit-steady", "img-hit-changed", "img-hit-deleted")
IDS: Final = (*HIT, "img-steady-1", "img-steady-2", "img-steady-3", "img-changed", "img-deleted")


class Image(NamedTuple):
    """One image as the database has it; `outcome` and `members` are those of the last run."""

    state: str
    payload: str | None
    checked: Any
    outcome: str | None
    members: str | None


@contextmanager
def world(**options: Any) -> Iterator[Simulator]:
    """A simulator with eight private images, four of them shared."""
    with simulated(**{"images": 0, "regions": (REGION,), **options}) as simulator:
        for number, image_id in enumerate(IDS):
            permission = "specifiedUsers" if number % 2 else "ownerOnly"
            simulator.add(
                REGION,
                image_id,
                imageSource="private",
                name=image_id,
                launchPermission=permission,
                sizeMB=100 + number,
            )
        yield simulator


def history(simulator: Simulator) -> None:
    """What happens between the first collection and the one that meets a fault."""
    for image_id in IDS:
        if "changed" in image_id:
            simulator.change(REGION, image_id, sizeMB=9999)
        if "deleted" in image_id:
            simulator.delete(REGION, image_id)


def canonical(image: Mapping[str, Any]) -> str:
    """Canonical JSON by another library than the program's."""
    return json.dumps(image, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def call_of(path: str) -> tuple[str, str]:
    """Which call an address is, and the image it names."""
    match = re.fullmatch(r"/v1/regions/[^/]+/images(?:/([^/?]+)(/members)?)?(?:\?(.*))?", path)
    assert match is not None, path
    if match[1]:
        return "members" if match[2] else "single", unquote(match[1])
    return "listing" if "imageSource=" in (match[3] or "") else "batch", ""


def strike(
    simulator: Simulator, fault: str, call: str, hit: Collection[str] = HIT, **settings: Any
) -> None:
    """From now on a call is answered with a fault, if it names one of the images or none."""
    calm = replace(simulator.faults, shares=())
    struck = replace(calm, shares=((fault, 1.0),), **settings)

    async def intercept(request: Any) -> None:
        found, image_id = call_of(request.raw_path)
        # Read by the simulator in this same turn of the loop.
        simulator.faults = struck if found == call and (not image_id or image_id in hit) else calm

    simulator.intercept = intercept


def exact(simulator: Simulator, found: Mapping[str, Image], ids: Collection[str] = IDS) -> None:
    """Images that were read are as the simulator shows them."""
    for image_id in ids:
        truth, image = simulator.image(REGION, image_id), found[image_id]
        assert image.state == ("gone" if truth is None else "present"), image_id
        assert image.payload == (None if truth is None else canonical(truth)), image_id


def rest(simulator: Simulator) -> None:
    """No more faults."""
    simulator.intercept, simulator.faults = None, Faults()


def check(url: str) -> dict[str, Image]:
    """Every image by its id; see `everything`."""
    return {image_id: image for (_, image_id), image in everything(url).items()}


def everything(url: str, *, evidence: bool = True) -> dict[tuple[str, str], Image]:
    """What a database has, by region and id, after what must hold in any database was looked at.

    One observation an item in every run, an open version for the present and none for the gone, no
    gone image without a 404, and `evidence` that verifies.
    """

    async def read() -> dict[tuple[str, str], Image]:
        async with Database(url, read_only=True) as database:
            findings = [finding async for finding in verify(database)] if evidence else []
            async with database.read() as connection:
                found = (await connection.execute(text(_IMAGES))).all()
                wrong = [
                    (await connection.execute(text(query))).all()
                    for query in (_DOUBLED, _ODD, _UNPROVED)
                ]
        assert findings == []
        assert wrong == [[], [], []]
        return {(region, image_id): Image(*rest) for region, image_id, *rest in found}

    return asyncio.run(read())


def rows(url: str, query: str) -> list[Any]:
    """What a query finds."""

    async def read() -> list[Any]:
        async with Database(url, read_only=True) as database, database.read() as connection:
            return list((await connection.execute(text(query))).all())

    return asyncio.run(read())


def write(path: Path, statement: str) -> None:
    """Change a SQLite database."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


_IMAGES = """
SELECT i.region, i.image_id, i.state, v.payload, i.last_checked_at, r.outcome, r.members_outcome
FROM images i
LEFT JOIN image_versions v ON v.image_pk = i.id AND v.valid_to IS NULL
LEFT JOIN observation_rows r ON r.image_pk = i.id AND r.run_id = (SELECT max(id) FROM runs)
     AND r.lane_id = (SELECT l.id FROM lanes l WHERE l.account = i.account AND l.region = i.region)
"""
_DOUBLED = """
SELECT run_id, account, region, image_id FROM observations
GROUP BY run_id, account, region, image_id HAVING count(*) > 1
"""
_ODD = """
SELECT i.image_id, i.state FROM images i
LEFT JOIN image_versions v ON v.image_pk = i.id AND v.valid_to IS NULL
GROUP BY i.id, i.image_id, i.state
HAVING count(v.id) <> max(CASE WHEN i.state = 'present' THEN 1 ELSE 0 END)
"""
_UNPROVED = """
SELECT image_id FROM images WHERE state = 'gone' AND id NOT IN (
    SELECT image_pk FROM observation_rows WHERE outcome = 'not_found' AND http_status = 404)
"""
