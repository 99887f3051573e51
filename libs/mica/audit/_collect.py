"""Reads the world: streams, buckets, regions and drivers. Invariant: it only reads, and from outside of every service.

Documents of all kinds are read in one pass over the bucket, so that they stand at nearly the same moment.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from mica.audit._world import AttachFile, Documents, Driver, DriverProcess, Regions, Slot, UsageFile, World
from mica.audit.answers import ENDING, FINAL
from mica.bus import Bus
from mica.events import (
    SLICES,
    Document,
    EventError,
    Inventory,
    Ledger,
    Observed,
    Partition,
    SliceRecord,
    TenantHoldings,
    TenantPolicy,
    decode_document,
)
from mica.policy import all_readable
from mica.region import (
    QuotaRegion,
    RegionError,
    RegionMissingError,
    RuntimeDir,
    UsageSnapshot,
    find_process,
    read_usage,
)

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Document)
NODE_DESC: Final = "node.desc"
TOLD: Final = tuple(f"{kind.__struct_config__.tag}.*" for kind in FINAL + ENDING)


class Sources(Struct, frozen=True, kw_only=True):
    """Where to look. ``sim_dir`` is None on a real node; ``node`` is what this machine is called when nothing else tells."""

    bus: Bus
    runtime_dir: Path
    sim_dir: Path | None
    node: str


async def read_world(sources: Sources) -> World:
    """Everything, as it is now.

    Raises:
        BusError: the bus does not answer.
    """
    facts = await sources.bus.history(SLICES.name, TOLD)
    documents = await read_documents(sources.bus)
    regions = await asyncio.to_thread(read_regions, sources, documents)
    inventory = documents.inventories.get(regions.node) if regions else None
    driver = await asyncio.to_thread(read_driver, sources, regions.node, inventory) if regions else None
    return World(documents=documents, facts=tuple(facts), regions=regions, driver=driver, now_ns=time.time_ns())


async def read_documents(bus: Bus) -> Documents:
    """The state bucket and the tenants' policies."""
    state, policies = await _bytes_of(bus.state, ">"), await bus.policy.versions("tenant.*")
    return Documents(
        inventories=_documents(state, "inventory.", Inventory),
        records=_documents(state, "slice.", SliceRecord),
        tenants=_documents(state, "tenant.", TenantHoldings),
        ledgers=_documents(state, "ledger.", Ledger),
        observed=_documents(state, "observed.", Observed),
        policies={key.removeprefix("tenant."): entry.value for key, entry in all_readable(policies, TenantPolicy).items()},
    )


async def _bytes_of(bucket: Any, pattern: str) -> dict[str, bytes]:
    """The latest value of every key, undecoded."""
    watch = bucket.watch(pattern, msgspec.Raw)
    try:
        batch = await anext(watch)
    finally:
        await watch.aclose()
    return {change.key: bytes(change.value) for change in batch if change.value is not None}


def _documents(values: dict[str, bytes], prefix: str, kind: type[T]) -> dict[str, T]:
    found = {}
    for key, data in values.items():
        if key.startswith(prefix):
            try:
                found[key.removeprefix(prefix)] = decode_document(data, kind)
            except EventError as error:
                raise EventError(f"key {key}: {error.field}", error.given, error.allowed) from None
    return found


def read_regions(sources: Sources, documents: Documents) -> Regions | None:
    """The node's runtime directory; None where there is none."""
    runtime = RuntimeDir(sources.runtime_dir)
    devices = runtime.devices()
    if not (sources.runtime_dir / "devices").is_dir():
        return None
    broken: dict[str, str] = {}
    return Regions(
        node=_node_with(devices, documents) or sources.node,
        quotas={device_id: dict(_quota(runtime, device_id, broken)) for device_id in devices},
        usages={(slice_id, device_id): usage for slice_id, device_id, usage in _usages(runtime, broken)},
        attaches=dict(_attaches(runtime, broken)),
        broken=broken,
    )


def _node_with(devices: list[str], documents: Documents) -> str:
    """The node whose inventory has these devices."""
    wanted = set(devices)
    return next((name for name, found in documents.inventories.items() if wanted & {device.id for device in found.devices}), "")


def _quota(runtime: RuntimeDir, device_id: str, broken: dict[str, str]) -> Iterator[tuple[int, Any]]:
    path = runtime.quota_path(device_id)
    try:
        with QuotaRegion(path) as region:
            yield from region.records().items()
    except RegionError as error:
        broken[str(path)] = str(error)


def _usages(runtime: RuntimeDir, broken: dict[str, str]) -> Iterator[tuple[str, str, UsageFile]]:
    for slice_id, device_id, path in runtime.usages():
        try:
            snapshot = read_usage(path)
            yield slice_id, device_id, UsageFile(snapshot=snapshot, slots=tuple(_slots(snapshot, path)))
        except RegionMissingError:
            continue
        except RegionError as error:
            broken[str(path)] = str(error)


def _slots(snapshot: UsageSnapshot, path: Path) -> Iterator[Slot]:
    for process in snapshot.processes:
        yield Slot(slot=process.slot, pid=find_process(process.owner, path), vram_bytes=process.vram_bytes)


def _attaches(runtime: RuntimeDir, broken: dict[str, str]) -> Iterator[tuple[str, AttachFile]]:
    for slice_id in runtime.slices():
        path = runtime.attach_path(slice_id)
        try:
            yield slice_id, msgspec.json.decode(path.read_bytes(), type=AttachFile)
        except FileNotFoundError:
            continue
        except (OSError, msgspec.DecodeError) as error:
            broken[str(path)] = str(error)


def read_driver(sources: Sources, node: str, inventory: Inventory | None = None) -> Driver:
    """What the drivers themselves have booked; devices are called what the inventory calls them."""
    return _simulated(sources.sim_dir, node, inventory) if sources.sim_dir is not None else _real(node)


def _simulated(directory: Path, node: str, inventory: Inventory | None) -> Driver:
    from mica.hardware import read_books

    books = read_books(directory)
    listed = inventory.devices if inventory is not None else ()
    by_place = {device.pci_bus_id.lower()[-10:]: device.id for device in listed if device.pci_bus_id}
    known = {device.id for device in listed}
    devices = {
        device.index: device.uuid if device.uuid in known else by_place.get(device.pci[-10:], device.uuid)
        for device in books.devices
    }
    return Driver(
        node=node,
        source="the simulated driver",
        usable_bytes={devices[device.index]: device.vram_bytes - device.reserve_bytes for device in books.devices},
        processes=tuple(
            DriverProcess(
                pid=process.pid, uuid=account.uuid, device_id=devices[account.device],
                spent_bytes=account.granule_bytes + account.context_bytes, requested_bytes=account.requested_bytes,
            )
            for process in books.processes
            if process.live and process.pid
            for account in process.accounts
        ),
        partitions={
            devices[device.index]: tuple(
                Partition(
                    profile=instance.profile, profile_id=instance.profile_id, start=instance.start, size=instance.size,
                    uuid=instance.compute[0].uuid if instance.compute else "", layout=instance.layout,
                )
                for instance in device.instances
            )
            for device in books.devices
        },
    )  # fmt: skip


def _real(node: str) -> Driver:
    from mica.vendors import VendorError, open_drivers

    processes: list[DriverProcess] = []
    usable: dict[str, int] = {}
    partitions: dict[str, tuple[Partition, ...]] = {}
    for driver in open_drivers():
        try:
            devices, living = driver.devices(), driver.living()
        except VendorError as error:
            log.warning("%s lists no devices: %s", driver.name, error)
            continue
        partitions = {**living, **partitions}
        for device in devices:
            usable.setdefault(device.id, device.vram_bytes - device.reserve_bytes)
            uuids = {device.id: None} | {partition.uuid: None for partition in living.get(device.id, ()) if partition.uuid}
            processes += [
                DriverProcess(pid=pid, uuid=uuid, device_id=device.id, spent_bytes=spent)
                for uuid in uuids
                for pid, spent in driver.compute_processes(uuid)
            ]
        driver.close()
    return Driver(
        node=node, source="the vendor's library", usable_bytes=usable, processes=tuple(processes), partitions=partitions
    )
