"""An inventory holds what was read now and, within a boot, what was known before."""

import msgspec

from mica.discovery.health import Failure
from mica.discovery.inventory import Identity, Survey, take_stock
from mica.events import Device, Health, Inventory, Link, LinkKind, Vendor

IDENTITY = Identity(node="n1", pool="default", boot_id="boot-1")


def device(name: str, index: int = 0, vendor: Vendor = Vendor.NVIDIA) -> Device:
    """A small healthy device."""
    return Device(id=name, index=index, vendor=vendor, model="L4", vram_bytes=24 << 30)


def stock(survey: Survey, known: Inventory | None = None) -> dict[str, Health]:
    """Each device's health after ``survey``."""
    return {found.id: found.health for found in take_stock(IDENTITY, known, survey).devices}


def test_the_first_survey() -> None:
    """What is read is listed by vendor and index, healthy."""
    survey = Survey(devices=(device("b", 1), device("a", 0), device("m", 0, Vendor.AMD)))
    assert stock(survey) == {"m": Health.HEALTHY, "a": Health.HEALTHY, "b": Health.HEALTHY}
    assert [found.id for found in take_stock(IDENTITY, None, survey).devices] == ["m", "a", "b"]


def test_a_vanished_device() -> None:
    """A device that is no longer listed stays, failed, and comes back healthy."""
    known = take_stock(IDENTITY, None, Survey(devices=(device("a"), device("b", 1))))
    after = take_stock(IDENTITY, known, Survey(devices=(device("a"),)))
    assert {found.id: found.health for found in after.devices} == {"a": Health.HEALTHY, "b": Health.FAILED}
    assert after.devices[1].message == "no library lists the device any more"
    assert [trouble.kind for trouble in after.devices[1].troubles] == ["bus"]
    silent = take_stock(IDENTITY, known, Survey(silent={"opencl": "clGetPlatformIDs: -6"}))
    assert silent.devices[1].message == "no library lists the device any more; opencl: clGetPlatformIDs: -6"
    nameless = take_stock(IDENTITY, known, Survey(nameless={"nvidia": ("nvidia device 1: no answer within 2 s",)}))
    assert nameless.devices[1].message == "no library lists the device any more; nvidia device 1: no answer within 2 s"
    assert [trouble.kind for trouble in nameless.devices[1].troubles] == ["silent"]
    assert stock(Survey(devices=(device("a"), device("b", 1))), after)["b"] is Health.HEALTHY


def test_a_device_that_does_not_answer() -> None:
    """A device that is listed and errs is failed, with the library's words."""
    survey = Survey(devices=(device("a"),), failures={"a": Failure("device a: GPU is lost")})
    (found,) = take_stock(IDENTITY, None, survey).devices
    assert found.health is Health.FAILED
    assert found.message == "device a: GPU is lost"


def test_a_silent_library() -> None:
    """When a vendor's library fails as a whole, its devices fail and say why; other vendors' do not."""
    known = take_stock(IDENTITY, None, Survey(devices=(device("a"), device("m", 0, Vendor.AMD))))
    survey = Survey(devices=(device("m", 0, Vendor.AMD),), silent={Vendor.NVIDIA: "nvmlInit: Unknown Error"})
    after = take_stock(IDENTITY, known, survey)
    assert {found.id: found.health for found in after.devices} == {"m": Health.HEALTHY, "a": Health.FAILED}
    assert after.devices[1].message == "nvmlInit: Unknown Error"


def test_a_reboot() -> None:
    """A device that was taken out while the machine was off is forgotten."""
    known = take_stock(IDENTITY, None, Survey(devices=(device("a"), device("b", 1))))
    rebooted = msgspec.structs.replace(IDENTITY, boot_id="boot-2")
    after = take_stock(rebooted, known, Survey(devices=(device("a"),)))
    assert [found.id for found in after.devices] == ["a"]
    assert after.boot_id == "boot-2"


def test_links_that_could_not_be_read() -> None:
    """While some library does not tell its links, those that were known in this boot stay."""
    link, other = Link(a="a", b="b", kind=LinkKind.NVLINK), Link(a="m", b="n", kind=LinkKind.XGMI)
    known = take_stock(IDENTITY, None, Survey(links=(other, link)))
    assert known.links == (link, other)
    assert take_stock(IDENTITY, known, Survey(links=(other,), links_lack=True)).links == (link, other)
    assert take_stock(IDENTITY, known, Survey(links=(other,))).links == (other,)
    rebooted = msgspec.structs.replace(IDENTITY, boot_id="boot-2")
    assert take_stock(rebooted, known, Survey(links=(other,), links_lack=True)).links == (other,)
