"""A node's regions against what its enforcer says, and its slots against the processes that live."""

from itertools import pairwise

from mica.audit._finding import Tally
from mica.audit._world import AttachFile, Regions, UsageFile, World
from mica.events import Control, LedgerEntry, Mode, ObservedSlice, ObservedState
from mica.region import Limits, SliceState, Spatial


def check_regions(world: World, tally: Tally) -> None:
    """All of them, where this machine is a node."""
    regions = world.regions
    if regions is None:
        return
    for path, problem in regions.broken.items():
        tally.expect(False, "region", path, problem)  # noqa: FBT003 - the comparison that failed is the reading itself
    entries, seen = world.documents.entries(regions.node), world.documents.seen(regions.node)
    quotas = {(d, limits.slice_id): limits for d, records in regions.quotas.items() for limits in records.values()}
    for (device_id, slice_id), item in seen.items():
        if item.state is not ObservedState.FAILED:
            _check_record(item, (device_id, slice_id), quotas.get((device_id, slice_id)), tally)
    for (device_id, slice_id), entry in entries.items():
        if slice_id in {s for d, s in seen if d == device_id}:
            here = seen.get((device_id, slice_id))
            restraint = here.restraint if here is not None else Control.RUN
            _check_limits((entry, restraint), device_id, quotas.get((device_id, slice_id)), tally)
            _check_files(regions, device_id, entry, tally)
    for (device_id, slice_id), limits in quotas.items():
        subject = f"slice {slice_id} generation {limits.generation} on {device_id}"
        known = (device_id, slice_id) in entries or (device_id, slice_id) in seen
        tally.expect(
            known, "quota-ledger", subject, "has a quota record, but stands neither in the ledger nor in what is observed"
        )
    for device_id, records in regions.quotas.items():
        names = [limits.slice_id for limits in records.values()]
        doubled = sorted({name for name in names if names.count(name) > 1})
        tally.expect(not doubled, "quota", f"device {device_id}", f"more than one record for {', '.join(doubled)}")
        _check_parts(device_id, list(records.values()), tally)
    for (slice_id, device_id), usage in regions.usages.items():
        known = (device_id, slice_id) in entries or (device_id, slice_id) in seen
        subject = f"slice {slice_id} on {device_id}"
        tally.expect(
            known, "usage-ledger", subject, "has a usage region, but stands neither in the ledger nor in what is observed"
        )
        _check_usage(usage, quotas.get((device_id, slice_id)), seen.get((device_id, slice_id)), tally)


def _check_record(item: ObservedSlice, where: tuple[str, str], limits: Limits | None, tally: Tally) -> None:
    subject = f"slice {where[1]} generation {item.generation} on {where[0]}"
    tally.expect(limits is not None, "observed-quota", subject, f"is observed {item.state}, but has no quota record")


def _check_limits(wants: tuple[LedgerEntry, Control], device_id: str, limits: Limits | None, tally: Tally) -> None:
    """What the ledger wants, and what the enforcer says that the slice may do no more than."""
    entry, restraint = wants
    if limits is None or limits.generation != entry.generation or limits.state is not SliceState.LIVE:
        return
    subject = f"slice {entry.id} generation {entry.generation} on {device_id}"
    window = entry.window
    size = (entry.vram_bytes or entry.away_vram_bytes, entry.share_ppm or entry.away_share_ppm)
    wanted = (str(entry.tier), *size, (window.offset_ns, window.length_ns) if window else (0, 0))
    stands = (str(limits.tier), limits.vram_limit_bytes, limits.share_ppm, (limits.window_offset_ns, limits.window_length_ns))
    tally.same("ledger-quota", subject, ("the ledger", wanted), ("the quota record", stands))
    own = entry.limits
    asked = (own.pinned_bytes or 0, own.launch_rate_hz or 0, own.inflight_max or 0, own.copy_bytes_per_s or 0)
    given = (limits.pinned_limit_bytes, limits.launch_rate_hz, limits.inflight_max, limits.copy_bytes_per_s)
    tally.same("ledger-quota", f"{subject}, limits", ("the ledger", asked), ("the quota record", given))
    word = Control.SUSPEND if entry.suspended and entry.control is not Control.KILL else entry.control
    word = max(word, restraint, key=list(Control).index)
    tally.same("ledger-quota", f"{subject}, control", ("the ledger", str(word)), ("the quota record", str(limits.control)))


def _check_parts(device_id: str, records: list[Limits], tally: Tally) -> None:
    """Whole multiprocessors or compute units that slices have to themselves."""
    kinds = {Spatial.GREEN, Spatial.SUBDEVICE}
    placed = sorted((each for each in records if each.spatial_kind in kinds), key=lambda each: each.spatial_offset_ppm)
    for one, other in pairwise(placed):
        end_ppm = one.spatial_offset_ppm + one.spatial_ppm
        message = (
            f"the part of {one.slice_id} ends at {end_ppm} ppm, that of {other.slice_id} begins at {other.spatial_offset_ppm}"
        )
        tally.expect(end_ppm <= other.spatial_offset_ppm, "quota-part", f"device {device_id}", message)


def _check_files(regions: Regions, device_id: str, entry: LedgerEntry, tally: Tally) -> None:
    subject = f"slice {entry.id} generation {entry.generation} on {device_id}"
    if entry.mode is not Mode.HARDWARE:
        tally.expect((entry.id, device_id) in regions.usages, "ledger-usage", subject, "has no usage region")
    attach: AttachFile | None = regions.attaches.get(entry.id)
    if tally.expect(attach is not None, "ledger-attach", subject, "has no attach.json"):
        assert attach is not None
        said = (attach.id, attach.node, attach.mode)
        tally.same("ledger-attach", subject, ("the ledger", (entry.id, regions.node, str(entry.mode))), ("attach.json", said))


def _check_usage(usage: UsageFile, limits: Limits | None, seen: ObservedSlice | None, tally: Tally) -> None:
    snapshot = usage.snapshot
    subject = f"slice {snapshot.slice_id} on {snapshot.device_id}"
    for slot in usage.slots:
        message = f"slot {slot.slot} holds {slot.vram_bytes} bytes for a process that is gone"
        tally.expect(slot.pid is not None, "usage-process", f"{subject}, slot {slot.slot}", message)
    held = snapshot.vram_bytes
    if limits is not None and seen is not None and seen.generation == limits.generation:
        message = f"its processes hold {held} bytes, its limit is {limits.vram_limit_bytes}"
        tally.expect(held <= limits.vram_limit_bytes, "I7", f"{subject}, {held} bytes", message)
    if seen is not None and seen.state is ObservedState.SUSPENDED:
        known = ("the enforcer", seen.away_bytes), ("the usage region", held)
        tally.same("observed-usage", f"{subject}, away, {seen.away_bytes} and {held} bytes", *known)
    elif seen is not None and not (limits is not None and limits.control is Control.SUSPEND):
        known = ("the enforcer", seen.vram_used_bytes), ("the usage region", held)
        tally.same("observed-usage", f"{subject}, {seen.vram_used_bytes} and {held} bytes", *known)
