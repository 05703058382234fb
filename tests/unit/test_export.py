"""What a cell of an export looks like, in which order rows come, and which names there are."""

import csv
import io
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.cli.output import output
from collector.errors import UsageError
from collector.export import FORMATS, NAMES, export, named, ordered
from collector.store.schema import images
from collector.store.views import VIEWS

ROW = (7, "main", "cn-north-1", "img-1", "present", datetime(2026, 1, 1, 0, 0, 0, 5, UTC))


def written(kind, *rows, table=images):
    """What a format makes of rows, filled up with NULL."""
    stream = io.BytesIO()
    write, close = FORMATS[kind](table, stream)
    write([(*row, *(None for _ in range(len(table.c) - len(row)))) for row in rows])
    close()
    return stream.getvalue()


def cells(*values):
    (line,) = list(csv.reader(io.StringIO(written("csv", values).decode(), newline="")))[1:]
    return line[: len(values)]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_is_given_no_formula(first):
    """In CSV a text that begins like a formula gets a leading apostrophe, and only a text."""
    assert cells(f"{first}1+1", f"1{first}", -5) == [f"'{first}1+1", f"1{first}", "-5"]


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=4))
def test_any_text_survives_csv_but_for_the_guard(texts):
    """Whatever stands in a name can be read back from CSV."""
    assert cells(*texts) == [f"'{t}" if t[:1] in set("=+-@\t\r") else t for t in texts]


def test_csv_tells_null_from_an_empty_text():
    """NULL is an empty cell, an empty text is quoted; booleans and times have one form."""
    row = written("csv", (1, "", None, True, False, ROW[5])).decode().splitlines()[1]

    assert row.startswith('1,"",,true,false,2026-01-01T00:00:00.000005Z,')


def test_json_lines_are_exact_and_typed():
    """A line is an object of all columns; nothing is guarded, NULL is null."""
    line = msgspec.json.decode(written("jsonl", (*ROW[:3], "=1", "é\x1b", ROW[5])))

    assert list(line) == images.c.keys()
    assert line["id"] == 7
    assert (line["image_id"], line["state"]) == ("=1", "é\x1b")
    assert line["first_planned_at"] == "2026-01-01T00:00:00.000005Z"
    assert line["last_seen_at"] is None


def test_parquet_has_the_types_of_the_columns():
    """Numbers, booleans and times are typed; texts are exact."""
    from pyarrow import parquet

    stream = io.BytesIO(written("parquet", (*ROW[:3], "=1", *ROW[4:])))
    table = parquet.read_table(stream)
    kinds = {field.name: str(field.type) for field in table.schema}

    assert kinds["id"] == "int64"
    assert kinds["first_planned_at"] == "timestamp[us, tz=UTC]"
    assert table.to_pylist()[0]["image_id"] == "=1"
    assert table.to_pylist()[0]["first_planned_at"] == ROW[5]
    of_disks = FORMATS["parquet"](VIEWS["current_disks"], io.BytesIO())
    assert of_disks
    coverage = io.BytesIO(written("parquet", (1,), table=VIEWS["run_coverage"]))
    assert str(parquet.read_schema(coverage).field("coverage").type) == "double"


def test_parquet_that_is_not_installed_names_the_command_that_installs_it(monkeypatch):
    """A missing extra is one line."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(UsageError, match=r"pip install 'jdcloud-image-collector\[parquet\]'"):
        FORMATS["parquet"](images, io.BytesIO())


@pytest.mark.parametrize("name", NAMES)
def test_every_table_and_view_has_an_order(name):
    """Rows come in the order of a key, so that two exports of the same data are equal."""
    query = str(ordered(named(name)))

    assert " ORDER BY " in query


def test_an_unknown_name_is_answered_with_the_nearest():
    """A misspelt name names the one that was meant; a strange one names all."""
    with pytest.raises(UsageError, match=r"'curent_images'; did you mean current_images\?"):
        named("curent_images")
    with pytest.raises(UsageError, match="allowed: current_disks, current_images"):
        named("; drop table images")


async def test_a_name_is_checked_before_anything_is_written():
    """What is no table never reaches the database."""
    stream = io.BytesIO()
    with pytest.raises(UsageError):
        await export(None, "sqlite_master", "csv", stream)

    assert not stream.getvalue()


def test_an_output_file_is_whole_and_private_or_not_there(tmp_path):
    """It is written beside its place, renamed at the end, and removed after a failure."""
    path = tmp_path / "out.csv"
    path.write_text("old")
    path.chmod(0o644)
    with output(path) as stream:
        stream.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600

    def fail():
        with output(path) as stream:
            stream.write(b"half of it")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        fail()
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


def test_what_is_no_file_is_written_as_it_is(tmp_path):
    """A device is not replaced by a file, and a link keeps pointing to its file."""
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    with output(link) as stream:
        stream.write(b"x")
    assert link.is_symlink()
    assert target.read_bytes() == b"x"
    device = tmp_path / "device"
    device.symlink_to("/dev/null")
    with output(device) as stream:
        stream.write(b"x")
    assert device.is_char_device()


def test_a_pipe_without_a_name_is_written_to():
    """`--output /dev/stdout` before a `|`: the link leads to `pipe:[…]`, which is no place."""
    reader, writer = os.pipe()
    try:
        with output(Path(f"/dev/fd/{writer}")) as stream:
            stream.write(b"x")
        assert os.read(reader, 2) == b"x"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_place_that_cannot_be_written_is_a_usage_error(tmp_path):
    """The text names the file and the reason."""
    with pytest.raises(UsageError, match="nowhere/x: No such file"), output(tmp_path / "nowhere/x"):
        pass
    with pytest.raises(UsageError, match="Is a directory"), output(tmp_path):
        pass
