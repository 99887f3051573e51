"""Whether a slice can be suspended, and whether there is room for it to come back.

Invariants: a suspended slice has nothing of its devices and comes back to the same ones, since that is where a driver puts it;
its memory is counted as its node's own, within what the node has (I8).
"""

from msgspec.structs import replace

from mica.events import Mode, Placement, Runtime, SliceRecord
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.hosting import memory_text
from mica.planner.domain.ledgers import nodes_of, runtime_of
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.packing import Fit, fit
from mica.planner.domain.sizing import Size


def not_suspendable(fleet: Fleet, record: SliceRecord) -> Refusal | None:
    """Why the slice can not be suspended, whatever its programs do."""
    nodes = nodes_of(record.placements)
    if len(nodes) > 1:
        return Refusal("id", record.id, f"a slice on one node; this one is a gang over {len(nodes)}")
    node = fleet.node(nodes[0])
    for placement in record.placements:
        refusal = _not_there(node, record, placement)
        if refusal is not None:
            return refusal
    needed = sum(each.vram_bytes + each.host_memory_bytes for each in record.placements)
    free = node.free_host_memory(record.id)
    if free is not None and needed > free:
        whole = f"{memory_text(free)} free on node {node.name} for its device memory and its own"
        return Refusal("host_memory_bytes", str(needed), f"at most {max(0, free)} now ({whole})")
    return None


def _not_there(node: NodeState, record: SliceRecord, placement: Placement) -> Refusal | None:
    device = node.claims(placement.device_id).device
    if device is None:
        return Refusal("id", record.id, "a slice whose device is in the inventory")
    if placement.mode is Mode.HARDWARE:
        return Refusal("id", record.id, "a slice in a software mode; a partition is nobody else's while its slice is suspended")
    runtime = runtime_of(record.request.runtime, placement.vendor)
    if runtime is not Runtime.CUDA:
        return Refusal("id", record.id, f"a slice for cuda; no driver suspends processes that use {runtime}")
    if not device.suspends:
        why = device.suspend_refusal or f"no driver of {device.vendor} does"
        return Refusal("id", record.id, f"a slice on a device whose driver suspends processes: {why}")
    return None


def makes_room(record: SliceRecord, has: Placement, wanted: Placement) -> bool:
    """Whether suspending the slice leaves the device to ``wanted``: a suspended slice still holds it in its mode."""
    return wanted.mode is has.mode and wanted.mode is not Mode.HARDWARE and not record.unsuspendable


def back_in(fleet: Fleet, record: SliceRecord) -> tuple[Placement, ...] | Refusal:
    """Where a suspended slice is when it is back, or what there is too little of on its devices now."""
    found: list[Placement] = []
    for placement in record.placements:
        claims = fleet.node(placement.node).claims(placement.device_id)
        outcome = fit(claims, record.id, Size(placement.vram_bytes, placement.share_ppm), placement.mode)
        if not isinstance(outcome, Fit):
            given = placement.share_ppm if outcome.field == "share_ppm" else placement.vram_bytes
            return Refusal(outcome.field, str(given), f"at most {outcome.now} now on device {placement.device_id}")
        found.append(replace(placement, window=outcome.window))
    return tuple(found)
