"""`collector demo`: the first thing that anybody runs."""

import os
from pathlib import Path

from collector.ids import PUBLISHED_REGIONS
from tests.support.forked import forker


def test_the_demo_says_that_it_is_simulated_and_how_to_go_on(tmp_path: Path) -> None:
    """Exit 0, the summary, the audit, answers; the commands it names work on what it left."""
    done = forker().run(tmp_path, "demo", "--images", "40", "--keep", "demo")
    lines = done.out.splitlines()
    commands = [line.split()[1:] for line in lines[-2:]]
    ends = [forker().run(tmp_path, *words).code for words in commands]
    again = forker().run(tmp_path, "demo", "--keep", "demo")

    assert done.code == 0, done.err
    assert lines[0] == f"All data is simulated: 40 images in {len(PUBLISHED_REGIONS)} regions."
    assert "Run 1: complete" in done.out
    assert "Which private images have an unencrypted disk?" in lines
    assert f"{tmp_path}/demo/collector.db" in lines[-3]
    assert [words[:1] for words in commands] == [["audit"], ["changes"]]
    assert ends == [0, 0]
    assert again.code == 2
    assert again.err.count("\n") == 1


def test_the_demo_works_wherever_it_may_write(tmp_path: Path) -> None:
    """What a URL would read otherwise is quoted in it; the commands that it names say so too."""
    done = forker().run(tmp_path, "demo", "--images", "4", "--keep", "a b?%20#")
    ends = [forker().run(tmp_path, *line.split()[1:]).code for line in done.out.splitlines()[-2:]]

    assert (done.code, ends) == (0, [0, 0]), done.err
    assert (tmp_path / "a b?%20#" / "collector.db").exists()


def test_the_demo_overwrites_nothing(tmp_path: Path) -> None:
    """A directory that holds a configuration, or cannot be one: exit 2, one line, no file more."""
    (tmp_path / "collector.toml").write_text("# mine\n")
    for keep in (".", "collector.toml/in", "/proc/none", os.fsdecode(b"\xff")):
        done = forker().run(tmp_path, "demo", "--keep", keep)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err

    assert (tmp_path / "collector.toml").read_text() == "# mine\n"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_the_demo_does_not_fill_the_working_directory(tmp_path: Path) -> None:
    """An empty name, such as of a variable that is not set, is none."""
    done = forker().run(tmp_path, "demo", "--images", "4", "--keep", "")

    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert [*tmp_path.iterdir()] == []
