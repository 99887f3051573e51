"""Where a slice could have another size, when its place can not.

Invariant: what is offered is on the slice's own node and in its own mode; nothing but the decision of ``decide`` is offered.
"""

from msgspec.structs import replace

from mica.events import Mode, Placement, ResizeSlice, SliceRecord
from mica.planner.domain.affinity import affinity_of
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.placing import Ask, Pins, Placed, decide
from mica.planner.domain.sizing import Size


def size_asked(record: SliceRecord, command: ResizeSlice) -> Size:
    """The size that the slice is to have: what the command leaves out is as it was asked for before.

    A partition may give more than that.
    """
    placement, request = record.placements[0], record.request
    vram_bytes = command.vram_bytes or record.vram_bytes or request.vram_bytes or placement.vram_bytes
    share_ppm = command.share_ppm or record.share_ppm or request.share_ppm
    if placement.mode is Mode.HARDWARE:
        return Size(vram_bytes, share_ppm)
    return Size(command.vram_bytes or placement.vram_bytes, command.share_ppm or placement.share_ppm)


def offered(fleet: Fleet, record: SliceRecord, command: ResizeSlice, pins: Pins) -> Placed | None:
    """Another place on the node for the new size, if there is one: on another device, or another partition of the same."""
    if len(record.placements) != 1:
        return None
    placement = record.placements[0]
    if placement.mode is Mode.HARDWARE and command.limits.given:
        return None
    ask = Ask(
        id=record.id, request=replace(record.request, mode=placement.mode), size=size_asked(record, command), pins=pins,
        node=placement.node, members=1, limits=placement.limits.changed_by(command.limits),
        affinity=affinity_of(record.request, fleet.group(record.request, but=record.id)),
    )  # fmt: skip
    outcome = decide(fleet, ask)
    if not isinstance(outcome, Placed):
        return None
    return Placed(tuple(replace(each, limits=ask.own_limits) for each in outcome.placements), outcome.decision)


def with_offer(refusal: Refusal, offer: tuple[Placement, ...]) -> Refusal:
    """The refusal that says where it could be."""
    place = offer[0]
    where = f"{place.partition.profile} at slot {place.partition.start} of " if place.partition is not None else ""
    said = f"{refusal.allowed}; {where}{place.device_id} would hold it: ask again with may_move"
    return Refusal(refusal.field, refusal.given, said, offer)
