"""`collector simulate` as a process: what a person or a staging system starts."""

import signal
from pathlib import Path

import pytest

from tests.support.site import Site


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_its_first_line_is_where_it_listens(tmp_path: Path, number: int, code: int) -> None:
    """A collection finds it there; a signal ends it."""
    site = Site(tmp_path)
    with site.popen("simulate", "--port", "0", "--images", "40") as process:
        site.endpoint = process.stdout.readline().decode().strip()
        site.configure()
        ended = site.run("run", "--json")
        assert (ended.code, ended.document["status"]) == (0, "complete")
        assert ended.document["planned"] > 0

        assert site.end(process, number=number) == (code, "", "")


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """One line names it."""
    site = Site(tmp_path)
    with site.running("simulate", "--port", "0") as process:
        port = process.stdout.readline().decode().strip().rpartition(":")[2]
        ended = site.run("simulate", "--port", port)
    assert ended.code == 69
    assert port in ended.line


def test_its_keys_are_those_of_the_environment(tmp_path: Path) -> None:
    """Whoever signs with others is refused."""
    site = Site(tmp_path)
    keys = {"JDCLOUD_ACCESS_KEY": "mine", "JDCLOUD_SECRET_KEY": "my-own-secret"}
    with site.running("simulate", "--port", "0", env=keys) as process:
        site.endpoint = process.stdout.readline().decode().strip()
        site.configure()
        assert site.run("run").code == 77
        assert site.run("run", "--fresh", env=keys).code == 0
