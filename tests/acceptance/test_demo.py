"""`collector demo`: the first thing that anybody runs."""

from pathlib import Path

from tests.support.forked import forking


def test_the_demo_says_that_it_is_simulated_and_how_to_go_on(tmp_path: Path) -> None:
    """Exit 0, the summary, the audit, answers; the commands it names work on what it left."""
    with forking() as forker:
        done = forker.run(tmp_path, "demo", "--images", "40", "--keep", "demo")
        lines = done.out.splitlines()
        commands = [line.split()[1:] for line in lines[-2:]]
        ends = [forker.run(tmp_path, *words).code for words in commands]
        again = forker.run(tmp_path, "demo", "--keep", "demo")

    assert done.code == 0, done.err
    assert lines[0] == "All data is simulated: 40 images in 4 regions."
    assert "Run 1: complete" in done.out
    assert "Which private images have an unencrypted disk?" in lines
    assert f"{tmp_path}/demo/collector.db" in lines[-3]
    assert [words[:1] for words in commands] == [["audit"], ["changes"]]
    assert ends == [0, 0]
    assert again.code == 2
    assert again.err.count("\n") == 1
