"""Processes to strike, and a place that has a past: `forker`, `place`."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from collector.simulator.server import Simulator
from tests.faults import world
from tests.support.forked import Forker, forking
from tests.support.site import Site

TARGET = f'region = "{world.REGION}"\nimages = {list(world.IDS)!r}'.replace("'", '"')


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """Starts commands quickly."""
    with forking() as forker:
        yield forker


@pytest.fixture(scope="session")
def past(
    forker: Forker, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Mapping[str, world.Image]]:
    """A SQLite database into which the eight images were collected, and what is in it."""
    directory = tmp_path_factory.mktemp("past")
    with world.world() as simulator:
        site = Site(directory, simulator.url)
        site.configure(TARGET, members=True)
        shutil.copy(sqlite_template, site.database)
        done = forker.run(directory, "run", "--quiet")
    assert (done.code, done.err) == (0, "")
    return site.database, world.check(f"sqlite:///{site.database}")


class Place(Site):
    """An installation with a past, its simulator, and its commands."""

    def __init__(self, directory: Path, simulator: Simulator, forker: Forker) -> None:
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
        self.configure(self.target, database=self.url)

    def collect(self, *words: str, **options: Any) -> Any:
        """One run, to its end."""
        return self.forker.run(self.directory, "run", "--quiet", *words, **options)

    def check(self) -> dict[str, world.Image]:
        return world.check(self.url)


@pytest.fixture
def place(tmp_path: Path, past: Any, forker: Forker) -> Iterator[Place]:
    """Four of the eight images were changed or deleted since they were collected."""
    with world.world() as simulator:
        place = Place(tmp_path, simulator, forker)
        database, place.before = past
        shutil.copy(database, place.database)
        world.history(simulator)
        yield place
