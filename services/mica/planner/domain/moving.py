"""A slice on another device of its node.

Invariants: only what is known to hold no memory is moved; it keeps its size, and its mode unless the command names a device.
"""

from typing import Final

from msgspec.structs import replace

from mica.events import Mode, MoveSlice, Placement, SliceRecord
from mica.planner.domain.affinity import affinity_of
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.placing import Ask, Pins, Placed, Unplaced, decide
from mica.planner.domain.sizing import Size

REASONS: Final = 4
"""Of so many devices a refusal tells why they do not take the slice."""


def moved(fleet: Fleet, record: SliceRecord, command: MoveSlice, pins: Pins) -> Placed | Refusal:
    """Where it would go, or why it has to stay."""
    if len(record.placements) != 1:
        return Refusal("id", record.id, f"a slice on one device; this one is a gang of {len(record.placements)}")
    placement = record.placements[0]
    refusal = _bound(fleet, record, command)
    if refusal is not None:
        return refusal
    request = record.request if command.device_id is not None else replace(record.request, mode=placement.mode)
    ask = Ask(
        id=record.id, request=request, size=Size(placement.vram_bytes, placement.share_ppm), pins=pins, node=placement.node,
        device_id=command.device_id, excluded=frozenset({placement.device_id}), members=1, limits=placement.limits,
        affinity=affinity_of(record.request, fleet.group(record.request, but=record.id)),
    )  # fmt: skip
    outcome = decide(fleet, ask)
    return outcome if isinstance(outcome, Placed) else _nowhere(outcome, placement, command.device_id)


def _bound(fleet: Fleet, record: SliceRecord, command: MoveSlice) -> Refusal | None:
    """What keeps the slice where it is, whatever else is free."""
    placement = record.placements[0]
    if command.node is not None and command.node != placement.node:
        return Refusal("node", command.node, f"{placement.node}, the slice's own node; to change nodes, request another slice")
    if placement.mode is Mode.HARDWARE:
        allowed = "a slice in a software mode; only vendor counters show what a partition holds: request another slice"
        return Refusal("id", record.id, allowed)
    used_bytes = _used_bytes(fleet.node(placement.node), record.id, placement)
    if used_bytes is None:
        return Refusal("id", record.id, "a slice that its enforcer reports with the present generation")
    if used_bytes:
        return Refusal("id", record.id, f"a slice that holds no memory; this one holds {used_bytes} bytes")
    if command.device_id == placement.device_id:
        return Refusal("device_id", placement.device_id, "another device than the slice is on")
    return None


def _nowhere(outcome: Unplaced, placement: Placement, device_id: str | None) -> Refusal:
    """Why none of the node's other devices takes it."""
    if outcome.refusal.field in ("vram_bytes", "share_ppm"):
        return outcome.refusal
    others = [
        each
        for each in outcome.decision.rejected
        if each.node == placement.node and each.device_id not in ("", placement.device_id) and device_id in (None, each.device_id)
    ]
    reasons = "; ".join(f"{each.device_id}: {each.reason}" for each in others[:REASONS]) or "there is no such device"
    return Refusal("device_id", device_id or "any", f"another device of node {placement.node} that holds it ({reasons})")


def _used_bytes(node: NodeState, slice_id: str, placement: Placement) -> int | None:
    entry = node.ledger.devices.get(placement.device_id, {}).get(slice_id)
    seen = node.observed.devices.get(placement.device_id, {}).get(slice_id) if node.observed is not None else None
    if entry is None or seen is None or seen.generation != entry.generation:
        return None
    return seen.vram_used_bytes
