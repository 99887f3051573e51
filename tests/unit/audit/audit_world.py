"""A sound world of one node with a slice in each mode, from which every test breaks one thing."""

from typing import Any

from msgspec.structs import replace

from mica.audit import AttachFile, Documents, Driver, DriverProcess, Regions, Slot, UsageFile, World
from mica.bus import Heard
from mica.events import (
    Decision,
    Device,
    Holding,
    Inventory,
    Ledger,
    LedgerEntry,
    Mode,
    Observed,
    ObservedSlice,
    ObservedState,
    Partition,
    PartitionProfile,
    Phase,
    Placement,
    RequestSlice,
    SliceReady,
    SliceRecord,
    TenantHoldings,
    Tier,
    Vendor,
    Window,
)
from mica.region import Limits, ProcessSlot, UsageSnapshot

GIB = 1 << 30
NODE = "n"
SOFT, HARD, TIME = "GPU-soft", "GPU-hard", "GPU-time"
MIG = Partition(profile="1g.10gb", profile_id=19, start=0, size=1, uuid="MIG-1")
WINDOW = Window(offset_ns=0, length_ns=50_000_000, period_ns=100_000_000)
PID = 4242
HOLDING = Holding(vram_bytes=4 * GIB, share_ppm=500_000)
PROFILE = PartitionProfile(
    name="1g.10gb", profile_id=19, size=1, starts=(0, 1), vram_bytes=4 * GIB, compute_slices=1, multiprocessors=1, max_instances=7
)
PARTS: dict[str, tuple[str, Mode, dict[str, Any]]] = {
    "soft": (SOFT, Mode.FCSP, {}),
    "hard": (HARD, Mode.HARDWARE, {"partition": MIG}),
    "time": (TIME, Mode.TIMESLICE, {"window": WINDOW}),
}


def device(device_id: str, index: int, **more: Any) -> Device:
    return Device(id=device_id, index=index, vendor=Vendor.NVIDIA, model="X", vram_bytes=25 * GIB, reserve_bytes=GIB, **more)


def entry(slice_id: str, **more: Any) -> LedgerEntry:
    _, mode, parts = PARTS[slice_id]
    given = {
        "id": slice_id,
        "generation": 1,
        "tier": Tier.GUARANTEED,
        "vram_bytes": 4 * GIB,
        "share_ppm": 500_000,
        **parts,
        **more,
    }
    return LedgerEntry(tenant="t", mode=mode, **given)


def seen(slice_id: str, **more: Any) -> ObservedSlice:
    _, mode, parts = PARTS[slice_id]
    used = {"vram_used_bytes": GIB} if slice_id == "soft" else {}
    given = {"generation": 1, "state": ObservedState.LIVE, "vram_bytes": 4 * GIB, "share_ppm": 500_000, **used, **parts, **more}
    return ObservedSlice(mode=mode, **given)


def record(slice_id: str, **more: Any) -> SliceRecord:
    device_id, mode, parts = PARTS[slice_id]
    placement = Placement(
        node=NODE, device_id=device_id, model="X", vendor=Vendor.NVIDIA, mode=mode, vram_bytes=4 * GIB, share_ppm=500_000, **parts
    )
    given = {"phase": Phase.PLACED, "generation": 1, "sequence": 1, "request_sequence": 1, "placements": (placement,), **more}
    return SliceRecord(id=slice_id, request=RequestSlice(tenant="t", id=slice_id), decision=Decision(summary="s"), **given)


def limits(slice_id: str, **more: Any) -> Limits:
    window = {"window_length_ns": WINDOW.length_ns, "window_period_ns": WINDOW.period_ns} if slice_id == "time" else {}
    given = {
        "generation": 1,
        "vram_limit_bytes": 4 * GIB,
        "share_ppm": 500_000,
        "ceiling_ppm": 500_000,
        "burst_ns": 1,
        **window,
        **more,
    }
    return Limits(slice_id=slice_id, **(given | window | more))


def usage(slice_id: str, held: int, pid: int | None = PID) -> UsageFile:
    slots = (
        ProcessSlot(
            slot=0, owner=1, pid=1, start_ticks=0, vram_bytes=held, vram_peak_bytes=held, pinned_bytes=0, gpu_ns=0, launches=0,
            inflight=0, last_seen_ns=0,
        ),
    )  # fmt: skip
    snapshot = UsageSnapshot(
        slice_id=slice_id, device_id=PARTS[slice_id][0], virtual_time_ns=0, gpu_ns=0, throttled_ns=0, launches=0, refusals=0,
        vram_peak_bytes=0, generation_seen=0, processes=slots if held else (),
    )  # fmt: skip
    return UsageFile(snapshot=snapshot, slots=(Slot(slot=0, pid=pid, vram_bytes=held),) if held else ())


def ready(slice_id: str, **more: Any) -> Heard:
    given = {"at": 1, "generation": 1, "placements": (), **more}
    return Heard(f"slice.ready.{slice_id}", SliceReady(id=slice_id, tenant="t", **given))


def sound() -> World:
    """Nothing disagrees in it."""
    mig = device(HARD, 1, partitioned=True, profiles=(PROFILE,), compute_slices=7)
    return World(
        documents=Documents(
            inventories={
                NODE: Inventory(
                    node=NODE, pool="default", boot_id="b",
                    devices=(
                        device(SOFT, 0), mig, device(TIME, 2),
                    ),
                )
            },
            records={slice_id: record(slice_id) for slice_id in PARTS},
            tenants={"t": TenantHoldings(tenant="t", holdings=dict.fromkeys(PARTS, HOLDING))},
            ledgers={NODE: Ledger(node=NODE, generation=3, devices={PARTS[s][0]: {s: entry(s)} for s in PARTS})},
            observed={
                NODE: Observed(node=NODE, boot_id="b", generation=3, devices={PARTS[s][0]: {s: seen(s)} for s in PARTS}),
            },
        ),
        facts=tuple(ready(slice_id) for slice_id in PARTS),
        regions=Regions(
            node=NODE,
            quotas={PARTS[slice_id][0]: {0: limits(slice_id)} for slice_id in PARTS},
            usages={("soft", SOFT): usage("soft", GIB), ("time", TIME): usage("time", 0)},
            attaches={s: AttachFile(s, NODE, str(mode), ()) for s, (_, mode, _) in PARTS.items()},
        ),
        driver=Driver(
            node=NODE,
            source="the driver",
            usable_bytes=dict.fromkeys((SOFT, HARD, TIME), 24 * GIB),
            processes=(DriverProcess(pid=PID, uuid=SOFT, device_id=SOFT, spent_bytes=GIB, requested_bytes=GIB),),
            partitions={HARD: (MIG,)},
        ),
    )  # fmt: skip


def with_documents(world: World, **changes: Any) -> World:
    return replace(world, documents=replace(world.documents, **changes))


def with_ledger(world: World, **changes: Any) -> World:
    return with_documents(world, ledgers={NODE: replace(world.documents.ledgers[NODE], **changes)})


def with_observed(world: World, **changes: Any) -> World:
    return with_documents(world, observed={NODE: replace(world.documents.observed[NODE], **changes)})


def with_regions(world: World, **changes: Any) -> World:
    assert world.regions is not None
    return replace(world, regions=replace(world.regions, **changes))


def with_driver(world: World, **changes: Any) -> World:
    assert world.driver is not None
    return replace(world, driver=replace(world.driver, **changes))


def devices_of(world: World) -> dict[str, dict[str, LedgerEntry]]:
    """The ledger's devices, to be changed."""
    return {device_id: dict(slices) for device_id, slices in world.documents.ledgers[NODE].devices.items()}


def seen_of(world: World) -> dict[str, dict[str, ObservedSlice]]:
    """What is observed, to be changed."""
    return {device_id: dict(slices) for device_id, slices in world.documents.observed[NODE].devices.items()}
