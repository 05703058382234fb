"""What differs between two versions: every difference is told, and nothing else."""

import json
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.normalize import members, normalize
from collector.store.changes import FieldChange, ListChange, compare, compare_lists
from tests.support.inventory import disk, image

ZONE = ZoneInfo("Asia/Shanghai")


def version(content):
    """A version as the reader loads it."""
    found = normalize(content, time_zone=ZONE)
    return {**found.columns, "payload": found.payload, "disks": [dict(d) for d in found.disks]}


def of(**fields):
    return version(image("img-1", **fields))


def people(*pins, **others):
    text, _, found = members({"pins": list(pins), **others})
    return {"payload": text, "pins": [{"pin": pin, "login_name": name} for pin, name in found]}


def test_a_column_that_differs_is_told_with_both_values():
    """A field has its column's name, its old and its new value."""
    assert compare(of(osVersion="8.2"), of(osVersion="8.3", desc=None)).fields == [
        FieldChange("os_version", "8.2", "8.3"),
        FieldChange("description", "", None),
    ]


def test_what_has_no_column_is_told_by_its_path():
    """Undocumented fields are compared leaf by leaf, lists by place."""
    before = of(odd={"k": [1, {"x": "a"}], "same": 1})
    after = of(odd={"k": [1, {"x": "b"}, 3], "same": 1})

    assert compare(before, after).fields == [
        FieldChange("extra.odd.k[1].x", "a", "b"),
        FieldChange("extra.odd.k[2]", None, 3),
    ]


def test_json_types_that_python_calls_equal_differ():
    """True, 1 and 1.0 are three things in JSON."""
    fields = compare(of(odd=[1, 1, True]), of(odd=[True, 1.0, 1])).fields

    assert [(change.field, json.dumps(change.new)) for change in fields] == [
        ("extra.odd[0]", "true"),
        ("extra.odd[1]", "1.0"),
        ("extra.odd[2]", "1"),
    ]


def test_disks_are_matched_by_role_and_place():
    """A disk is added, removed or changed; an equal one is not told."""
    before = of(dataDisks=[disk("vdb", 100), disk("vdc", 10)])
    after = of(systemDisk=disk("vda", 80), dataDisks=[disk("vdb", 100, odd="x")])
    found = compare(before, after)

    assert not found.fields
    assert [(part.part, part.change) for part in found.disks] == [
        ("system 0", "changed"),
        ("data 1", "changed"),
        ("data 2", "removed"),
    ]
    assert found.disks[0].fields == [FieldChange("disk_size_gb", 40, 80)]
    assert found.disks[1].fields == [FieldChange("extra.cloudDisk.odd", None, "x")]
    assert FieldChange("disk_size_gb", 10, None) in found.disks[2].fields
    assert found.disks[1].position == 1


def test_what_no_column_shows_is_told_in_the_terms_of_the_payload():
    """A number that became a text, and a null that was left out, are changes as well."""
    assert compare(of(sizeMB="2494"), of()).fields == [
        FieldChange("payload.sizeMB", '"2494"', "2494")
    ]
    assert compare(
        version({"imageId": "i", "offline": None}), version({"imageId": "i"})
    ).fields == [FieldChange("payload.offline", "null", None)]
    assert compare(version({"odd": {"a": None}}), version({"odd": {}})).fields == [
        FieldChange("extra.odd", None, {})
    ]


def test_an_image_that_appears_has_everything_from_nothing():
    """Appearing tells each field that is there, vanishing each that was."""
    appeared, vanished = compare(None, of()), compare(of(), None)

    assert FieldChange("name", None, "image img-1") in appeared.fields
    assert FieldChange("name", "image img-1", None) in vanished.fields
    assert all(change.new is not None for change in appeared.fields)
    assert [part.change for part in appeared.disks + vanished.disks] == ["added", "removed"]


def test_members_are_told_one_by_one():
    """Of a list of members each that came or went is told; a first list is `added`."""
    assert compare_lists(None, people("a")) == ListChange(
        "added", [FieldChange("member", None, "a")]
    )
    assert compare_lists(people("a", "b"), people("b", "c", loginNames=["B", "C"])).fields == [
        FieldChange("member", "a", None),
        FieldChange("member", "b", None),
        FieldChange("member", None, "b (B)"),
        FieldChange("member", None, "c (C)"),
    ]
    assert compare_lists(people("a", "b"), people("b", "a")).fields == [
        FieldChange("payload.pins[0]", '"a"', '"b"'),
        FieldChange("payload.pins[1]", '"b"', '"a"'),
    ]


LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([1.0, "", "a", "1"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab."), inner),
)
KEYS = ("name", "sizeMB", "offline", "createTime", "systemDisk", "dataDisks", "x", "x.y")
DISKS = st.fixed_dictionaries(
    {}, optional={"deviceName": LEAVES, "cloudDisk": VALUES, "autoDelete": LEAVES, "odd": VALUES}
)
IMAGES = st.fixed_dictionaries(
    {},
    optional={key: VALUES | DISKS | st.lists(DISKS, max_size=3) for key in KEYS},
)


@settings(max_examples=500)
@given(IMAGES, IMAGES)
def test_two_versions_differ_exactly_when_their_payloads_do(one, other):
    """No version is without a change that explains it, and no change without a version."""
    before, after = version(one), version(other)

    assert any(compare(before, after)) == (before["payload"] != after["payload"])
