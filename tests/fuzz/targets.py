"""Targets of coverage-guided fuzzing: whatever the bytes, nothing but the documented errors."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

from collector import config
from collector.errors import ConfigurationError, UsageError
from collector.export import csv_cell
from collector.ids import parse_reference, read_ids
from collector.jdcloud import credentials
from collector.jdcloud.protocol import MESSAGE_CHARS, Reply, classify, describe_image, image_of
from collector.models import Outcome
from collector.normalize import NotCanonical, canonical, members, normalize
from collector.simulator.faults import Faults
from collector.simulator.signatures import read_claim
from collector.text import harmless_json, printable, scrub, shown

__all__ = ["SEEDS", "TARGETS"]

ZONE: Final = ZoneInfo("Asia/Shanghai")
CALL: Final = describe_image("cn-north-1", "img-1")
ENVELOPE: Final = b'{"requestId":"r","result":{"image":{"imageId":"img-1",%b}}}'
_PLACE: Final = Path(tempfile.gettempdir()) / f"collector-fuzz-{os.getpid()}.toml"


def answer(data: bytes) -> None:
    """Any answer is judged; an image in it is normalized or refused, and keeps everything."""
    status = (200, 404, 429, 500, 301)[data[0] % 5] if data else 200
    reply = classify(CALL, status, {}, data[1:], now=datetime.now(UTC))
    assert len(reply.error_message or "") <= MESSAGE_CHARS
    assert (reply.outcome is Outcome.PRESENT) == (reply.result is not None)
    found = image_of(CALL, reply, "img-1")
    if not isinstance(found, Reply):
        _kept(found)
    elif status != 404:
        assert found.outcome is not Outcome.NOT_FOUND


def image(data: bytes) -> None:
    """The fields of an image may be anything that JSON can say."""
    found = image_of(CALL, classify(CALL, 200, {}, ENVELOPE % data, now=datetime.now(UTC)), "img-1")
    if not isinstance(found, Reply):
        _kept(found)


def _kept(found: dict[str, object]) -> None:
    try:
        content = normalize(found, time_zone=ZONE)
    except NotCanonical:
        return
    again = json.loads(content.payload)
    assert canonical(again) == content.payload
    assert normalize(again, time_zone=ZONE).fingerprint == content.fingerprint
    with suppress(NotCanonical):
        members(found)


def configuration(data: bytes) -> None:
    """A file is a configuration, or each mistake is a printable line."""
    _PLACE.write_bytes(data)
    told = ""
    try:
        config.load(_PLACE, env={})
    except ConfigurationError as error:
        told = str(error)
    assert all(line.isprintable() for line in told.split("\n"))


def credentials_file(data: bytes) -> None:
    """A credentials file is one, or the mistake is a line that shows nothing of it."""
    _PLACE.touch(mode=0o600)
    _PLACE.write_bytes(data)
    told = ""
    try:
        credentials.load(f"file:{_PLACE}", base=_PLACE.parent, env={})
    except ConfigurationError as error:
        told = str(error)
    assert told.isprintable()


def ids(data: bytes) -> None:
    """An id file, with regions and without, is ids or one line with the place of the mistake."""
    for region in (None, "cn-north-1"):
        with suppress(UsageError):
            for found in read_ids(io.BytesIO(data), name="ids", region=region):
                assert all(found)
    with suppress(UsageError):
        parse_reference(data.decode("utf-8", "replace"))


def faults(data: bytes) -> None:
    """The simulator's language of faults, and the headers that it is sent."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(UsageError):
        Faults.parse(text)
    read_claim(text)


def text(data: bytes) -> None:
    """What is shown holds no control character; what is JSON means the same."""
    given = data.decode("utf-8", "replace")
    assert printable(given).isprintable()
    scrub(given)
    shown(given)
    (row,) = csv.reader(io.StringIO(csv_cell(given) + ",\n", newline=""))
    assert row[0] == (f"'{given}" if given.startswith(tuple("=+-@\t\r")) else given)
    document = json.dumps(given, ensure_ascii=False).encode()
    assert json.loads(harmless_json(document)) == given


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = MappingProxyType(
    {
        function.__name__: function
        for function in (answer, image, configuration, credentials_file, ids, faults, text)
    }
)

SEEDS: Final[Mapping[str, tuple[bytes, ...]]] = MappingProxyType(
    {
        "answer": (
            b"\0" + ENVELOPE % b'"name":"n","sizeMB":1',
            b'\1{"error":{"code":404,"status":"NOT_FOUND","message":"Image \'img-1\' not found"}}',
            b"\3<html></html>",
        ),
        "image": (
            b'"name":"n","sizeMB":"12","createTime":"2021-01-28 16:49:05","offline":true',
            b'"systemDisk":{"diskCategory":"cloud","cloudDisk":{"diskSizeGB":40,"encrypt":false}}',
            b'"dataDisks":[{"deviceName":"vdb","localDisk":{}}],"pins":["a"],"expiredTime":""',
        ),
        "configuration": (
            b'[api]\nrate_limit = 1\n[[accounts]]\nname = "a"\ncredentials = "env"',
            b'[[targets]]\naccount = "a"\nregion = "cn-north-1"\nimages = ["img-1"]',
        ),
        "credentials_file": (b'access_key = "a"\nsecret_key = "b"\nsecurity_token = "c"',),
        "ids": (b"img-1\n# comment\n\ncn-north-1/img-2\r\n",),
        "faults": (
            b"500=0.05,reset=0.01,region:cn-east-1=down,delete=0.01",
            b"JDCLOUD2-HMAC-SHA256 Credential=a/20260101/cn-north-1/vm/jdcloud2_request,",
        ),
        "text": ("=é\x1b[31m\u202e'\x9b".encode(), b"postgresql://u:p@h/d?token=x"),
    }
)
