"""The simulator's made-up inventory."""

import asyncio
import re
from collections import Counter

import pytest

from collector.ids import PUBLISHED_REGIONS
from collector.simulator.images import SOURCES
from tests.support.simulator import Inventory


def everything(inventory: Inventory) -> dict[tuple[str, str], object]:
    return {
        (region, image_id): inventory.image(region, image_id)
        for region in inventory.regions
        for image_id in inventory.ids(region)
    }


def test_a_seed_makes_one_inventory_and_another_seed_another() -> None:
    """The same seed gives the same images whatever was asked before; ids are of the real form."""
    first = everything(Inventory(images=200, seed=7))

    assert first == everything(Inventory(images=200, seed=7))
    assert len(first) == 200
    assert not first.keys() & everything(Inventory(images=200, seed=8)).keys()
    assert all(re.fullmatch("img-[0-9a-z]{10}", image_id) for _, image_id in first)
    assert all(image["imageId"] == key[1] for key, image in first.items())


def test_an_id_is_known_in_its_own_region_only() -> None:
    """Another region, an unknown id, capitals and nonsense are no image."""
    inventory = Inventory(images=40)
    image_id = next(inventory.ids("cn-east-1"))

    assert inventory.image("cn-east-1", image_id)
    for region, asked in [
        ("cn-north-1", image_id),
        ("cn-east-1", "img-0000000000"),
        ("cn-east-1", image_id.upper()),
        ("cn-east-1", ""),
        ("mars", image_id),
    ]:
        assert inventory.image(region, asked) is None


def test_a_million_images_are_not_materialised() -> None:
    """The last of a million is read without the others being made."""
    inventory = Inventory(images=1_000_000)
    image_id, region = inventory._id(999_999), PUBLISHED_REGIONS[999_999 % len(PUBLISHED_REGIONS)]

    assert inventory.image(region, image_id)
    assert inventory.body.cache_info().currsize == 0


def test_the_variety_that_audits_need() -> None:
    """All sources, states, disk forms, oddities and repeated names occur among a few thousand."""
    images = list(everything(Inventory(images=4000)).values())
    disks = Counter(len(image.get("dataDisks", ())) for image in images)

    assert {image["imageSource"] for image in images} == set(SOURCES)
    assert {image["status"] for image in images} == {"ready", "pending", "error", "deleting"}
    assert {image["architecture"] for image in images} == {"x86_64", "arm64", "i386"}
    assert set(disks) == set(range(16))
    assert any(image["systemDisk"] is None for image in images)
    assert {bool(image.get("expiredTime")) for image in images} == {True, False}
    assert any("progress" not in image for image in images)
    assert any(image.get("desc") == "" for image in images)
    assert any("desc" not in image for image in images)
    kinds = Counter((image["rootDeviceType"], "snapshotId" in image) for image in images)
    assert set(kinds) == {("localDisk", False), ("cloudDisk", True)}
    names = Counter(image["name"] for image in images if image["imageSource"] == "private")
    assert max(names.values()) > 1
    open_disks = [
        image
        for image in images
        if image["imageSource"] == "private"
        and ((image["systemDisk"] or {}).get("cloudDisk") or {}).get("encrypted") is False
    ]
    assert open_disks


def test_changes_deletion_restoring_and_adding() -> None:
    """Each mutation shows at once in the image, the ids and the body; unknown ids are KeyErrors."""
    inventory = Inventory(images=8)
    region = "cn-east-2"
    first, second = inventory.ids(region)
    before = inventory.image(region, first)
    assert inventory.body(region, first)

    inventory.change(region, first, name="other")
    assert inventory.image(region, first) == before | {"name": "other"}
    assert b'"name":"other"' in inventory.body(region, first)

    inventory.delete(region, first)
    assert inventory.image(region, first) is inventory.body(region, first) is None
    assert list(inventory.ids(region)) == [second]
    for call in (inventory.delete, inventory.change):
        with pytest.raises(KeyError):
            call(region, first)

    inventory.restore(region, first)
    assert inventory.image(region, first)["name"] == "other"
    with pytest.raises(KeyError):
        inventory.restore(region, "img-0000000000")

    added = inventory.add(region, name="new")
    named = inventory.add("cn-north-9", "bba85cab-dfdc-4359-9218-7a2de429dd80", systemDisk=None)
    assert inventory.image(region, added)["name"] == "new"
    assert set(inventory.ids(region)) == {first, second, added}
    assert list(inventory.ids("cn-north-9")) == [named]


def test_sharing() -> None:
    """An image shared with somebody says so and names them; unshared, nobody."""
    inventory = Inventory(images=8)
    image_id = next(inventory.ids("cn-east-1"))

    inventory.share("cn-east-1", image_id, "a", "b")
    assert inventory.members("cn-east-1", image_id) == ("a", "b")
    inventory.share("cn-east-1", image_id)
    assert inventory.members("cn-east-1", image_id) == ()
    assert inventory.image("cn-east-1", image_id)["launchPermission"] == "ownerOnly"

    inventory.change("cn-east-1", image_id, launchPermission="specifiedUsers")
    inventory._pins.clear()
    assert inventory.members("cn-east-1", image_id)


def test_an_epoch_deletes_and_changes_its_shares_repeatably() -> None:
    """Every epoch takes about its share; the same epoch of the same seed is the same inventory."""
    inventory = Inventory(images=2000, delete=0.1, change=0.2)
    before = everything(inventory)
    inventory.advance()
    after = everything(inventory)

    assert 120 < len(before) - len(after) < 280
    assert after.keys() < before.keys()
    assert 270 < sum(before[key] != image for key, image in after.items()) < 450
    assert after == everything(Inventory(images=2000, delete=0.1, change=0.2, epoch=1))

    gone = next(iter(before.keys() - after.keys()))
    inventory.restore(*gone)
    assert inventory.image(*gone)["imageId"] == gone[1]


async def test_a_listing_is_what_the_images_say() -> None:
    """Each filter gives exactly the images whose field has the value; a change is seen at once."""
    inventory = Inventory(images=400)
    region = "cn-south-1"
    images = {image_id: inventory.image(region, image_id) for image_id in inventory.ids(region)}
    private = {key: image for key, image in images.items() if image["imageSource"] == "private"}

    async def select(**filters: str) -> set[str]:
        return set(await inventory.select(region, {"imageSource": "private"} | filters))

    assert await select() == set(private)
    for name, value in [
        ("platform", "CentOS"),
        ("status", "ready"),
        ("architecture", "x86_64"),
        ("rootDeviceType", "localDisk"),
        ("launchPermission", "ownerOnly"),
    ]:
        wanted = {key for key, image in private.items() if image[name] == value}
        assert await select(**{name: value}) == wanted != set()
    golden = {key for key, image in private.items() if "golden" in image["name"]}
    assert await select(imageName="golden") == golden != set()
    uefi = {key for key, image in private.items() if image.get("bootMode") == "uefi"}
    assert await select(bootMode="uefi") == uefi != set()
    assert await select(bootMode="bios") == private.keys() - uefi

    gone, changed, *_ = private
    inventory.delete(region, gone)
    inventory.change(region, changed, imageSource="shared")
    assert await select() == private.keys() - {gone, changed}
    assert changed in await select(imageSource="shared")


async def test_a_listing_that_a_change_overtakes_is_not_kept() -> None:
    """A long listing lets others run; what they change is in the next one."""
    inventory = Inventory(images=8000)
    listing = asyncio.create_task(inventory.select("cn-east-1", {"imageSource": "private"}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not listing.done()
    added = inventory.add("cn-east-1", imageSource="private")
    await listing

    assert added in await inventory.select("cn-east-1", {"imageSource": "private"})
