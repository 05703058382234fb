"""The fast way of normalizing: it takes what is as documented, and agrees with the careful one."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.documented import CLOUD, DISK, IMAGE, LOCAL, Object
from collector.normalize import NotCanonical, careful, normalize
from collector.ordinary import ordinary

SHANGHAI = ZoneInfo("Asia/Shanghai")

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
NUMBER = st.integers(-(2**63), 2**63 - 1)
TIME = st.datetimes(datetime(1002, 1, 1), datetime(9997, 1, 1))  # noqa: DTZ001 - the API's own
PLAIN = {
    str: TEXT.filter(lambda text: "\\u0000" not in text),
    int: NUMBER,
    bool: st.booleans(),
    datetime: TIME.map(lambda time: time.isoformat(" ", "seconds")),
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["", " 40", "true", "\0", "\\u0000", "\ud800", "2021-01-28T16:49:05Z"]),
    st.text(max_size=5),
    st.lists(st.none(), max_size=1),
    st.just({}),
)
"""Of any type, so that it is what the field holds now and then."""
NESTED = st.recursive(ODD, st.lists)
OTHERS = sorted(IMAGE.others - {"imageId", "systemDisk", "dataDisks"})


def objects(known: Object, *, odd: bool, **others: st.SearchStrategy[Any]) -> Any:
    """An object of the API, each field there or not; odd ones hold anything, and more fields."""
    plain = {
        name: st.sampled_from(field.allowed) if field.allowed else PLAIN[field.kind]
        for name, field in known.fields.items()
    } | others
    found = st.fixed_dictionaries({}, optional=plain)
    if not odd:
        return found
    names = st.sampled_from(sorted({*plain, *known.others})) | st.text(max_size=5)
    return st.builds(lambda a, b: a | b, found, st.dictionaries(names, ODD, max_size=2))


def images(*, odd: bool) -> Any:
    """Images; one disk has one kind of details unless it is odd."""
    cloud, local = objects(CLOUD, odd=odd, encrypt=st.booleans()), objects(LOCAL, odd=odd)
    kinds = [objects(DISK, odd=odd, cloudDisk=cloud), objects(DISK, odd=odd, localDisk=local)]
    if odd:
        kinds.append(objects(DISK, odd=odd, cloudDisk=cloud, localDisk=local))
    disk = st.one_of(kinds)
    return objects(
        IMAGE,
        odd=odd,
        imageId=PLAIN[str],
        systemDisk=disk,
        dataDisks=st.lists(disk, max_size=3),
        **dict.fromkeys(OTHERS, st.dictionaries(PLAIN[str], NESTED if odd else NUMBER)),
        expiredTime=st.just("") | PLAIN[datetime],
    )


STRANGE, PLAIN_DISK = {"cloudDisk": {"encrypt": False}}, {"cloudDisk": {"iops": 1}}


@example({"dataDisks": [STRANGE, PLAIN_DISK], "systemDisk": PLAIN_DISK})
@example({"dataDisks": [PLAIN_DISK], "systemDisk": STRANGE, "uefiSupport": False})
@given(images(odd=False))
def test_what_is_as_documented(image: dict[str, Any]):
    """It is read the fast way, with the same result; what is missing is None."""
    assert ordinary(image, SHANGHAI) == careful(image, SHANGHAI)


@given(images(odd=True))
def test_what_is_odd(image: dict[str, Any]):
    """Whatever the fast way answers, the careful one answers too; it never raises."""
    found = ordinary(image, SHANGHAI)
    try:
        wanted = careful(image, SHANGHAI)
    except NotCanonical:
        assert found is None
    else:
        assert found in (None, wanted)


@pytest.mark.parametrize(
    "change",
    [
        {"offline": None},
        {"strange": 1},
        {"status": "melting"},
        {"sizeMB": "40"},
        {"sizeMB": 40.0},
        {"sizeMB": True},
        {"sizeMB": 2**63},
        {"name": "\0"},
        {"createTime": "yesterday"},
        {"chargeInfo": None},
        {"chargeInfo": {"price": float("nan")}},
        {"chargeInfo": {"": "\0"}},
        {"serviceCode": "\0"},
        {"systemDisk": {"cloudDisk": {}, "localDisk": {}}},
        {"dataDisks": [None]},
        {"dataDisks": [{"status": "attached"}]},
    ],
)
def test_what_is_left_to_the_careful_way(change: dict[str, Any]):
    """Nulls, strangers, other types, undocumented values: everything that needs a second look."""
    assert ordinary({"imageId": "img-1"}, SHANGHAI) is not None

    assert ordinary({"imageId": "img-1", **change}, SHANGHAI) is None


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("value", ["", "x", 1, 2**70, 2.5, False, {}, {"a": [None]}, [], [1]])
def test_what_is_documented_without_a_column_may_hold_anything(name: str, value: Any):
    """It is taken the fast way, and stays in `extra`, whatever it is but null."""
    found = ordinary({name: value}, SHANGHAI)

    assert found is not None
    assert found == careful({name: value}, SHANGHAI)
    assert msgspec.json.decode(str(found.columns["extra"])) == {name: value}


@pytest.mark.parametrize("levels", [62, 63, 10_000])
def test_nesting_without_end(levels: int):
    """Both ways end at the same depth, and neither runs out of the interpreter's stack."""
    price: dict[str, Any] = {}
    for _ in range(levels):
        price = {"price": price}
    found = ordinary({"chargeInfo": price}, SHANGHAI)

    try:
        assert found == careful({"chargeInfo": price}, SHANGHAI)
    except NotCanonical:
        assert found is None
    assert (found is None) == (levels > 62)


def test_the_payload_is_canonical_whatever_the_order_of_the_fields():
    """The text that is hashed does not depend on the order in which the API writes its fields."""
    image = dict.fromkeys(("createTime", "osVersion", "desc", "name"), "2021-01-28 16:49:05")
    image["imageId"] = 'quoted "\\\u2028\u007f'
    backwards = dict(reversed(image.items()))

    found = ordinary(image, SHANGHAI)

    assert found is not None
    assert found == ordinary(backwards, SHANGHAI)
    assert msgspec.json.decode(found.payload) == image


def test_either_way_reads_times_in_the_zone_and_the_fast_one_is_first(
    monkeypatch: pytest.MonkeyPatch,
):
    """`normalize` asks the careful way only for what the fast one leaves to it."""
    plain, odd = {"createTime": "2021-01-28 16:49:05"}, {"createTime": "2021-01-28 16:49:05 "}
    odd |= {"strange": 1}
    for image in (plain, odd):
        found = normalize(image, time_zone=SHANGHAI)
        assert found.columns["create_time"] == datetime(2021, 1, 28, 8, 49, 5, tzinfo=UTC)
    monkeypatch.setattr("collector.normalize.careful", None)
    assert normalize(plain, time_zone=SHANGHAI).columns["create_time"] is not None
    with pytest.raises(TypeError):
        normalize(odd, time_zone=SHANGHAI)
