"""Right-sizing: what slices were seen to use, told when asked for or by policy, and turned into ordinary resizes.

Invariant: nothing is written here. What was seen is in the telemetry stream, what is wanted becomes a ``slice.resize`` whose
message id is made of the slice and its generation: however many replicas look, a slice is resized once from one size.
"""

from collections.abc import Iterable
from typing import Final

from mica.events import (
    PPM,
    TELEMETRY,
    Automation,
    Fact,
    GuardState,
    Mode,
    Phase,
    ResizeSlice,
    RightsizeSlices,
    Rightsizing,
    SizeAdvice,
    Sizing,
    SliceRecord,
    SliceSampled,
    SlicesRightsized,
    Tier,
)
from mica.planner.deciding import sized
from mica.planner.desk import Call, Desk
from mica.planner.domain.ledgers import nodes_of, stands
from mica.planner.domain.misfits import Refusal, size_text
from mica.planner.domain.observing import seen
from mica.planner.domain.repack_values import usable_bytes
from mica.planner.domain.rightsizing import GRAIN_PPM, LEAST_BYTES, Standing, advise
from mica.planner.domain.sizing import Size

LOOK_NS: Final = 60_000_000_000
GUARDED_NS: Final = 600_000_000_000
"""No slice shrinks within so long of something that the SLO guard did for it, nor below what the guard gave it last."""
AT_ONCE: Final = 64
"""Slices whose readings are asked for at once."""
CHANGES: Final = frozenset({Sizing.SHRINK, Sizing.GROW, Sizing.MIXED})


class Rightsizes:
    """Looks after sizes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._looked_ns = 0
        self._told: dict[str, tuple[tuple[str, int, int], ...]] = {}
        """By tenant what was last told, so that the same is not told every minute."""

    async def on_rightsize(self, call: Call) -> Fact | None:
        """Tell what would fit; with ``apply`` see to it."""
        assert isinstance(call.command, RightsizeSlices)
        command = call.command
        records = [
            each
            for each in await self._records()
            if command.id in (None, each.id) and command.tenant in (None, each.request.tenant)
        ]
        advices = await self._advices(records, command.window_s)
        applied = await self._resize(advices, records) if command.apply else ()
        return self._fact(str(call.sequence), advices, applied)

    async def review(self) -> None:
        """Look at the slices of tenants whose policy wants it, once a minute."""
        desk, now = self._desk, self._desk.clock.monotonic_ns()
        if now - self._looked_ns < LOOK_NS or not desk.policies.rightsizing:
            return
        self._looked_ns = now
        by_tenant: dict[str, list[SliceRecord]] = {}
        for record in await self._records():
            if self._policy(record.request.tenant).mode is not Automation.OFF:
                by_tenant.setdefault(record.request.tenant, []).append(record)
        for tenant, records in sorted(by_tenant.items()):
            await self._look(tenant, records)

    async def _look(self, tenant: str, records: list[SliceRecord]) -> None:
        advices = [each for each in await self._advices(records, None) if each.action in CHANGES]
        news = tuple((each.id, each.to_vram_bytes, each.to_share_ppm) for each in advices)
        if not news or self._told.get(tenant) == news:
            return
        self._told[tenant] = news
        auto = self._policy(tenant).mode is Automation.AUTO
        applied = await self._resize(advices, records) if auto else ()
        await self._desk.say(self._fact(tenant, advices, applied))

    def _policy(self, tenant: str) -> Rightsizing:
        return self._desk.policies.tenant(tenant).rightsizing

    async def _records(self) -> list[SliceRecord]:
        """Of the slices that stand in a ledger as their record says."""
        desk = self._desk
        ids = {id_ for node in desk.fleet.nodes.values() for slices in node.ledger.devices.values() for id_ in slices}
        found = [entry.value for id_ in sorted(ids) if (entry := await desk.records.get(id_)) is not None]
        return [each for each in found if each.phase is Phase.PLACED and self._stands(each)]

    def _stands(self, record: SliceRecord) -> bool:
        fleet = self._desk.fleet
        nodes = [*fleet.census.holders(record.id), *map(fleet.node, nodes_of(record.placements))]
        return all(stands(node.ledger, record) for node in nodes)

    async def _advices(self, records: Iterable[SliceRecord], window_s: float | None) -> tuple[SizeAdvice, ...]:
        """One for each slice on one device that a software mode can resize."""
        sizable = [each for each in records if len(each.placements) == 1 and each.placements[0].mode is not Mode.HARDWARE]
        advices = []
        for some in (sizable[first : first + AT_ONCE] for first in range(0, len(sizable), AT_ONCE)):
            heard = await self._desk.bus.history(TELEMETRY.name, [f"telemetry.slice.{each.id}" for each in some])
            by_id: dict[str, list[SliceSampled]] = {}
            for each in heard:
                if isinstance(each.event, SliceSampled):
                    by_id.setdefault(each.event.id, []).append(each.event)
            for record in some:
                policy = self._policy(record.request.tenant)
                standing, here = await self._standing(record, policy), record.placements[0]
                own = (each for each in by_id.get(record.id, ()) if each.device_id == here.device_id)
                use = seen(own, since=record.updated_at, vram_bytes=here.vram_bytes, share_ppm=here.share_ppm)
                advices.append(advise(standing, use, window_s or policy.window_s))
        return tuple(advices)

    async def _standing(self, record: SliceRecord, policy: Rightsizing) -> Standing:
        """What bounds the slice's size now."""
        here, request = record.placements[0], record.request
        claims = self._desk.fleet.node(here.node).claims(here.device_id)
        used_bytes, used_ppm = claims.used(record.id)
        guard = await self._guard(record)
        floor_bytes, floor_ppm = self._floors(record)
        if guard is not None:
            floor_ppm = max(floor_ppm, guard.last_share_ppm)
        return Standing(
            id=record.id, tenant=request.tenant, tier=request.tier, vram_bytes=here.vram_bytes, share_ppm=here.share_ppm,
            floor_bytes=floor_bytes, floor_ppm=floor_ppm,
            room_bytes=max(here.vram_bytes, usable_bytes(claims) - used_bytes), room_ppm=max(here.share_ppm, PPM - used_ppm),
            may_shrink=self._may_not_shrink(record, policy, guard),
            may_grow="spot slices do not grow" if request.tier is Tier.SPOT else "",
        )  # fmt: skip

    def _may_not_shrink(self, record: SliceRecord, policy: Rightsizing, guard: GuardState | None) -> str:
        if record.request.tier is Tier.GUARANTEED and not policy.shrink_guaranteed:
            return "it is guaranteed, and its tenant has not agreed (shrink_guaranteed)"
        acted = guard is not None and self._desk.now_ns() - guard.last_action_at < GUARDED_NS
        return "it is near the limits of its SLO" if guard is not None and (guard.breaches or acted) else ""

    def _floors(self, record: SliceRecord) -> tuple[int, int]:
        """What its promise needs by what is known of the workload; all that it has where that is not known."""
        here, request = record.placements[0], record.request
        if request.profile is None:
            return LEAST_BYTES, GRAIN_PPM if request.slo is None else here.share_ppm
        size = sized(self._desk, request)
        if isinstance(size, Refusal):
            return here.vram_bytes, here.share_ppm
        device = self._desk.fleet.node(here.node).claims(here.device_id).device
        there = size.on(device) if device is not None else size
        share_ppm = there.share_ppm if isinstance(there, Size) else None
        unknown = here.share_ppm if request.slo is not None else GRAIN_PPM
        return size.vram_bytes, share_ppm or unknown

    async def _guard(self, record: SliceRecord) -> GuardState | None:
        if record.request.slo is None:
            return None
        entry = await self._desk.bus.state.get(f"guard.{record.id}", GuardState)
        return entry.value if entry is not None else None

    async def _resize(self, advices: Iterable[SizeAdvice], records: Iterable[SliceRecord]) -> tuple[str, ...]:
        """Send a resize for every advice that changes something; a repetition is dropped by the stream."""
        generations = {each.id: each.generation for each in records}
        sent = []
        for each in advices:
            if each.action in CHANGES:
                command = ResizeSlice(
                    id=each.id, reason=f"right-sizing: {each.why}"[:256],
                    vram_bytes=each.to_vram_bytes if each.to_vram_bytes != each.vram_bytes else None,
                    share_ppm=each.to_share_ppm if each.to_share_ppm != each.share_ppm else None,
                )  # fmt: skip
                await self._desk.bus.publish(command, message_id=f"rightsize-{each.id}-{generations[each.id]}")
                sent.append(each.id)
        return tuple(sent)

    def _fact(self, about: str, advices: Iterable[SizeAdvice], applied: tuple[str, ...]) -> SlicesRightsized:
        told = tuple(advices)
        return SlicesRightsized(at=self._desk.now_ns(), about=about, summary=summary_of(told), advices=told, applied=applied)


def summary_of(advices: Iterable[SizeAdvice]) -> str:
    """``5 slices: 2 to shrink, 1 to grow; 12 GiB and 40.0% of a device less``."""
    told = list(advices)
    counts = {action: sum(each.action is action for each in told) for action in Sizing}
    names = {
        Sizing.SHRINK: "to shrink", Sizing.GROW: "to grow", Sizing.MIXED: "to do both", Sizing.STAY: "fit", Sizing.IDLE: "idle",
        Sizing.UNKNOWN: "not seen for long enough",
    }  # fmt: skip
    parts = ", ".join(f"{counts[action]} {name}" for action, name in names.items() if counts[action])
    parts = parts or "none in a software mode on one device"
    bytes_ = sum(each.vram_bytes - each.to_vram_bytes for each in told)
    ppm = sum(each.share_ppm - each.to_share_ppm for each in told)
    if not bytes_ and not ppm:
        return f"{len(told)} slices: {parts}"
    memory, compute = f"{size_text(abs(bytes_))} {_less(bytes_)}", f"{abs(ppm) / PPM:.1%} of a device {_less(ppm)}"
    return f"{len(told)} slices: {parts}; in all {memory} and {compute}"


def _less(saved: int) -> str:
    return "less" if saved >= 0 else "more"
