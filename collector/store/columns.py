"""Builders of columns, and the columns that hold what the API says of an image and of a disk."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, text

from collector.store.types import BIG_ID, LONG_TEXT, WORD, UtcDateTime

__all__ = ["DISK_COLUMNS", "FLAG", "IMAGE_COLUMNS", "api", "count", "fk", "key", "time"]

FLAG = Boolean(create_constraint=False)
"""True, false, or NULL: not said."""


def key() -> Column[int]:
    """A surrogate key."""
    return Column("id", BIG_ID, primary_key=True, autoincrement=True, doc="Surrogate key.")


def fk(name: str, target: str, doc: str, **options: Any) -> Column[int]:
    """A foreign key."""
    return Column(name, BigInteger, ForeignKey(target), doc=doc, **options)


def count(name: str, doc: str) -> Column[int]:
    """A counter that starts at 0."""
    return Column(name, BigInteger, nullable=False, server_default=text("0"), doc=doc)


def time(name: str, doc: str, *, nullable: bool = True) -> Column[Any]:
    """A point in time."""
    return Column(name, UtcDateTime, nullable=nullable, doc=doc)


def api(name: str, kind: Any, field: str, doc: str) -> Column[Any]:
    """A column that holds the field `field` of the API."""
    return Column(name, kind, doc=doc, info={"api": field})


IMAGE_COLUMNS: tuple[Column[Any], ...] = (
    api("name", LONG_TEXT, "image.name", "Image name."),
    api("platform", LONG_TEXT, "image.platform", "Operating system platform."),
    api("os_version", LONG_TEXT, "image.osVersion", "Operating system version."),
    api("architecture", LONG_TEXT, "image.architecture", "x86_64, i386, arm64."),
    api(
        "system_disk_size_gb",
        BigInteger,
        "image.systemDiskSizeGB",
        "Declared system disk size (GiB).",
    ),
    api(
        "image_source",
        LONG_TEXT,
        "image.imageSource",
        "public, thirdparty, private, shared, community.",
    ),
    api("os_type", LONG_TEXT, "image.osType", "windows or linux."),
    api("status", LONG_TEXT, "image.status", "pending, ready, deleting, error."),
    api(
        "create_time",
        UtcDateTime,
        "image.createTime",
        "Creation time, read in the configured zone.",
    ),
    api("size_mb", BigInteger, "image.sizeMB", "Size of the image file (MiB)."),
    api("description", LONG_TEXT, "image.desc", "Description."),
    api("owner_pin", LONG_TEXT, "image.ownerPin", "PIN of the owner."),
    api(
        "launch_permission", LONG_TEXT, "image.launchPermission", "all, specifiedUsers, ownerOnly."
    ),
    api("snapshot_id", LONG_TEXT, "image.snapshotId", "Snapshot of the system disk."),
    api("root_device_type", LONG_TEXT, "image.rootDeviceType", "localDisk or cloudDisk."),
    api(
        "progress",
        LONG_TEXT,
        "image.progress",
        "Progress of copying or converting (per cent, text).",
    ),
    api(
        "offline",
        FLAG,
        "image.offline",
        "Taken off line (official and market images).",
    ),
    api("uefi_support", FLAG, "image.uefiSupport", "Boots by UEFI."),
    api("imported", FLAG, "image.imported", "Imported by the user."),
    api("boot_mode", LONG_TEXT, "image.bootMode", "bios or uefi."),
    api(
        "expired_time",
        UtcDateTime,
        "image.expiredTime",
        "When it expires; NULL is never or not said.",
    ),
    api("login_name", LONG_TEXT, "image.loginName", "Login name."),
    api(
        "extra",
        LONG_TEXT,
        "image.*",
        "Canonical JSON of the fields that have no column; NULL when there are none.",
    ),
)
"""What `image_versions` holds of an image beside its payload."""

DISK_COLUMNS: tuple[Column[Any], ...] = (
    Column("role", WORD, nullable=False, doc="`system` or `data`."),
    Column(
        "position",
        Integer,
        nullable=False,
        doc="0 for the system disk, 1… for data disks in the API's order.",
    ),
    api("device_name", LONG_TEXT, "deviceName", "Logical device, such as vdb."),
    api("disk_category", LONG_TEXT, "diskCategory", "local or cloud."),
    api("auto_delete", FLAG, "autoDelete", "Deleted with its instance."),
    api(
        "disk_type",
        LONG_TEXT,
        "cloudDisk.diskType, localDisk.diskType",
        "ssd.gp1, ssd.io1, hdd.std1 …",
    ),
    api("disk_size_gb", BigInteger, "cloudDisk.diskSizeGB, localDisk.diskSizeGB", "Size (GiB)."),
    api("iops", BigInteger, "cloudDisk.iops", "IOPS in effect."),
    api("throughput", BigInteger, "cloudDisk.throughput", "Throughput (MiB/s)."),
    api("snapshot_id", LONG_TEXT, "cloudDisk.snapshotId", "Snapshot the disk is made from."),
    api(
        "encrypted",
        FLAG,
        "cloudDisk.encrypted",
        "Whether the disk is encrypted.",
    ),
    api(
        "extra",
        LONG_TEXT,
        "*",
        "Canonical JSON of the fields that have no column; NULL when there are none.",
    ),
)
"""What `disk_attachments` holds of a disk."""
