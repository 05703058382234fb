"""What is documented of an image: its fields, their columns and values, and how times are written.

Documented is what the describeImage page or the official SDK's models name.
"""

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args
from zoneinfo import ZoneInfo

from collector.models import Source

__all__ = ["CLOUD", "DISK", "IMAGE", "INT64", "LOCAL", "Field", "Object", "read_time"]

INT64 = range(-(2**63), 2**63)
"""What a column of whole numbers holds."""

_PLATFORMS = ("Ubuntu", "CentOS", "Windows Server", "Other Linux", "Other Windows")
_DISK_TYPES = ("ssd.gp1", "ssd.io1", "hdd.std1", "ssd", "premium-hdd")


class Field(NamedTuple):
    """A field with a column: what the column is called, holds and means.

    Attributes:
        kind: the type of its values; `datetime` is a text in JSON.
        doc: what it means; empty where the documented values say it.
        allowed: the documented values, if it has such.
        documented: whether the field is; another one has its column all the same.
    """

    column: str
    kind: type[Any]
    doc: str
    allowed: tuple[str, ...] | None = None
    documented: bool = True

    @property
    def meaning(self) -> str:
        """What stands in the data dictionary."""
        return self.doc or f"{', '.join(self.allowed or ())}."


class Object(NamedTuple):
    """An object of the API: its fields with a column, and the documented ones without."""

    fields: dict[str, Field]
    others: set[str]


IMAGE = Object(
    {
        "name": Field("name", str, "Image name."),
        "platform": Field("platform", str, "Operating system platform.", _PLATFORMS),
        "osVersion": Field("os_version", str, "Operating system version."),
        "architecture": Field("architecture", str, "", ("x86_64", "i386", "arm64")),
        "systemDiskSizeGB": Field("system_disk_size_gb", int, "Declared system disk size (GiB)."),
        "imageSource": Field("image_source", str, "", get_args(Source)),
        "osType": Field("os_type", str, "", ("windows", "linux")),
        "status": Field("status", str, "", ("pending", "ready", "deleting", "error")),
        "createTime": Field("create_time", datetime, "Creation time, read in the configured zone."),
        "sizeMB": Field("size_mb", int, "Size of the image file (MiB)."),
        "desc": Field("description", str, "Description."),
        "ownerPin": Field("owner_pin", str, "PIN of the owner."),
        "launchPermission": Field(
            "launch_permission", str, "", ("all", "specifiedUsers", "ownerOnly")
        ),
        "snapshotId": Field("snapshot_id", str, "Snapshot of the system disk."),
        "rootDeviceType": Field("root_device_type", str, "", ("localDisk", "cloudDisk")),
        "progress": Field("progress", str, "Progress of copying or converting (per cent, text)."),
        "offline": Field("offline", bool, "Taken off line (official and market images)."),
        "uefiSupport": Field("uefi_support", bool, "Boots by UEFI.", documented=False),
        "imported": Field("imported", bool, "Imported by the user."),
        "bootMode": Field("boot_mode", str, "", ("bios", "uefi")),
        "expiredTime": Field(
            "expired_time", datetime, "When it expires; NULL is never or not said."
        ),
        "loginName": Field("login_name", str, "Login name."),
    },
    {"imageId", "systemDisk", "dataDisks", "serviceCode", "instanceId", "chargeInfo"},
)

DISK = Object(
    {
        "deviceName": Field("device_name", str, "Logical device, such as vdb."),
        "diskCategory": Field("disk_category", str, "", ("local", "cloud")),
        "autoDelete": Field("auto_delete", bool, "Deleted with its instance."),
    },
    {"cloudDisk", "localDisk", "status"},
)
CLOUD = Object(
    {
        "diskType": Field("disk_type", str, "", _DISK_TYPES),
        "diskSizeGB": Field("disk_size_gb", int, "Size (GiB)."),
        "iops": Field("iops", int, "IOPS in effect."),
        "throughput": Field("throughput", int, "Throughput (MiB/s)."),
        "snapshotId": Field("snapshot_id", str, "Snapshot the disk is made from."),
        "encrypted": Field("encrypted", bool, "Whether the disk is encrypted."),
    },
    {
        *("diskId", "az", "name", "description", "status", "attachments", "multiAttachable"),
        *("enabled", "createTime", "charge", "tags", "snapshotPolicies", "resourceGroupId"),
        *("canPutInRecycleBin", "trashTime"),
    },
)
LOCAL = Object(
    {
        "diskType": Field("disk_type", str, "As of a cloud disk; any text."),
        "diskSizeGB": Field("disk_size_gb", int, "Size (GiB)."),
    },
    set(),
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
