"""A made-up inventory: every image derives from a seed and its number; fields as the API's."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from collector.ids import PUBLISHED_REGIONS

__all__ = ["SOURCES", "Image", "Inventory", "matches"]

SOURCES = ("private", "public", "shared", "thirdparty", "community")

Image = dict[str, Any]

MAX_IMAGES: Final = 36**5
"""What the number in an id has room for."""

_ID = re.compile(r"img-[0-9a-z]{10}")
_FOR_SALE = ("public", "thirdparty")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_CACHED_BODIES = 20_000
_CACHED_LISTINGS = 16
_BREATH = 1000
"""Images looked at before a listing lets the event loop go on."""

_SYSTEMS = (
    ("CentOS", "7.9", "linux"),
    ("CentOS", "8.2", "linux"),
    ("Ubuntu", "18.04", "linux"),
    ("Ubuntu", "22.04", "linux"),
    ("Windows Server", "2019 数据中心版", "windows"),
    ("Windows Server", "2008 R2", "windows"),
    ("Other Linux", "Debian 12", "linux"),
    ("Other Windows", "10", "windows"),
)
_NAMES = ("web", "api", "订单服务", "数据库-主", "gpu-train", "bastion", "日志🚀", "Ünïcode test")
_DESCRIPTIONS = ("", "", "", "nightly build", "生产环境基础镜像", "до обновления", "测试用\n第二行")
_DISK_TYPES = ("ssd.gp1", "ssd.gp1", "ssd.io1", "hdd.std1")
_SOURCE_BOUNDS = tuple(zip(SOURCES, (140, 185, 215, 240, 256), strict=True))
_FIRST_CREATED = datetime(2018, 3, 1)  # noqa: DTZ001 - the API's times carry no zone
_CREATED_WITHIN_S = 270_000_000


class Inventory:
    """Images of several regions, as they are now; a million cost nothing until they are asked for.

    Args:
        images: how many images the seed makes, dealt out to the regions in turn.
        delete: share (0 to 1) of the images that every epoch deletes.
        change: share of the images that every epoch changes.

    Attributes:
        body: the image as JSON, None when there is none; the latest are remembered.
        epoch: how many times a share of the images was deleted and changed.
    """

    def __init__(
        self,
        *,
        images: int = 500,
        seed: int = 0,
        regions: tuple[str, ...] = PUBLISHED_REGIONS,
        delete: float = 0.0,
        change: float = 0.0,
        epoch: int = 0,
    ) -> None:
        self.regions, self.epoch = regions, epoch
        self._images, self._delete, self._change = images, delete, change
        self._key = blake2b(str(seed).encode()).digest()
        self.body = lru_cache(_CACHED_BODIES)(self._body)
        self._listings: dict[tuple[str, frozenset[tuple[str, str]]], list[str]] = {}

    def image(self, region: str, image_id: str) -> Image | None:
        """The `image` object as the API would show it now; None when there is none."""
        number = self._number(region, image_id)
        if number is None or self._epoch_of("delete", self._delete, number):
            return None
        return self._build(number)

    def ids(self, region: str) -> Iterator[str]:
        """The ids of a region's images, always in the same order."""
        if region in self.regions:
            for number in range(self.regions.index(region), self._images, len(self.regions)):
                if not self._epoch_of("delete", self._delete, number):
                    yield self._id(number)

    def members(self, region: str, image_id: str) -> tuple[str, ...]:
        """The pins of the accounts that a private image is shared with."""
        image = self.image(region, image_id)
        if image is None or image.get("launchPermission") != "specifiedUsers":
            return ()
        count = self._digest(image_id)[0] % 4 + 1
        return tuple(f"partner-{self._digest(image_id)[k] % 50:02d}" for k in range(1, count + 1))

    def _body(self, region: str, image_id: str) -> bytes | None:
        image = self.image(region, image_id)
        return None if image is None else msgspec.json.encode(image)

    async def select(self, region: str, filters: Mapping[str, str]) -> list[str]:
        """The ids of a region's images that describeImages lists for these parameters."""
        key = region, frozenset(filters.items())
        found = self._listings.get(key)
        if found is None:
            listings, found = self._listings, []
            for count, image_id in enumerate(self.ids(region)):
                if self._matches(region, image_id, filters):
                    found.append(image_id)
                if count % _BREATH == 0:
                    await asyncio.sleep(0)
            if len(listings) >= _CACHED_LISTINGS:
                listings.clear()
            # A change in the meantime put another dict in place: this listing is then not kept.
            listings[key] = found
        return found

    def advance(self) -> int:
        """Begins the next epoch: its shares of the images are deleted and changed."""
        self.epoch += 1
        self.forget()
        return self.epoch

    def forget(self) -> None:
        """The images are others now than those that are remembered."""
        self.body.cache_clear()
        self._listings = {}

    def _digest(self, what: object) -> bytes:
        return blake2b(str(what).encode(), key=self._key).digest()

    def _id(self, number: int) -> str:
        # An id ends with its number, so that no table of ids is needed.
        start = int.from_bytes(self._digest(("id", number))[:8])
        return f"img-{_base36(start, 5)}{_base36(number, 5)}"

    def _number(self, region: str, image_id: str) -> int | None:
        if _ID.fullmatch(image_id) is None or region not in self.regions:
            return None
        number = int(image_id[-5:], 36)
        mine = number < self._images and self.regions[number % len(self.regions)] == region
        return number if mine and image_id == self._id(number) else None

    def _epoch_of(self, event: str, share: float, number: int) -> int:
        """The latest epoch in which the event befell the image; 0: none."""
        for epoch in range(self.epoch if share else 0, 0, -1):
            if int.from_bytes(self._digest((event, epoch, number))[:8]) < share * 2**64:
                return epoch
        return 0

    def _build(self, number: int) -> Image:
        changed = self._epoch_of("change", self._change, number)
        serial = number // len(self.regions)
        return _compose(self._digest(number), self._id(number), serial, changed)

    def _matches(self, region: str, image_id: str, filters: Mapping[str, str]) -> bool:
        number, wanted = self._number(region, image_id), filters["imageSource"]
        if number is not None and _source(self._digest(number)) != wanted:
            return False  # most images need not be built to know that they are not listed
        image = self.image(region, image_id)
        return image is not None and matches(image, filters)


def matches(image: Image, filters: Mapping[str, str]) -> bool:
    """Whether describeImages lists the image; the page joins its conditions by AND."""
    shown = {"bootMode": "bios"} | image
    shown["offline"] = "true" if image.get("offline") else "false"
    if image.get("imageSource") != "private":
        filters = {name: value for name, value in filters.items() if name != "launchPermission"}
    wanted = dict(filters)
    part_of_name = wanted.pop("imageName", "")
    return part_of_name in (image.get("name") or "") and wanted.items() <= shown.items()


def _source(d: bytes) -> str:
    return next(source for source, bound in _SOURCE_BOUNDS if d[0] < bound)


def _base36(number: int, digits: int = 10) -> str:
    return "".join(_DIGITS[number // 36**place % 36] for place in reversed(range(digits)))


def _compose(  # noqa: C901, PLR0912, PLR0915 - one field after another
    d: bytes, image_id: str, serial: int, changed: int
) -> Image:
    """One image out of 64 random bytes; `changed` is the epoch of its latest change, or 0."""

    def chance(place: int, share: float) -> bool:
        return d[place] < 256 * share

    source, snapshot = _source(d), int.from_bytes(d[20:26])
    private, for_sale = source == "private", source in _FOR_SALE
    platform, version, os_type = _SYSTEMS[d[1] % len(_SYSTEMS)]
    created = _FIRST_CREATED + timedelta(seconds=int.from_bytes(d[8:12]) % _CREATED_WITHIN_S)
    local, encrypted = chance(4, 0.2), private and chance(12, 0.3)
    size = 40 + 20 * (d[11] % 8)

    def cloud_disk(gigabytes: int, place: int) -> Image:
        kind = _DISK_TYPES[d[place] % len(_DISK_TYPES)]
        disk = {
            "diskSizeGB": gigabytes,
            "diskType": kind,
            "encrypt": encrypted,
            "encrypted": encrypted,
            "snapshotId": f"snapshot-{_base36(snapshot + place)}",
        }
        return disk | {"iops": 50 * gigabytes, "throughput": 100} if kind == "ssd.io1" else disk

    image: Image = {
        "architecture": "arm64" if chance(2, 0.08) else "x86_64" if d[2] % 32 else "i386",
        "createTime": created.isoformat(" "),
        "imageId": image_id,
        "imageSource": source,
        "launchPermission": "all",
        "name": f"{platform} {version} 64位",
        "osType": os_type,
        "osVersion": version,
        "ownerPin": "admin" if for_sale else f"user-{d[7] % 40:02d}",
        "platform": platform,
        "progress": "100",
        "rootDeviceType": "localDisk" if local else "cloudDisk",
        "sizeMB": 0 if chance(13, 0.03) else 1200 + d[13] * 37,
        "status": "ready",
        "systemDiskSizeGB": size,
        "uefiSupport": chance(14, 0.35),
    }
    if not chance(6, 0.05):
        image["desc"] = _DESCRIPTIONS[d[6] % len(_DESCRIPTIONS)]
    if private or source == "shared":
        golden = chance(5, 0.25)  # the same serial number in another region may have this name too
        name = "golden-base" if golden else _NAMES[d[5] % len(_NAMES)]
        image["name"] = f"{name}-{serial:04d}"
        image["launchPermission"] = (
            "specifiedUsers" if not private or chance(7, 0.25) else "ownerOnly"
        )
        image["imported"] = chance(16, 0.1)
        if chance(15, 0.5):
            image["bootMode"] = "uefi" if image["uefiSupport"] else "bios"
        if chance(17, 0.15):
            image["status"] = ("pending", "error", "deleting")[d[18] % 3]
            image["progress"] = str(d[19] % 100)
    else:
        image["offline"] = chance(17, 0.2)
    if private:
        image |= {"ownerPin": "simulated-owner", "loginName": "simulated", "expiredTime": ""}
        if chance(18, 0.3):
            image["instanceId"] = f"i-{_base36(snapshot + 100)}"
        if chance(19, 0.1):
            image["expiredTime"] = (created + timedelta(days=3650)).isoformat(" ")
    elif source == "thirdparty":
        image["serviceCode"] = image_id[4:]
        image["chargeInfo"] = {"serviceCode": image_id[4:], "formula": [{"key": "cpu", "value": 2}]}
    disk: Image = {"autoDelete": True, "deviceName": "vda"}
    if local:
        disk |= {"diskCategory": "local", "localDisk": {"diskSizeGB": size}}
    else:
        disk |= {"diskCategory": "cloud", "cloudDisk": cloud_disk(size, 27)}
        image["snapshotId"] = disk["cloudDisk"]["snapshotId"]
    image["systemDisk"] = None if chance(28, 0.03) else disk
    if private and chance(29, 0.6):
        image["dataDisks"] = [
            {
                "autoDelete": d[31 + place] % 2 == 0,
                "cloudDisk": cloud_disk(20 + 10 * (d[31 + place] % 50), 31 + place),
                "deviceName": f"vd{_DIGITS[11 + place]}",
                "diskCategory": "cloud",
            }
            for place in range(min(15, d[30] % 16 * d[29] // 100))
        ]
    if chance(3, 0.1) and image["status"] == "ready":
        del image["progress"]
    if changed:
        image["desc"] = f"changed in epoch {changed}"
        if changed % 2:
            image["status"] = "error"
        elif private:
            image["launchPermission"] = "specifiedUsers"
    return image
