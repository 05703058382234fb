"""The fault matrix of the documentation is the one that the tests are made of, without a gap."""

from pathlib import Path

import pytest

from tests.faults import cells

ROOT = Path(__file__).parents[2]


def test_the_document_is_the_matrix():
    """After a change of the matrix: `make docs`."""
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")

    assert page == cells.document(), "run `make docs`"


@pytest.mark.parametrize(
    ("matrix", "file"),
    [
        (cells.ENDPOINT, "test_endpoint_as_a_whole.py"),
        (cells.DATABASE, "test_database_faults.py"),
        (cells.PROCESS, "test_process_faults.py"),
    ],
)
def test_every_fault_is_tested(matrix, file):
    """Each row is named by a test, which takes all its cells."""
    source = Path(__file__).with_name(file).read_text(encoding="utf-8")
    names = {name.removesuffix(" in mid-run").removesuffix(" before") for name in matrix}
    names = {name.partition(": COMMIT")[0] if "COMMIT" in name else name for name in names}
    assert [name for name in sorted(names) if f'"{name}' not in source] == []


@pytest.mark.parametrize("test", [test for _, test in cells.SERVICE.values()])
def test_what_is_tested_elsewhere_is_there(test):
    """A test that the document names exists."""
    file, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
