"""Processes to strike, and a place that has a past: `forker`, `place`."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults import world
from tests.faults.place import TARGET, Place
from tests.support import forked
from tests.support.forked import Forker
from tests.support.site import Site


@pytest.fixture(scope="session")
def forker() -> Forker:
    """Starts commands quickly."""
    return forked.forker()


Past = tuple[Path, Mapping[str, world.Image]]


def collected(forker: Forker, sqlite_template: Path, directory: Path) -> Past:
    """A SQLite database into which the eight images are collected now, and what is in it."""
    with world.world() as simulator:
        site = Site(directory, simulator.url)
        site.configure(TARGET, members=True)
        shutil.copy(sqlite_template, site.database)
        done = forker.run(directory, "run", "--quiet")
    assert (done.code, done.err) == (0, "")
    return site.database, world.check(f"sqlite:///{site.database}")


@pytest.fixture(scope="session")
def past(forker: Forker, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Past:
    """What was collected once for all tests."""
    return collected(forker, sqlite_template, tmp_path_factory.mktemp("past"))


@contextmanager
def changed(directory: Path, past: Past, forker: Forker) -> Iterator[Place]:
    """Four of the eight images were changed or deleted since they were collected."""
    with world.world() as simulator:
        place = Place(directory, simulator, forker)
        database, place.before = past
        shutil.copy(database, place.database)
        world.history(simulator)
        yield place


@pytest.fixture
def place(tmp_path: Path, past: Past, forker: Forker) -> Iterator[Place]:
    with changed(tmp_path, past, forker) as place:
        yield place


@pytest.fixture
def fresh_place(
    tmp_path: Path, forker: Forker, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """The same, collected just now: there a clock can be set back behind the collection."""
    past = collected(forker, sqlite_template, tmp_path_factory.mktemp("past"))
    with changed(tmp_path, past, forker) as place:
        yield place


KINDS = {"PostgreSQL": "postgresql", "MariaDB": "mysql"}


@pytest.fixture
def served(request, tmp_path, forker, new_database):
    """A place whose database is on a server; told its kind by the fault's name."""
    kind = KINDS[request.getfixturevalue("fault").split()[0].rstrip(":")]
    url = new_database(kind)
    with world.world() as simulator:
        place = Place(tmp_path, simulator, forker)
        place.move(url)
        place.kind = kind
        assert place.collect().code == 0
        world.history(simulator)
        simulator.hits.clear()
        yield place
