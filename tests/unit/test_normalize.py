"""Normalizing: the example of the page, every rule of the module, and what holds of any JSON."""

import hashlib
import json
from datetime import UTC, datetime
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from collector.models import Drift, Normalized
from collector.normalize import NotCanonical, canonical, fingerprint, members, normalize

SHANGHAI = ZoneInfo("Asia/Shanghai")

EXAMPLE: dict[str, Any] = {
    "architecture": "x86_64",
    "createTime": "2021-01-28 16:49:05",
    "desc": "",
    "imageId": "img-m5s0000029",
    "imageSource": "public",
    "launchPermission": "all",
    "name": "CentOS 8.2 64位",
    "osType": "linux",
    "osVersion": "8.2",
    "ownerPin": "admin",
    "platform": "CentOS",
    "progress": "100",
    "rootDeviceType": "cloudDisk",
    "sizeMB": 2494,
    "snapshotId": "snapshot-h8u1000036",
    "status": "ready",
    "systemDisk": {
        "autoDelete": True,
        "cloudDisk": {
            "diskSizeGB": 40,
            "diskType": "ssd.gp1",
            "encrypt": False,
            "encrypted": False,
            "snapshotId": "snapshot-h8u1000036",
        },
        "deviceName": "vda",
        "diskCategory": "cloud",
    },
    "systemDiskSizeGB": 40,
    "uefiSupport": False,
}


def read(zone: ZoneInfo = SHANGHAI, **fields: Any) -> Normalized:
    return normalize({"imageId": "img-1", **fields}, time_zone=zone)


def disk(**fields: Any) -> dict[str, Any]:
    (row,) = read(systemDisk=fields).disks
    return dict(row)


def test_the_page_s_example():
    """Every field of the page's example is in its column, and its two strangers are noted."""
    found = normalize(EXAMPLE, time_zone=SHANGHAI)

    assert found.columns == {
        "name": "CentOS 8.2 64位",
        "platform": "CentOS",
        "os_version": "8.2",
        "architecture": "x86_64",
        "system_disk_size_gb": 40,
        "image_source": "public",
        "os_type": "linux",
        "status": "ready",
        "create_time": datetime(2021, 1, 28, 8, 49, 5, tzinfo=UTC),
        "size_mb": 2494,
        "description": "",
        "owner_pin": "admin",
        "launch_permission": "all",
        "snapshot_id": "snapshot-h8u1000036",
        "root_device_type": "cloudDisk",
        "progress": "100",
        "offline": None,
        "uefi_support": False,
        "imported": None,
        "boot_mode": None,
        "expired_time": None,
        "login_name": None,
        "extra": None,
    }
    assert found.disks == (
        {
            "role": "system",
            "position": 0,
            "device_name": "vda",
            "disk_category": "cloud",
            "auto_delete": True,
            "disk_type": "ssd.gp1",
            "disk_size_gb": 40,
            "iops": None,
            "throughput": None,
            "snapshot_id": "snapshot-h8u1000036",
            "encrypted": False,
            "extra": '{"cloudDisk":{"encrypt":false}}',
        },
    )
    assert found.drift == (
        Drift("image.systemDisk.cloudDisk.encrypt", "boolean"),
        Drift("image.uefiSupport", "boolean"),
    )
    assert found.payload == canonical(EXAMPLE)
    assert found.fingerprint == hashlib.sha256(found.payload.encode()).hexdigest()


def test_absent_and_null_are_none():
    """What the API left out, or said null to, is None without drift, and there is no disk."""
    fields = dict.fromkeys([*EXAMPLE, "dataDisks", "chargeInfo", "expiredTime"])
    del fields["imageId"], fields["uefiSupport"]

    for found in (read(), read(**fields)):
        assert set(found.columns.values()) == {None}
        assert found.disks == ()
        assert found.drift == ()


def test_an_undocumented_null_is_noted():
    """A null under an unknown name is still an unknown name."""
    found = read(novelty=None)

    assert found.drift == (Drift("image.novelty", "null"),)
    assert found.columns["extra"] == '{"novelty":null}'


def test_what_the_sdk_documents_is_no_drift():
    """Fields of the SDK without a column are kept in extra and not noted."""
    found = read(
        serviceCode="x",
        instanceId="i-1",
        chargeInfo={"formula": "f"},
        loginName="me",
        imported=True,
        bootMode="uefi",
        systemDisk={"status": "attached", "cloudDisk": {"diskId": "vol-1", "throughput": 5}},
    )

    assert found.drift == ()
    assert found.columns["extra"] == (
        '{"chargeInfo":{"formula":"f"},"instanceId":"i-1","serviceCode":"x"}'
    )
    assert found.columns["login_name"] == "me"
    assert found.columns["imported"] is True
    assert found.columns["boot_mode"] == "uefi"
    assert found.disks[0]["throughput"] == 5
    assert found.disks[0]["extra"] == '{"cloudDisk":{"diskId":"vol-1"},"status":"attached"}'


@pytest.mark.parametrize(
    ("value", "number"),
    [("40", 40), ("12 ", 12), (" -3", -3), ("+7", 7), ("40.0", 40), (40.0, 40), (-0.0, 0)],
)
def test_numbers_in_other_clothes(value: Any, number: int):
    """What plainly is a number is read into its column, and noted."""
    found = read(sizeMB=value)

    assert found.columns["size_mb"] == number
    assert found.columns["extra"] is None
    assert found.drift == (Drift("image.sizeMB", "string" if value != number else "number"),)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("", "string"),
        ("big", "string"),
        ("1_000", "string"),
        ("٣", "string"),
        ("1e3", "string"),
        ("9223372036854775808", "string"),
        (2**63, "number"),
        (-(2**63) - 1, "number"),
        (10**40, "number"),
        (1.5, "number"),
        (1e300, "number"),
        (True, "boolean"),
        ([40], "array"),
        ({"GB": 40}, "object"),
    ],
)
def test_numbers_that_cannot_be_read(value: Any, kind: str):
    """The column stays None, the value stays in extra and payload, and it is noted."""
    found = read(sizeMB=value)

    assert found.columns["size_mb"] is None
    assert found.columns["extra"] == canonical({"sizeMB": value})
    assert found.drift == (Drift("image.sizeMB", kind),)


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, -(2**63)])
def test_signed_64_bit_numbers_fit(number: int):
    """The whole range of a database's BIGINT is read, and is nothing to note."""
    found = read(sizeMB=number)

    assert found.columns["size_mb"] == number
    assert found.drift == ()


@pytest.mark.parametrize(
    ("value", "flag"),
    [("true", True), ("False ", False), ("1", True), ("0", False), (1, True), (0, False), (1.0, 1)],
)
def test_flags_in_other_clothes(value: Any, flag: bool):
    """Texts and numbers that plainly mean true or false are read, and noted."""
    found = read(offline=value)

    assert found.columns["offline"] is bool(flag)
    assert [d.path for d in found.drift] == ["image.offline"]


@pytest.mark.parametrize("value", ["", "yes", 2, 0.5, [], {}])
def test_flags_that_cannot_be_read(value: Any):
    """Anything else is no flag: None, kept and noted."""
    found = read(offline=value)

    assert found.columns["offline"] is None
    assert found.columns["extra"] == canonical({"offline": value})
    assert [d.path for d in found.drift] == ["image.offline"]


@pytest.mark.parametrize(
    ("value", "text"), [(100, "100"), (1.5, "1.5"), (True, "true"), (10**40, "1" + "0" * 40)]
)
def test_texts_in_other_clothes(value: Any, text: str):
    """A scalar in a text field becomes the text that the payload has."""
    found = read(progress=value)

    assert found.columns["progress"] == text
    assert [d.value for d in found.drift] == [None]


@pytest.mark.parametrize("value", [["x"], {"x": "y"}, [], {}])
def test_texts_that_cannot_be_read(value: Any):
    """An object or a list is no text."""
    found = read(name=value)

    assert found.columns["name"] is None
    assert found.columns["extra"] == canonical({"name": value})


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2021-01-28 16:49:05", datetime(2021, 1, 28, 8, 49, 5, tzinfo=UTC)),
        (" 2021-01-28T16:49:05 ", datetime(2021, 1, 28, 8, 49, 5, tzinfo=UTC)),
        ("2021-01-28T16:49:05Z", datetime(2021, 1, 28, 16, 49, 5, tzinfo=UTC)),
        ("2021-01-28 16:49:05+09:30", datetime(2021, 1, 28, 7, 19, 5, tzinfo=UTC)),
        ("2021-01-28T16:49:05-0100", datetime(2021, 1, 28, 17, 49, 5, tzinfo=UTC)),
        ("2021-01-28T16:49:05.123456789Z", datetime(2021, 1, 28, 16, 49, 5, 123456, tzinfo=UTC)),
        ("1001-01-01T00:00:00+08:00", datetime(1000, 12, 31, 16, tzinfo=UTC)),
        ("9998-12-31T16:00:00-08:00", datetime(9999, 1, 1, tzinfo=UTC)),
    ],
)
def test_times(text: str, utc: datetime):
    """Zone-less times are the configured zone's, `Z` is UTC, offsets count; all end in UTC."""
    found = read(createTime=text)

    assert found.columns["create_time"] == utc
    assert found.columns["create_time"].utcoffset() is not None
    assert found.columns["create_time"].tzinfo is UTC
    assert found.drift == ()


@pytest.mark.parametrize(
    "value",
    [
        *("", "yesterday", "2021-01-28", "20210128T164905", "2021-02-30 00:00:00"),
        *("0000-00-00 00:00:00", "0001-01-01T00:00:00Z", "0001-01-01 00:00:00"),
        *("1000-01-01 00:00:00", "1000-12-31 23:59:59", "9999-01-01 00:00:00"),
        *("9999-12-31 23:59:59-12:00", "2021-01-28 16:49:60", "2021-01-28 16:49:05+99:00"),
        *("2021-01-28 16:49:05 CST", "٢021-01-28 16:49:05", 1611823745, True, {}),
    ],
)
def test_times_that_cannot_be_read(value: Any):
    """What is no point in time that every database can hold is None, kept and noted."""
    found = read(createTime=value)

    assert found.columns["create_time"] is None
    assert found.columns["extra"] == canonical({"createTime": value})
    assert [d.path for d in found.drift] == ["image.createTime"]


def test_an_empty_expiry_means_never():
    """The SDK documents it: an empty expiredTime is None and no drift, even with spaces."""
    for text in ("", " "):
        found = read(expiredTime=text)

        assert found.columns["expired_time"] is None
        assert found.columns["extra"] is None
        assert found.drift == ()
    assert read(expiredTime="2030-01-01 08:00:00").columns["expired_time"] == datetime(
        2030, 1, 1, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("local", "utc_hour"), [("2021-10-31 02:30:00", 0), ("2021-03-28 02:30:00", 1)]
)
def test_local_times_that_are_twice_or_never(local: str, utc_hour: int):
    """A repeated hour is its first one, a skipped one is counted on from before: fold is 0."""
    found = read(ZoneInfo("Europe/Berlin"), createTime=local)

    assert found.columns["create_time"].hour == utc_hour
    assert found.columns["create_time"].minute == 30


def test_nul_is_replaced_in_columns_only():
    """Databases refuse NUL in text: the column has U+FFFD, payload and extra the escape."""
    found = read(name="a\0b", platform="Cent\0OS", **{"un\0known": "c\0d"})

    assert found.columns["name"] == "a\ufffdb"
    assert found.columns["platform"] == "Cent\ufffdOS"
    assert found.columns["extra"] == '{"un\\u0000known":"c\\u0000d"}'
    assert '"a\\u0000b"' in found.payload
    assert found.drift == (
        Drift("image.name", "string"),
        Drift("image.platform", "string"),
        Drift("image.platform", "string", "Cent\ufffdOS"),
        Drift("image.un\ufffdknown", "string"),
    )


@pytest.mark.parametrize(
    ("field", "column"),
    [
        ("platform", "platform"),
        ("architecture", "architecture"),
        ("imageSource", "image_source"),
        ("osType", "os_type"),
        ("status", "status"),
        ("launchPermission", "launch_permission"),
        ("rootDeviceType", "root_device_type"),
        ("bootMode", "boot_mode"),
    ],
)
def test_values_outside_their_documented_set(field: str, column: str):
    """All sets are open: the value is stored whole, and noted, cut to 200 characters."""
    found = read(**{field: "x" * 201})

    assert found.columns[column] == "x" * 201
    assert found.drift == (Drift(f"image.{field}", "string", "x" * 200),)
    assert read(**{field: 5}).drift == (Drift(f"image.{field}", "number", "5"),)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("platform", "Ubuntu|CentOS|Windows Server|Other Linux|Other Windows"),
        ("architecture", "x86_64|i386|arm64"),
        ("imageSource", "public|thirdparty|private|shared|community"),
        ("osType", "windows|linux"),
        ("status", "pending|ready|deleting|error"),
        ("launchPermission", "all|specifiedUsers|ownerOnly"),
        ("rootDeviceType", "localDisk|cloudDisk"),
        ("bootMode", "bios|uefi"),
    ],
)
def test_documented_values(field: str, values: str):
    """What the documents list is nothing to note."""
    for value in values.split("|"):
        assert read(**{field: value}).drift == ()


def test_disk_values_outside_their_documented_set():
    """diskCategory and the cloud disk's diskType have sets; a local disk's type has none."""
    found = read(
        systemDisk={"diskCategory": "moon", "cloudDisk": {"diskType": "tape"}},
        dataDisks=[
            {"cloudDisk": {"diskType": kind}}
            for kind in ("ssd.gp1", "ssd.io1", "hdd.std1", "ssd", "premium-hdd")
        ]
        + [{"diskCategory": "local", "localDisk": {"diskType": "nvme"}}],
    )

    assert found.drift == (
        Drift("image.systemDisk.cloudDisk.diskType", "string", "tape"),
        Drift("image.systemDisk.diskCategory", "string", "moon"),
    )


def test_local_disk():
    """A local disk fills the same columns from localDisk."""
    row = disk(diskCategory="local", localDisk={"diskSizeGB": 120, "encrypted": False})

    assert row["disk_size_gb"] == 120
    assert row["disk_type"] is None
    assert row["encrypted"] is None
    assert row["extra"] == '{"localDisk":{"encrypted":false}}'


@pytest.mark.parametrize(
    ("category", "size", "left"),
    [
        ("cloud", 1, '{"localDisk":{"diskSizeGB":2}}'),
        ("local", 2, '{"cloudDisk":{"diskSizeGB":1}}'),
        (None, 1, '{"localDisk":{"diskSizeGB":2}}'),
    ],
)
def test_both_disks(category: str | None, size: int, left: str):
    """When both come, the category decides, and the other stays in extra whole."""
    row = disk(diskCategory=category, localDisk={"diskSizeGB": 2}, cloudDisk={"diskSizeGB": 1})

    assert row["disk_size_gb"] == size
    assert row["extra"] == left


@pytest.mark.parametrize("other", [{}, {"localDisk": None}, {"localDisk": "?"}])
def test_the_present_disk_beats_the_category(other: dict[str, Any]):
    """The details come from the one that is there, whatever the category says."""
    assert disk(diskCategory="local", cloudDisk={"iops": 7}, **other)["iops"] == 7


def test_what_is_unknown_in_the_other_detail_is_noted_too():
    """A disk with both details is described by one; neither hides an undocumented field."""
    found = read(systemDisk={"cloudDisk": {"new": 1}, "localDisk": {"odd": {}}})
    assert [(one.path, one.json_type) for one in found.drift] == [
        ("image.systemDisk.cloudDisk.new", "number"),
        ("image.systemDisk.localDisk.odd", "object"),
    ]
    assert found.disks[0]["extra"] == '{"cloudDisk":{"new":1},"localDisk":{"odd":{}}}'


def test_an_empty_disk_is_a_disk():
    """An object without fields is still a disk, of which nothing is known."""
    row = disk()

    assert (row.pop("role"), row.pop("position")) == ("system", 0)
    assert set(row.values()) == {None}


def test_data_disks_keep_their_places():
    """Data disks are numbered from 1 in the API's order; the system disk comes first."""
    found = read(
        dataDisks=[{"deviceName": f"vd{letter}"} for letter in "bcdefghijklmnop"],
        systemDisk={"deviceName": "vda"},
    )

    assert [(d["role"], d["position"], d["device_name"]) for d in found.disks] == [
        ("system", 0, "vda"),
        *(("data", n, f"vd{letter}") for n, letter in enumerate("bcdefghijklmnop", 1)),
    ]


@pytest.mark.parametrize(
    ("fields", "path", "kind"),
    [
        ({"systemDisk": "vda"}, "image.systemDisk", "string"),
        ({"systemDisk": []}, "image.systemDisk", "array"),
        ({"dataDisks": {}}, "image.dataDisks", "object"),
        ({"dataDisks": 0}, "image.dataDisks", "number"),
        ({"dataDisks": [None]}, "image.dataDisks[]", "null"),
        ({"dataDisks": ["vdb"]}, "image.dataDisks[]", "string"),
    ],
)
def test_what_is_no_disk(fields: dict[str, Any], path: str, kind: str):
    """What is no disk makes no row; it is kept in extra and noted."""
    found = read(**fields)

    assert found.disks == ()
    assert found.drift == (Drift(path, kind),)
    assert found.columns["extra"] == canonical(fields)


def test_what_is_no_disk_keeps_the_others_places():
    """A stranger in the list counts as a place, so that positions are those of the payload."""
    found = read(dataDisks=["?", {"deviceName": "vdc"}])

    assert [d["position"] for d in found.disks] == [2]
    assert found.columns["extra"] == '{"dataDisks":["?"]}'


def test_details_that_are_no_object():
    """A cloudDisk that is a text is kept in the disk's extra and noted."""
    found = read(dataDisks=[{"cloudDisk": "vol-1"}])

    assert found.disks[0]["extra"] == '{"cloudDisk":"vol-1"}'
    assert found.drift == (Drift("image.dataDisks[].cloudDisk", "string"),)


def test_drift_is_noted_once_and_without_a_flood():
    """Ten thousand odd disks are ten thousand rows and one note a path."""
    found = read(
        dataDisks=[{"cloudDisk": {"encrypt": True, "iops": str(n)}} for n in range(10_000)]
    )

    assert len(found.disks) == 10_000
    assert found.disks[-1]["iops"] == 9_999
    assert found.drift == (
        Drift("image.dataDisks[].cloudDisk.encrypt", "boolean"),
        Drift("image.dataDisks[].cloudDisk.iops", "string"),
    )


def test_a_long_unknown_name_is_cut_in_drift_only():
    """A name of any length cannot fill the drift table."""
    found = read(**{"k" * 5000: 1})

    assert found.drift == (Drift("image." + "k" * 200, "number"),)
    assert found.columns["extra"] == canonical({"k" * 5000: 1})


def test_an_id_that_is_no_text_is_noted():
    """The id's own column is elsewhere; here it can only be noted."""
    assert normalize({"imageId": 5}, time_zone=SHANGHAI).drift == (
        Drift("image.imageId", "number"),
    )
    assert normalize({}, time_zone=SHANGHAI).drift == ()


def nested(levels: int) -> Any:
    document: Any = 1
    for _ in range(levels):
        document = [document]
    return document


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (float("nan"), "^nan is not JSON$"),
        ([float("inf")], "^inf is not JSON$"),
        ({"a": {"b": [-float("inf")]}}, "^-inf is not JSON$"),
        ("\ud800", "surrogates not allowed"),
        ({"\udfff": 1}, "surrogates not allowed"),
        ([10**5000], "4300 digits"),
        (b"bytes", "^bytes is not JSON$"),
        ({"a": (1,)}, "^tuple is not JSON$"),
        (datetime(2021, 1, 1, tzinfo=UTC), "^datetime is not JSON$"),
        (nested(65), "^nested over 64 levels$"),
    ],
)
def test_what_has_no_canonical_form(document: Any, why: str):
    """NaN, infinities, lone surrogates, endless nesting and what is not JSON; the reason is said.

    It becomes the observation's error message.
    """
    with pytest.raises(NotCanonical, match=why):
        canonical(document)
    with pytest.raises(NotCanonical):
        normalize({"imageId": "img-1", "x": document}, time_zone=SHANGHAI)


def test_the_deviations_from_rfc_8785():
    """Integers in full, floats in their shortest form with a point, keys by code point."""
    assert canonical(2**64) == "18446744073709551616"
    assert canonical([1.0, 1e22, -0.0]) == "[1.0,1e22,-0.0]"
    assert canonical({"\U0001f600": 1, "\ufb01": 2}) == '{"\ufb01":2,"\U0001f600":1}'
    assert canonical(nested(64)) == "[" * 64 + "1" + "]" * 64


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None) | st.sampled_from("\0\ud800 019:-T.Z"))
    | st.sampled_from(["40", "true", "ready", "2021-01-28 16:49:05", "cloud", "local"])
)
IMAGE_NAMES = [*EXAMPLE, "dataDisks", "offline", "imported", "expiredTime", "loginName", "bootMode"]
DISK_NAMES = [*EXAMPLE["systemDisk"], "localDisk", "status", *EXAMPLE["systemDisk"]["cloudDisk"]]
names = st.sampled_from(IMAGE_NAMES + DISK_NAMES) | st.text(max_size=3)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
    max_leaves=30,
)
details = st.dictionaries(names, scalars, max_size=6) | documents
disks = st.fixed_dictionaries({}, optional={**dict.fromkeys(DISK_NAMES, scalars)}) | documents
attachments = st.builds(
    lambda base, found: {**base, **found} if isinstance(base, dict) else base,
    disks,
    st.fixed_dictionaries({}, optional={"cloudDisk": details, "localDisk": details}),
)
images = st.builds(
    lambda base, found: {**base, **found},
    st.dictionaries(names, documents, max_size=12),
    st.fixed_dictionaries(
        {},
        optional={"systemDisk": attachments, "dataDisks": st.lists(attachments, max_size=4)},
    ),
)


def attempt(image: dict[str, Any]) -> Normalized | None:
    try:
        return normalize(image, time_zone=SHANGHAI)
    except NotCanonical:
        return None


@given(images)
def test_any_object_is_normalized_or_refused(image: dict[str, Any]):
    """Whatever JSON comes, nothing but NotCanonical is raised, and columns hold their types."""
    found = attempt(image)
    if found is None:
        return

    for row in (found.columns, *found.disks):
        for column, value in row.items():
            assert value is None or type(value) in (str, int, bool, datetime), column
            if isinstance(value, str):
                assert "\0" not in value
                value.encode()
            if type(value) is int:
                assert -(2**63) <= value < 2**63
    assert len(set(found.drift)) == len(found.drift)


@given(images)
def test_the_payload_says_it_all(image: dict[str, Any]):
    """Reading the payload again gives the same: a stored version can be derived again."""
    found = attempt(image)
    if found is not None:
        assert normalize(msgspec.json.decode(found.payload), time_zone=SHANGHAI) == found


def shuffled(document: Any, draw: Any) -> Any:
    if isinstance(document, dict):
        keys = draw(st.permutations(list(document)))
        return {key: shuffled(document[key], draw) for key in keys}
    if isinstance(document, list):
        return [shuffled(item, draw) for item in document]
    return document


@given(images, st.data())
def test_the_order_of_keys_and_spaces_mean_nothing(image: dict[str, Any], data: st.DataObject):
    """However the same JSON is laid out, it is the same image, drift included."""
    found = attempt(image)
    if found is None:
        return
    other = shuffled(image, data.draw)
    spaced = json.dumps(
        other, indent=data.draw(st.integers(0, 3)), ensure_ascii=data.draw(st.booleans())
    )

    assert attempt(msgspec.json.decode(spaced)) == found


@given(st.lists(documents, min_size=2, max_size=4, unique_by=repr))
def test_the_order_of_lists_means_something(items: list[Any]):
    """A list in another order is another document."""
    try:
        straight = canonical(items)
    except NotCanonical:
        return

    assert fingerprint(straight) != fingerprint(canonical(items[1:] + items[:1]))


def marked(document: Any, serial: Any) -> Any:
    """Return the document with every leaf a text or number that occurs nowhere else."""
    if isinstance(document, dict):
        return {key: marked(value, serial) for key, value in document.items()}
    if isinstance(document, list):
        return [marked(item, serial) for item in document]
    number = 700_000_000 + next(serial)
    return number if isinstance(document, int) else f"<{number}>"


def marks(document: Any) -> set[str]:
    if isinstance(document, dict):
        return set().union(*(marks(v) for k, v in document.items()))
    if isinstance(document, list):
        return set().union(*(marks(v) for v in document))
    return {str(document)}


@given(images)
def test_nothing_is_dropped(image: dict[str, Any]):
    """Every scalar of the answer is in a column, or in extra."""
    image = {key: value for key, value in image.items() if key != "imageId"}
    image = marked(image, count())
    found = attempt(image)
    if found is None:
        return
    stored = " ".join(str(v) for row in (found.columns, *found.disks) for v in row.values())

    assert {mark for mark in marks(image) if mark not in stored} == set()


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(max_codepoint=0xD7FF)), inner, max_size=8)
    ),
)


@given(plain)
def test_canonical_form_is_rfc_8785(document: Any):
    """But for the three stated deviations, it is RFC 8785 to the byte."""
    assert canonical(document).encode() == rfc8785.dumps(document)


def test_members():
    """Pins come with their login names when the two lists match, in the API's order."""
    result = {"pins": ["b", "a"], "loginNames": ["B", None]}
    payload, digest, pins = members(result)

    assert payload == '{"loginNames":["B",null],"pins":["b","a"]}'
    assert digest == fingerprint(payload)
    assert pins == (("b", "B"), ("a", None))


@pytest.mark.parametrize(
    ("result", "pins"),
    [
        ({}, ()),
        ({"pins": None}, ()),
        ({"pins": "me"}, ()),
        ({"pins": ["a", "b"], "loginNames": ["A"]}, (("a", None), ("b", None))),
        ({"pins": ["a"], "loginNames": "A"}, (("a", None),)),
        (
            {"pins": [7, None, {}, "a\0"], "loginNames": [1, "x", "y", []]},
            (("7", "1"), ("a\ufffd", None)),
        ),
    ],
)
def test_members_that_are_odd(result: dict[str, Any], pins: tuple[Any, ...]):
    """Names that cannot be matched are left out, and what is no pin too; the payload keeps it."""
    assert members(result)[2] == pins
    assert members(result)[0] == canonical(result)


@given(st.dictionaries(st.sampled_from(["pins", "loginNames", "x"]), documents))
def test_any_members_are_read_or_refused(result: dict[str, Any]):
    """Whatever JSON comes, nothing but NotCanonical is raised, and every pin is a text."""
    try:
        pins = members(result)[2]
    except NotCanonical:
        return

    assert all(isinstance(pin, str) and "\0" not in pin for pin, _ in pins)
