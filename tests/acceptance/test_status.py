"""`collector status` as an operator reads it."""

from pathlib import Path

from collector.simulator.faults import Faults
from tests.support.site import Site, simulated


def test_a_whole_inventory_is_fresh(tmp_path: Path) -> None:
    """What ran last, each account and lane, the oldest reading, and an empty queue."""
    with simulated(images=60) as simulator:
        site = Site(tmp_path, simulator.url)
        site.run("db", "upgrade")
        before = site.run("status")
        assert before.code == 3
        assert before.out.startswith("STALE at ")
        assert "unread images: none" in before.out
        assert site.run("run", "--quiet").code == 0
        ended = site.run("status")
        assert ended.code == 0
        lines = ended.out.splitlines()
        assert lines[0].startswith("fresh at ")
        assert lines[0].endswith("--max-age 26.0 h")
        assert lines[1].startswith("last finished run: 1 (run), complete, ")
        assert any(line.startswith("default  1, ") and "fresh" in line for line in lines)
        assert any(line.startswith("default  cn-north-1") and "100.0%" in line for line in lines)
        assert any(line.startswith("oldest reading: ") for line in lines)
        assert lines[-2:] == [
            "unread images: none",
            "queue: 0 waiting or in flight, 0 dead letters",
        ]


def test_what_could_not_be_read_is_named(tmp_path: Path) -> None:
    """Outcome, examples and since when; a failed run does not make the inventory whole."""
    with simulated(images=60, faults="403=1") as simulator:
        site = Site(tmp_path, simulator.url)
        site.configure('region = "cn-north-1"\nimages = ["img-1", "img-2"]')
        assert site.run("run", "--quiet").code == 3
        ended = site.run("status", "--max-age", "7d")
        assert ended.code == 3
        assert "never" in ended.out
        assert "unread images: 2 denied" in ended.out
        assert "  default cn-north-1/img-1: denied since " in ended.out
        assert "--max-age 7.0 d" in ended.out
        simulator.faults = Faults()
        assert site.run("queue", "add", "cn-north-1/img-3").code == 0
        assert "queue: 1 waiting or in flight" in site.run("status").out
