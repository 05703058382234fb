"""Tables as commands print them."""

import pytest

from collector.cli.output import print_rows


def test_a_pipe_gets_a_row_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Only a terminal's width breaks lines; numbers, also as texts, stand at the right."""
    print_rows(("image", "count", "share"), [("x" * 200, 7, "9.5%"), ("a\x1b", None, "100.0%")])

    assert capsys.readouterr().out.splitlines() == [
        f"{'image':<200}  count   share",
        f"{'x' * 200}      7    9.5%",
        "a\\x1b" + " " * 195 + "      -  100.0%",
    ]


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Its columns would look as if something was cut off."""
    print_rows(("image",), [])

    assert capsys.readouterr().out == "(none)\n"
