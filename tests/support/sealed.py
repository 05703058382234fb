"""A small sealed history with everything in it: changes, failures, absence, return, members."""

from typing import Any

from collector.models import LaneKey, Members, Outcome
from collector.normalize import members as read_members
from collector.store import ledger
from collector.store.engine import Database
from collector.store.verify import Finding, verify
from tests.support.inventory import Inventory, disk, image

NORTH = LaneKey("default", "cn-north-1")
EAST = LaneKey("default", "cn-east-1")
OTHER = LaneKey("other", "cn-north-1")


def shared(content: dict[str, Any], *pins: str) -> tuple[dict[str, Any], Members]:
    """An image with the list of its members."""
    payload, fingerprint, found = read_members({"pins": list(pins)})
    return content, Members(Outcome.PRESENT, payload, fingerprint, found)


def _answers() -> list[dict[LaneKey, dict[str, Any]]]:
    plain = {f"img-{n}": image(f"img-{n}", dataDisks=[disk("vdb")]) for n in range(9)}
    other = {f"img-{n}": image(f"img-{n}") for n in range(4)}
    first = {
        NORTH: {**plain, "img-never": Outcome.DENIED, "img-404": Outcome.NOT_FOUND},
        EAST: {f"img-e{n}": image(f"img-e{n}", name="é\n\x00位😀") for n in range(3)},
        OTHER: {
            **other,
            "img-0": shared(other["img-0"], "a", "b"),
            "img-1": shared(other["img-1"], "a"),
        },
    }
    second = {
        NORTH: {**plain, "img-1": image("img-1", uefiSupport=True), "img-2": Outcome.NOT_FOUND},
        EAST: {"img-e0": Outcome.NOT_FOUND, "img-e1": Outcome.TIMEOUT, "img-e2": image("img-e2")},
        OTHER: {**other, "img-0": shared(other["img-0"], "a", "c")},
    }
    third = {
        NORTH: {**plain, "img-2": image("img-2"), "img-never": Outcome.SERVER_ERROR},
        OTHER: {**other, "img-0": Outcome.NOT_FOUND},
    }
    return [first, second, third]


async def history(database: Database, runs: int = 3) -> list[str]:
    """Fill a migrated database with sealed runs; their digests."""
    inventory = Inventory(database)
    digests = []
    for answers in _answers()[:runs]:
        run_id = await inventory.run(answers)
        digests.append(await ledger.seal(database, run_id))
    return digests


async def findings(url: str, expected: dict[int, str] | None = None) -> list[Finding]:
    """What verification says of a database that is only read."""
    async with Database(url, read_only=True) as database:
        return [finding async for finding in verify(database, expected or {})]
