"""A slice on another device of its node.

Invariants: without a word on how long its processes may take to end (``grace_s``), only what is known to hold no memory is moved;
it keeps its size, and its mode unless the command names a device.
"""

from typing import Final

from msgspec.structs import replace

from mica.events import Mode, MoveSlice, Placement, SliceRecord
from mica.planner.domain.affinity import affinity_of
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.partitions import occupied
from mica.planner.domain.placing import Ask, Pins, Placed, Unplaced, decide
from mica.planner.domain.sizing import Size

REASONS: Final = 4
"""Of so many devices a refusal tells why they do not take the slice."""


def moved(fleet: Fleet, record: SliceRecord, command: MoveSlice, pins: Pins) -> Placed | Refusal:
    """Where it would go, or why it has to stay."""
    if len(record.placements) != 1:
        return Refusal("id", record.id, f"a slice on one device; this one is a gang of {len(record.placements)}")
    if record.suspended:
        return Refusal("id", record.id, "a slice that is not suspended; a driver brings it back only to where it was")
    placement = record.placements[0]
    refusal = _bound(fleet, record, command)
    if refusal is not None:
        return refusal
    free = command.device_id is not None and placement.mode is not Mode.HARDWARE
    request = record.request if free else replace(record.request, mode=placement.mode)
    ask = Ask(
        id=record.id, request=request, size=Size(placement.vram_bytes, placement.share_ppm), pins=pins, node=placement.node,
        device_id=command.device_id, excluded=frozenset({placement.device_id}), members=1, limits=placement.limits,
        affinity=affinity_of(record.request, fleet.group(record.request, but=record.id)),
    )  # fmt: skip
    outcome = decide(fleet, ask)
    if not isinstance(outcome, Placed):
        return _nowhere(outcome, placement, command.device_id)
    return outcome if command.start is None else _at_slot(fleet, record, outcome, command.start)


def _at_slot(fleet: Fleet, record: SliceRecord, outcome: Placed, start: int) -> Placed | Refusal:
    """The same device, with a partition of the profile that the slice has now, at the slot that is asked for."""
    now, there = record.placements[0].partition, outcome.placements[0]
    node = fleet.node(there.node)
    claims = node.claims(there.device_id)
    if now is None or there.partition is None or claims.device is None:
        return Refusal("start", str(start), "none: only partitions begin at a slot")
    geometry = claims.geometry(claims.device)
    keys, mask = occupied(partition for claim in claims.others(record.id) for partition in claim.partitions)
    profile = geometry.by_id.get(now.profile_id)
    free = geometry.starts(keys, mask, profile, node.shared_beside(claims, record.id)) if profile is not None else []
    if start not in free or profile is None:
        return Refusal("start", str(start), f"one of {', '.join(map(str, free)) or 'none now'} for profile {now.profile}")
    partition = replace(now, start=start, uuid="")
    placement = replace(there, partition=partition, vram_bytes=profile.vram_bytes, share_ppm=record.placements[0].share_ppm)
    return Placed((placement,), outcome.decision)


def _bound(fleet: Fleet, record: SliceRecord, command: MoveSlice) -> Refusal | None:
    """What keeps the slice where it is, whatever else is free."""
    placement = record.placements[0]
    if command.node is not None and command.node != placement.node:
        return Refusal("node", command.node, f"{placement.node}, the slice's own node; to change nodes, request another slice")
    if placement.mode is Mode.HARDWARE and command.grace_s is None:
        allowed = "a slice in a software mode; only vendor counters show what a partition holds: give grace_s, or request another"
        return Refusal("id", record.id, allowed)
    used_bytes = used_by(fleet.node(placement.node), record.id, placement)
    if used_bytes is None:
        return Refusal("id", record.id, "a slice that its enforcer reports with the present generation")
    if used_bytes and command.grace_s is None:
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


def used_by(node: NodeState, slice_id: str, placement: Placement) -> int | None:
    """The memory that its processes hold; None while the enforcer does not report it with the present generation.

    Of one that holds more than it is to have, the enforcer goes on reporting the generation before.
    """
    entry = node.ledger.devices.get(placement.device_id, {}).get(slice_id)
    seen = node.observed.devices.get(placement.device_id, {}).get(slice_id) if node.observed is not None else None
    if entry is None or seen is None:
        return None
    waits = slice_id in node.ledger.held.get(placement.device_id, {})
    return seen.vram_used_bytes if waits or seen.generation == entry.generation else None
