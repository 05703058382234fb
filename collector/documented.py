"""What is documented of an image: its fields, their columns and values, and how times are written.

Documented is what the describeImage page or the official SDK's models name.
"""

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

__all__ = ["CLOUD", "DISK", "IMAGE", "INT64", "LOCAL", "Field", "Object", "read_time"]

INT64 = range(-(2**63), 2**63)
"""What a column of whole numbers holds."""

_PLATFORMS = {"Ubuntu", "CentOS", "Windows Server", "Other Linux", "Other Windows"}
_SOURCES = {"public", "thirdparty", "private", "shared", "community"}
_PERMISSIONS = {"all", "specifiedUsers", "ownerOnly"}
_DISK_TYPES = {"ssd.gp1", "ssd.io1", "hdd.std1", "ssd", "premium-hdd"}


class Field(NamedTuple):
    """A field with a column: the type the column has, and its documented values if it has such."""

    column: str
    kind: type[Any]
    allowed: set[str] | None = None
    documented: bool = True


class Object(NamedTuple):
    """An object of the API: its fields with a column, and the documented ones without."""

    fields: dict[str, Field]
    others: set[str]


IMAGE = Object(
    {
        "name": Field("name", str),
        "platform": Field("platform", str, _PLATFORMS),
        "osVersion": Field("os_version", str),
        "architecture": Field("architecture", str, {"x86_64", "i386", "arm64"}),
        "systemDiskSizeGB": Field("system_disk_size_gb", int),
        "imageSource": Field("image_source", str, _SOURCES),
        "osType": Field("os_type", str, {"windows", "linux"}),
        "status": Field("status", str, {"pending", "ready", "deleting", "error"}),
        "createTime": Field("create_time", datetime),
        "sizeMB": Field("size_mb", int),
        "desc": Field("description", str),
        "ownerPin": Field("owner_pin", str),
        "launchPermission": Field("launch_permission", str, _PERMISSIONS),
        "snapshotId": Field("snapshot_id", str),
        "rootDeviceType": Field("root_device_type", str, {"localDisk", "cloudDisk"}),
        "progress": Field("progress", str),
        "offline": Field("offline", bool),
        "uefiSupport": Field("uefi_support", bool, documented=False),
        "imported": Field("imported", bool),
        "bootMode": Field("boot_mode", str, {"bios", "uefi"}),
        "expiredTime": Field("expired_time", datetime),
        "loginName": Field("login_name", str),
    },
    {"imageId", "systemDisk", "dataDisks", "serviceCode", "instanceId", "chargeInfo"},
)

DISK = Object(
    {
        "deviceName": Field("device_name", str),
        "diskCategory": Field("disk_category", str, {"local", "cloud"}),
        "autoDelete": Field("auto_delete", bool),
    },
    {"cloudDisk", "localDisk", "status"},
)
CLOUD = Object(
    {
        "diskType": Field("disk_type", str, _DISK_TYPES),
        "diskSizeGB": Field("disk_size_gb", int),
        "iops": Field("iops", int),
        "throughput": Field("throughput", int),
        "snapshotId": Field("snapshot_id", str),
        "encrypted": Field("encrypted", bool),
    },
    {
        *("diskId", "az", "name", "description", "status", "attachments", "multiAttachable"),
        *("enabled", "createTime", "charge", "tags", "snapshotPolicies", "resourceGroupId"),
        *("canPutInRecycleBin", "trashTime"),
    },
)
LOCAL = Object(
    {"diskType": Field("disk_type", str), "diskSizeGB": Field("disk_size_gb", int)}, set()
)

_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?", re.ASCII
)

_FIRST_YEAR, _LAST_YEAR = 1000, 9999
"""Exclusive: MariaDB's DATETIME begins and ends there. Some encoders' zero time is year 1."""


def read_time(value: object, time_zone: ZoneInfo, path: str) -> datetime | None:
    """Return UTC; None for an expiry that is empty, which means never."""
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - one class for all that is unreadable
    text = value.strip()
    if not text and path == "image.expiredTime":
        return None
    if not _TIME.fullmatch(text):
        raise ValueError
    time = datetime.fromisoformat(text)
    if not _FIRST_YEAR < time.year < _LAST_YEAR:
        raise ValueError
    return (time if time.tzinfo else time.replace(tzinfo=time_zone)).astimezone(UTC)
