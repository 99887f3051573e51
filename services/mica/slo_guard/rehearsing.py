"""The guard itself in one process, on a clock that is told: what benches and tests run it over, hours in seconds.

Owns a stand-in for the planner, which carries out the guard's commands at once: control words, shares within the device, limits,
moves to a device of the slice's own, evictions. Reports and samples are the bus's own events, and ``at`` is the time.

As a programme, ``python -m mica.slo_guard.rehearsing < LINES``: a JSON object a line, first ``{"place": {…}}`` for each slice
(``id``, ``device_id``, ``share_ppm``, and, if they differ, ``tier``, ``mode``, ``slo`` …), perhaps ``{"policy": {…}}`` (a pool's
``guard``) and ``{"patience": {…}}``, then ``slo.report`` and ``telemetry.slice`` events in the order of ``at``. It prints one
JSON object: the breaches, actions and measurements, as published, and how many commands there were.

Invariant: nothing waits for anything; the same lines give the same answer.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mica.bus import BusError, Delivery, ManualClock, MemoryBus, ServiceError
from mica.events import (
    PPM,
    Command,
    ControlSlice,
    EvictSlice,
    Fact,
    Guarding,
    Inventory,
    Ledger,
    LedgerEntry,
    Mode,
    MoveSlice,
    Phase,
    Placement,
    PoolPolicy,
    RequestSlice,
    ResizeSlice,
    SliceRecord,
    SliceRefused,
    SliceSampled,
    Slo,
    SloActed,
    SloBreached,
    SloIgnored,
    SloMeasured,
    SloReported,
    Tier,
    Vendor,
    WorkLimits,
    decode,
)
from mica.observability import PassingTracer
from mica.slo_guard.handlers import Guard
from mica.slo_guard.weighing import Patience

F = TypeVar("F", bound=Fact)

NODE: Final = "n1"
POOL: Final = "default"
TICK_NS: Final = 2_000_000_000
USUAL: Final = Guarding()
PATIENT: Final = Patience()
START_NS: Final = 1_700_000_000_000_000_000


class Place(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A slice, as it stands at the beginning."""

    id: str
    device_id: str = "GPU-1"
    share_ppm: int = 200_000
    tier: Tier = Tier.GUARANTEED
    mode: Mode = Mode.FCSP
    slo: Slo | None = None
    limits: WorkLimits = WorkLimits()
    tenant: str = "acme"
    members: int = 1


class Rehearsal:
    """A bus in memory, a clock that is told, replicas of the guard, and a planner that carries out what they ask."""

    def __init__(self, places: tuple[Place, ...], policy: Guarding = USUAL, patience: Patience = PATIENT) -> None:
        self.bus = MemoryBus()
        self.clock = ManualClock(START_NS)
        self.records: dict[str, SliceRecord] = {}
        self.commands: list[Command] = []
        self._patience = patience
        self._policy = policy
        self._places = places
        self._taken = 0
        self._ticked = START_NS
        self.guard = self.replica()

    def replica(self) -> Guard:
        """One more replica, which remembers nothing."""
        return Guard(self.bus, self._patience, self.clock, PassingTracer())

    async def start(self) -> None:
        """Put the slices and the policy in place."""
        await self.bus.policy.put(f"pool.{POOL}", PoolPolicy(guard=self._policy))
        await self.bus.state.put(f"inventory.{NODE}", Inventory(node=NODE, pool=POOL, boot_id="b", devices=()))
        for place in self._places:
            await self.write(_record(place))

    async def write(self, record: SliceRecord) -> None:
        """Let a slice stand so, in its record and in the ledger."""
        self.records[record.id] = record
        await self.bus.state.put(f"slice.{record.id}", record)
        devices: dict[str, dict[str, LedgerEntry]] = {}
        for each in self.records.values():
            for placement in each.placements if each.phase is Phase.PLACED else ():
                devices.setdefault(placement.device_id, {})[each.id] = _entry(each, placement)
        await self.bus.state.put(f"ledger.{NODE}", Ledger(node=NODE, generation=1, devices=devices))

    async def say(self, *events: Fact) -> None:
        """Let events happen, at their own time, and the guard and the planner do what follows."""
        for event in events:
            await self._pass_to(event.at)
            if isinstance(event, SliceSampled):
                self.guard.on_sampled(event)
            else:
                await self.bus.publish(event)
                await self.serve()

    async def serve(self, guard: Guard | None = None) -> None:
        """Let a replica handle what is there, and the planner what it asks for."""
        for stream, subject in (("SLO", "slo.report.*"), ("SLICES", "slice.refused.*")):
            async for _ in self._batches(stream, subject, guard or self.guard):
                await self.plan()

    async def plan(self) -> None:
        """Carry out the commands that have come."""
        for message in self.bus.streams["COMMANDS"][self._taken :]:
            self._taken = message.sequence
            command = decode(message.subject, message.data, message.content_type)
            assert isinstance(command, Command)
            self.commands.append(command)
            await self._apply(command, message.sequence)

    async def order(self, command: Command) -> None:
        """Let an operator have his way."""
        await self.bus.publish(command)
        await self.plan()

    def told(self, kind: type[F]) -> list[F]:
        """What was published of a kind, oldest first."""
        return [event for event in self.bus.published("slo.>") if isinstance(event, kind)]

    async def _pass_to(self, at: int) -> None:
        while at - self._ticked >= TICK_NS:
            self._ticked += TICK_NS
            self.clock.advance(max(0, self._ticked - self.clock.unix_ns()) / 1e9)
            with suppress(BusError):  # as the service: the next tick goes on
                await self.guard.on_tick()
            await self.plan()
        self.clock.advance(max(0, at - self.clock.unix_ns()) / 1e9)

    async def _batches(self, stream: str, subject: str, guard: Guard) -> AsyncIterator[None]:
        consumer = cast("AsyncGenerator[list[Delivery], None]", self.bus.consume(stream, "slo_guard", subjects=(subject,)))
        async with aclosing(consumer) as batches:
            while True:
                try:
                    async with asyncio.timeout(0):
                        deliveries = await anext(batches)
                except TimeoutError:
                    return
                await guard.on_batch(deliveries)
                yield

    async def _apply(self, command: Command, sequence: int) -> None:
        assert isinstance(command, ControlSlice | ResizeSlice | MoveSlice | EvictSlice)
        record = self.records.get(command.id)
        if record is None or record.phase is not Phase.PLACED:
            return await self._refuse(command.id, command, sequence, "no such slice")
        after = replace(record, sequence=sequence, generation=record.generation + 1)
        if isinstance(command, ControlSlice):
            after = replace(after, control=command.control, control_sequence=sequence)
        elif isinstance(command, EvictSlice):
            after = replace(after, phase=Phase.EVICTED)
        elif isinstance(command, MoveSlice):
            moved = tuple(replace(p, device_id=f"{p.device_id}-{record.id}") for p in record.placements)
            after = replace(after, placements=moved)
        else:
            sized = tuple(_sized(placement, command) for placement in record.placements)
            if self._over(record.id, sized):
                return await self._refuse(command.id, command, sequence, "no compute is free")
            after = replace(after, placements=sized, size_sequence=sequence)
        return await self.write(after)

    def _over(self, slice_id: str, placements: tuple[Placement, ...]) -> bool:
        first = placements[0]
        others = sum(
            placement.share_ppm
            for record in self.records.values()
            for placement in record.placements
            if record.id != slice_id and record.phase is Phase.PLACED and placement.device_id == first.device_id
        )
        return others + first.share_ppm > PPM

    async def _refuse(self, slice_id: str, command: Command, sequence: int, why: str) -> None:
        subject = {ResizeSlice: "slice.resize", ControlSlice: "slice.control", MoveSlice: "slice.move"}.get(
            type(command), "slice.evict"
        )
        fact = SliceRefused(
            at=self.clock.unix_ns(), sequence=sequence, command=subject, id=slice_id, field="share_ppm", given="", allowed="",
            message=why,
        )  # fmt: skip
        await self.bus.publish(fact)


def _record(place: Place) -> SliceRecord:
    placements = tuple(
        Placement(
            node=NODE, device_id=place.device_id if index == 0 else f"{place.device_id}-{index}", model="L4",
            vendor=Vendor.NVIDIA, mode=place.mode, vram_bytes=1 << 30, share_ppm=place.share_ppm, limits=place.limits,
        )
        for index in range(place.members)
    )  # fmt: skip
    request = RequestSlice(tenant=place.tenant, id=place.id, vram_bytes=1 << 30, tier=place.tier, slo=place.slo)
    return SliceRecord(
        id=place.id, request=request, phase=Phase.PLACED, generation=1, sequence=0, request_sequence=0, placements=placements
    )


def _entry(record: SliceRecord, placement: Placement) -> LedgerEntry:
    return LedgerEntry(
        id=record.id, tenant=record.request.tenant, generation=record.generation, tier=record.request.tier, mode=placement.mode,
        vram_bytes=placement.vram_bytes, share_ppm=placement.share_ppm, control=record.control, limits=placement.limits,
    )  # fmt: skip


def _sized(placement: Placement, command: ResizeSlice) -> Placement:
    return replace(
        placement, share_ppm=command.share_ppm or placement.share_ppm, limits=placement.limits.changed_by(command.limits)
    )


class _Line(Struct, forbid_unknown_fields=True):
    """A line of the programme's input that is no event."""

    place: Place | None = None
    policy: Guarding | None = None
    patience: Patience | None = None


async def rehearse(lines: list[bytes]) -> dict[str, Any]:
    """What the guard does over these lines.

    Raises:
        ServiceError: a line is neither a setting nor an event.
    """
    setting: dict[str, Any] = {"places": [], "policy": Guarding(), "patience": Patience()}
    events: list[Fact] = []
    for number, line in enumerate(lines, start=1):
        try:
            if b'"type"' in line:
                events.append(msgspec.json.decode(line, type=SloReported | SliceSampled))
                continue
            read = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise ServiceError(f"line {number}: got {line[:60]!r}, allowed: a setting or an event ({error})") from None
        setting["places"] += [read.place] if read.place is not None else []
        setting["policy"] = read.policy or setting["policy"]
        setting["patience"] = read.patience or setting["patience"]
    rehearsal = Rehearsal(tuple(setting["places"]), setting["policy"], setting["patience"])
    await rehearsal.start()
    await rehearsal.say(*events)
    return {
        "events": len(events),
        "seconds": (events[-1].at - events[0].at) / 1e9 if events else 0.0,
        "breaches": rehearsal.told(SloBreached),
        "actions": rehearsal.told(SloActed),
        "measured": rehearsal.told(SloMeasured),
        "ignored": rehearsal.told(SloIgnored),
        "commands": len(rehearsal.commands),
    }


def main() -> None:
    """Run as a programme."""
    try:
        answer = asyncio.run(rehearse([line for line in sys.stdin.buffer.read().splitlines() if line.strip()]))
    except ServiceError as error:
        sys.exit(f"rehearsing: {error}")
    print(msgspec.json.encode(answer).decode())


if __name__ == "__main__":
    main()
