"""An installation with a past, and what must have become of it after a fault."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from tests.faults import cells, world
from tests.faults.cells import Cell
from tests.support.forked import Forker
from tests.support.simulator import Simulator
from tests.support.site import Ended, Site

__all__ = ["TARGET", "Place", "settled", "told"]

TARGET = f'region = "{world.REGION}"\nimages = {list(world.IDS)!r}'.replace("'", '"')


class Place(Site):
    """An installation with a past, its simulator, and its commands."""

    def __init__(self, directory: Path, simulator: Simulator, forker: Forker) -> None:
        self.configured: str | None = None
        super().__init__(directory, simulator.url)
        self.simulator, self.forker = simulator, forker
        self.url = f"sqlite:///{self.database}"
        self.target = TARGET
        self.before: Mapping[str, world.Image] = {}
        self.configure(self.target)

    def move(self, where: Path | str) -> None:
        """Use another database; a file is copied there."""
        self.url = str(where)
        if isinstance(where, Path):
            shutil.move(self.database, where)
            self.database, self.url = where, f"sqlite:///{where}"
        self.configured = self.url
        self.configure(self.target)

    @override
    def configure(self, *targets: str, database: str | None = None, **options: Any) -> None:
        super().configure(*targets, database=database or self.configured, **options)

    def collect(self, *words: str, **options: Any) -> Any:
        """One run, to its end."""
        return self.forker.run(self.directory, "run", "--quiet", *words, **options)

    def runs(self) -> list[tuple[Any, ...]]:
        """Number, status and digest of every run."""
        query = "SELECT id, status, digest FROM runs ORDER BY id"
        return [tuple(row) for row in world.rows(self.url, query)]

    def check(self) -> dict[str, world.Image]:
        return world.check(self.url)


def settled(place: Place, cell: Cell, *, runs: int = 0) -> None:
    """Whatever was struck, the next run makes everything whole, and the rest is as stated.

    `runs`: how many have been made since, besides.
    """
    world.rest(place.simulator)
    struck = {one: place.simulator.hits[world.REGION, one] for one in world.IDS}
    assert place.collect().code == 0
    found = place.runs()
    statuses = [status for _, status, _ in found]
    assert None not in [digest for _, _, digest in found]
    expected = {
        "nothing written": ["complete", "complete"],
        cells.ANEW: ["complete", "interrupted", "complete"],
        cells.RESUMED: ["complete", "complete"],
        cells.LATER: ["complete", "complete", "complete"],
        cells.SEALED: ["complete", "complete", "complete"],
    }
    assert statuses == expected[cell.outcome] + runs * ["complete"]
    images = place.check()
    world.exact(place.simulator, images)
    if cell.note == "nothing asked again":
        now = {one: place.simulator.hits[world.REGION, one] for one in world.IDS}
        assert now == struck
        assert set(struck.values()) == {1}


def told(done: Ended, cell: Cell) -> None:
    """The exit code of the matrix, and for a failure exactly one line."""
    assert done.code == cell.code, done
    lines = done.err.splitlines()
    assert len(lines) == (cell.code != 0), lines
    assert all(line.startswith("collector: ") for line in lines)
