"""The drivers' own books against what mica says: memory, processes and partitions."""

from collections import Counter
from typing import Final

from mica.audit._finding import Tally
from mica.audit._world import Documents, Driver, DriverProcess, Regions, World
from mica.events import Control, Device, Mode, ObservedSlice, ObservedState, Partition, Runtime, Vendor

NO_BOOKS: Final = (Runtime.OPENCL,)
"""OpenCL doesn't know whose memory is whose: of a device that has nothing else there is nothing to compare with."""


INTERCHANGEABLE: Final = (Vendor.QUALCOMM,)
"""Vendors whose hardware does not say which of its units a partition has."""


def check_drivers(world: World, tally: Tally) -> None:
    """All of them, where this machine is a node."""
    driver, regions = world.driver, world.regions
    if driver is None or regions is None:
        return
    _check_inventory(world.documents, driver, tally)
    _check_partitions(world.documents, driver, tally)
    _check_processes(world.documents, driver, regions, tally)
    _check_slots(world.documents, driver, regions, tally)


def _check_inventory(documents: Documents, driver: Driver, tally: Tally) -> None:
    """Nothing is sold that the driver doesn't have."""
    inventory = documents.inventories.get(driver.node)
    if not tally.expect(inventory is not None, "inventory-driver", f"node {driver.node}", "has no inventory"):
        return
    assert inventory is not None
    for device in inventory.devices:
        if not _keeps_books(device):
            continue
        usable = driver.usable_bytes.get(device.id)
        subject = f"device {device.id} of node {driver.node}"
        if tally.expect(usable is not None, "inventory-driver", subject, f"{driver.source} has no such device"):
            sold = device.vram_bytes - device.reserve_bytes
            tally.same("inventory-driver", subject, ("the inventory", sold), (driver.source, usable))


def _check_partitions(documents: Documents, driver: Driver, tally: Tally) -> None:
    inventory = documents.inventories.get(driver.node)
    devices = {device.id: device for device in inventory.devices} if inventory is not None else {}
    owned: dict[str, list[tuple[str, Partition]]] = {}
    for (device_id, slice_id), item in documents.seen(driver.node).items():
        if item.partition is not None and item.partition.uuid != device_id:
            owned.setdefault(device_id, []).append((slice_id, item.partition))
    for device_id in {**owned, **driver.partitions}:
        shape_of = _sizes if device_id in devices and devices[device_id].vendor in INTERCHANGEABLE else shape
        living = {shape_of(each): each for each in driver.partitions.get(device_id, ())}
        counts = Counter(shape_of(each) for each in driver.partitions.get(device_id, ()))
        owners = Counter(shape_of(each) for _, each in owned.get(device_id, ()))
        for slice_id, partition in owned.get(device_id, ()):
            subject = f"slice {slice_id} on {device_id}, partition {partition.uuid or partition.profile}"
            real = living.get(shape_of(partition))
            if tally.expect(real is not None, "I3", subject, f"{driver.source} has no such instance") and _names_alike(device_id):
                assert real is not None
                tally.same("I3", subject, ("the enforcer", partition.uuid), (driver.source, real.uuid))
        for found, partition in living.items():
            subject = f"instance {partition.uuid} ({partition.profile} at {partition.start}) on {device_id}"
            as_expected = owners[found] == counts[found] or (bool(partition.layout) and owners[found] < counts[found])
            tally.expect(as_expected, "I3", subject, f"belongs to {owners[found]} slices, expected {counts[found]}")


def _slices_of_partitions(documents: Documents, driver: Driver) -> dict[str, tuple[str, str]]:
    """By the name of a partition, the enforcer's and the driver's own, the device and the slice that has it."""
    inventory = documents.inventories.get(driver.node)
    loose = {device.id for device in inventory.devices if device.vendor in INTERCHANGEABLE} if inventory is not None else set()
    found: dict[str, tuple[str, str]] = {}
    for key, item in documents.seen(driver.node).items():
        if item.partition is None:
            continue
        found[item.partition.uuid] = key
        shape_of = _sizes if key[0] in loose else shape
        for real in driver.partitions.get(key[0], ()):
            if shape_of(real) == shape_of(item.partition):
                found[real.uuid] = key
    return found


def _names_alike(device_id: str) -> bool:
    """Whether a partition has one name for all: NVIDIA's have, elsewhere a driver has others than its library gives."""
    return device_id.startswith("GPU-")


def _sizes(partition: Partition) -> tuple[int, int, int]:
    """What tells partitions apart where the slots are mica's numbering and the driver does not know it."""
    return partition.profile_id, -1, partition.size


def shape(partition: Partition) -> tuple[int, int, int]:
    """Profile, start and size: what a partition is, whatever it is called."""
    return partition.profile_id, partition.start, partition.size


def _check_processes(documents: Documents, driver: Driver, regions: Regions, tally: Tally) -> None:
    """Every process on a device is inside a slice, and holds what its slot says."""
    seen = documents.seen(driver.node)
    partitions = _slices_of_partitions(documents, driver)
    for process in driver.processes:
        subject = f"process {process.pid} on {process.uuid}"
        if process.uuid in partitions:
            device_id, slice_id = partitions[process.uuid]
            _check_partition_process(process, (slice_id, seen[device_id, slice_id]), tally)
            continue
        slots = [
            (slice_id, slot)
            for (slice_id, device_id), usage in regions.usages.items()
            if device_id == process.device_id
            for slot in usage.slots
            if slot.pid == process.pid
        ]
        if not process.spent_bytes and not slots:
            continue
        if tally.expect(len(slots) == 1, "driver-slice", subject, f"is in {len(slots)} slices, expected 1"):
            slice_id, slot = slots[0]
            expected = _expected(documents, regions, (process.device_id, slice_id), slot.vram_bytes)
            if process.requested_bytes is not None and expected is not None:
                tally.same(
                    "driver-usage", f"{subject}, slice {slice_id}, {process.requested_bytes} and {slot.vram_bytes} bytes",
                    (driver.source, process.requested_bytes), ("its slot", expected),
                )  # fmt: skip


def _expected(documents: Documents, regions: Regions, place: tuple[str, str], slot_bytes: int) -> int | None:
    """What of a slot's memory is on the device: none of it while the slice is suspended; None, it is on its way."""
    seen = documents.seen(regions.node).get(place)
    if seen is not None and seen.state is ObservedState.SUSPENDED:
        return 0
    records = regions.quotas.get(place[0], {}).values()
    on_its_way = any(each.slice_id == place[1] and each.control is Control.SUSPEND for each in records)
    return None if on_its_way else slot_bytes


def _check_partition_process(process: DriverProcess, owner: tuple[str, ObservedSlice], tally: Tally) -> None:
    slice_id, item = owner
    subject = f"process {process.pid} in slice {slice_id} on {process.uuid}"
    tally.expect(item.mode is Mode.HARDWARE, "I4", subject, f"uses a partition, but its slice is {item.mode}")
    spent = process.spent_bytes
    tally.expect(spent <= item.vram_bytes, "I7", subject, f"holds {spent} bytes, its slice has {item.vram_bytes}")


def _without_books(documents: Documents, node: str) -> frozenset[str]:
    inventory = documents.inventories.get(node)
    return frozenset(device.id for device in inventory.devices if not _keeps_books(device)) if inventory else frozenset()


def _keeps_books(device: Device) -> bool:
    return device.runtimes != NO_BOOKS


def _check_slots(documents: Documents, driver: Driver, regions: Regions, tally: Tally) -> None:
    """A slot holds no more than the driver has given to its process."""
    booked: dict[tuple[int, str], int] = {}
    for process in driver.processes:
        if process.requested_bytes is not None:
            key = process.pid, process.device_id
            booked[key] = booked.get(key, 0) + process.requested_bytes
    if not any(process.requested_bytes is not None for process in driver.processes) and driver.processes:
        return
    bookless = _without_books(documents, driver.node)
    for (slice_id, device_id), usage in regions.usages.items():
        for slot in usage.slots:
            if slot.pid is not None and slot.vram_bytes and device_id not in bookless:
                given = booked.get((slot.pid, device_id), 0)
                expected = _expected(documents, regions, (device_id, slice_id), slot.vram_bytes)
                if expected is None:
                    continue
                subject = f"slice {slice_id} on {device_id}, process {slot.pid}, {slot.vram_bytes} and {given} bytes"
                tally.same("usage-driver", subject, ("its slot", expected), (driver.source, given))
