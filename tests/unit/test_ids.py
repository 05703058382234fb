"""Image ids, regions and id files as the contract spells them."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import ConfigurationError, UsageError
from collector.ids import id_problem, parse_reference, read_ids, region_problem

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


REGION = "cn-north-1"


def ids(content: bytes) -> list[str]:
    found = read_ids(io.BytesIO(content), name="ids.txt", region=REGION)
    return [image_id for region, image_id in found if region == REGION]


@given(st.text(LETTERS, min_size=1, max_size=64))
def test_every_id_of_the_alphabet_is_one(text):
    """1 to 64 of letters, digits, - and _ are an id, case kept."""
    assert id_problem(text) is None
    assert ids(text.encode()) == [text]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "is empty"),
        ("img m5", "' ' at position 4"),
        ("img-é", "'é' at position 5"),
        ("img-a\n", r"'\n' at position 6"),
        ("img-٣", "'٣' at position 5"),
        ("a" * 65, "has 65 characters"),
    ],
)
def test_a_bad_id_is_told_with_its_position(text, where):
    """What is no id is named with what stands where."""
    problem = id_problem(text)
    assert problem is not None
    assert where in problem
    assert "allowed: 1 to 64 of letters" in problem


@pytest.mark.parametrize("text", ["", "CN-north-1", "cn_north_1", "cn/north", "cn-north-1\n"])
def test_a_region_is_lower_case_letters_digits_and_hyphens(text):
    """Nothing else is a region, a final newline included."""
    assert region_problem(text)
    assert region_problem("cn-north-1") is None


def test_a_reference_is_region_slash_id():
    """`REGION/ID` splits at its slash."""
    assert parse_reference("cn-north-1/img-A_1") == ("cn-north-1", "img-A_1")


@pytest.mark.parametrize("text", ["img-a", "cn-north-1/", "/img-a", "cn-north-1/a/b", "", "/"])
def test_a_bad_reference_is_a_usage_error_of_one_line(text):
    """A mistake on the command line names its option and ends with usage's code."""
    with pytest.raises(UsageError, match=r"^REGION/ID: found .*; allowed: .*$"):
        parse_reference(text)


def test_comments_blanks_line_ends_and_byte_order_mark_are_passed_over():
    """Only ids come out, whatever the editor that wrote the file."""
    content = (
        b"\xef\xbb\xbf# list\r\n\r\n  img-a  \r\nimg-b\t# why\n   \n#img-c\nimg-d # \xff\xfe\n"
        b"\t# x\nimg-e"
    )
    assert ids(content) == ["img-a", "img-b", "img-d", "img-e"]


def test_lines_with_regions_are_pairs():
    """For the command line and the queue a line is `REGION/ID`."""
    stream = io.BytesIO(b"cn-north-1/img-a # x\n\ncn-east-2/img-b\r\n")
    found = list(read_ids(stream, name="-"))
    assert found == [("cn-north-1", "img-a"), ("cn-east-2", "img-b")]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"ok\nimg a\n", "line 2: found 'img a'"),
        (b"ok\n\n# c\nimg#a\n", "line 4: found 'img#a'"),
        (b"img-a\x1b[31m", r"line 1: found 'img-a\x1b[31m'"),
        (b"\x7fELF\x02\x01\x00\x00", "line 1: found byte 0x00 at 7"),
        (b"a\n\xff\xfei\x00", "line 2: found byte 0xff at 1"),
        (b"# \x00", "line 1: found byte 0x00 at 3"),
        (b"x" * 5000, "line 1: found over 4096 bytes"),
        (b"# " + b"x" * 5000, "line 1: found over 4096 bytes"),
        (b"x" * 200, "has 200 characters"),
        (b"cn-north-1/img-a", "'/' at position 11"),
    ],
)
@pytest.mark.parametrize("error", [ConfigurationError, UsageError])
def test_a_bad_line_is_named_with_file_and_number(content, found, error):
    """One short line of the caller's class, whatever the file holds."""
    with pytest.raises(error) as caught:
        list(read_ids(io.BytesIO(content), name="ids.txt", region=REGION, error=error))
    text = str(caught.value)
    assert text.startswith("ids.txt: line ")
    assert found in text
    assert text.isprintable()
    assert len(text) < 250


def test_an_endless_line_is_not_read_to_its_end():
    """A stream without a line end costs a bounded read."""

    class Endless(io.RawIOBase):
        asked = 0

        def readline(self, size=-1):
            self.asked += size
            return b"x" * size

    stream = Endless()
    with pytest.raises(UsageError, match="over 4096 bytes"):
        list(read_ids(stream, name="-", region=REGION))
    assert stream.asked < 10_000


def test_reading_streams():
    """The first id comes before the second line is asked for."""

    class Slow(io.RawIOBase):
        asked = 0

        def readline(self, size=-1):
            self.asked += 1
            return b"cn-north-1/img-a\n"

    stream = Slow()
    assert next(read_ids(stream, name="-")) == (REGION, "img-a")
    assert stream.asked == 1


@given(st.binary(max_size=300), st.sampled_from([None, REGION]))
def test_no_bytes_raise_anything_but_the_named_error(content, region):
    """Any content yields valid ids or ends in one printable line."""
    text = ""
    found = []
    try:
        found.extend(read_ids(io.BytesIO(content), name="f", region=region))
    except UsageError as error:
        text = str(error)

    assert text.isprintable()
    assert all(not region_problem(each) and not id_problem(image_id) for each, image_id in found)
