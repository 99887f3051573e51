"""Reports on the bus become breaches, commands and actions, once each, whatever is lost or repeated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
import pytest

from mica.bus import ManualClock, MemoryBus
from mica.events import (
    Control,
    GuardState,
    Mode,
    Phase,
    Placement,
    RequestSlice,
    ResizeSlice,
    SliceRecord,
    SliceRefused,
    Slo,
    SloActed,
    SloBreached,
    SloReported,
    Vendor,
)
from mica.observability import PassingTracer
from mica.slo_guard.handlers import Guard
from mica.slo_guard.judge import Policy


class World:
    """A bus with slice s1 on it, and as many replicas of the guard as a test wants."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.clock = ManualClock()
        self.record = SliceRecord(
            id="s1",
            request=RequestSlice(tenant="acme", vram_bytes=1 << 30, slo=Slo(p99_ms=50)),
            phase=Phase.PLACED,
            generation=1,
            sequence=1,
            request_sequence=1,
            placements=(placement(200_000),),
        )

    def replica(self) -> Guard:
        return Guard(self.bus, Policy(), self.clock, PassingTracer())

    async def write(self, **changes: object) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)
        await self.bus.state.put("slice.s1", self.record)

    async def report(self, p99_ms: float = 90.0) -> None:
        await self.bus.publish(SloReported(at=self.clock.unix_ns(), id="s1", p99_ms=p99_ms))

    async def serve(self, guard: Guard | None = None) -> None:
        """Let a replica handle what is there now."""
        for stream, subject in (("SLO", "slo.report.*"), ("SLICES", "slice.refused.*")):
            async for _ in self._batches(stream, subject, guard or self.replica()):
                pass

    async def _batches(self, stream: str, subject: str, guard: Guard) -> AsyncIterator[None]:
        async with aclosing(self.bus.consume(stream, "slo_guard", subjects=(subject,))) as batches:
            while True:
                try:
                    async with asyncio.timeout(0):
                        deliveries = await anext(batches)
                except TimeoutError:
                    return
                await guard.on_batch(deliveries)
                yield

    async def breach(self, count: int = 3) -> None:
        for _ in range(count):
            await self.report()
            await self.serve()
            self.clock.advance(1)

    def commands(self) -> list[ResizeSlice]:
        return [event for event in self.bus.published("slice.resize") if isinstance(event, ResizeSlice)]

    def breaches(self) -> list[SloBreached]:
        return [event for event in self.bus.published("slo.breached.*") if isinstance(event, SloBreached)]

    def actions(self) -> list[tuple[str, int | None]]:
        return [(e.action, e.share_ppm) for e in self.bus.published("slo.action.*") if isinstance(e, SloActed)]

    async def state(self) -> GuardState | None:
        entry = await self.bus.state.get("guard.s1", GuardState)
        return entry.value if entry else None


def placement(share_ppm: int, mode: Mode = Mode.FCSP) -> Placement:
    """Where s1 is."""
    return Placement(
        node="n1",
        device_id="GPU-1",
        model="NVIDIA L4",
        vendor=Vendor.NVIDIA,
        mode=mode,
        vram_bytes=1 << 30,
        share_ppm=share_ppm,
    )


@pytest.fixture
async def world() -> World:
    world = World()
    await world.write()
    return world


async def test_a_breach(world: World) -> None:
    """Three bad windows in a row make one breach, one command with its reason, and one action."""
    await world.breach(2)
    assert world.breaches() == []
    await world.breach(1)
    (breach,), (command,) = world.breaches(), world.commands()
    assert (breach.objective, breach.observed, breach.promised) == ("p99_ms", 90.0, 50.0)
    assert (command.id, command.share_ppm, command.vram_bytes) == ("s1", 250_000, None)
    assert command.reason == "slo_guard: p99_ms is 90, promised 50"
    assert world.actions() == [("resize", 250_000)]


async def test_good_windows_write_nothing(world: World) -> None:
    """A slice that keeps its promise costs no state."""
    await world.report(p99_ms=10.0)
    await world.serve()
    assert await world.state() is None


async def test_cooldown(world: World) -> None:
    """While the cool-down runs nothing is asked for; after it the next step is."""
    await world.breach(3)
    await world.write(placements=(placement(250_000),))
    await world.breach(9)
    assert len(world.commands()) == 1
    await world.breach(1)
    assert [command.share_ppm for command in world.commands()] == [250_000, 312_500]


async def test_the_top(world: World) -> None:
    """A slice that has the whole device gets a breach and the action "none", and no command."""
    await world.write(placements=(placement(1_000_000),))
    await world.breach(3)
    assert world.commands() == []
    assert len(world.breaches()) == 1
    assert world.actions() == [("none", None)]


async def test_hardware_mode(world: World) -> None:
    """A hardware partition is not resized."""
    await world.write(placements=(placement(142_857, Mode.HARDWARE),))
    await world.breach(3)
    assert world.commands() == []
    assert world.actions() == [("none", None)]


async def test_a_paused_slice(world: World) -> None:
    """Who is held back on purpose gets no more for it."""
    await world.write(control=Control.PAUSE)
    await world.breach(3)
    assert world.commands() == []


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.RELEASING])
async def test_a_slice_that_is_not_running(world: World, phase: Phase) -> None:
    """A slice without a place, or on its way out, is not judged."""
    await world.write(phase=phase)
    await world.breach(3)
    assert await world.state() is None


async def test_the_end_of_a_slice(world: World) -> None:
    """When a slice has ended its guard state goes with it."""
    await world.breach(3)
    assert await world.state() is not None
    await world.write(phase=Phase.RELEASED)
    await world.breach(1)
    assert await world.state() is None


async def test_an_unknown_slice_and_one_without_slo(world: World) -> None:
    """Reports that nobody asked for are taken off the stream and change nothing."""
    await world.write(request=RequestSlice(tenant="acme", vram_bytes=1 << 30))
    await world.bus.publish(SloReported(at=world.clock.unix_ns(), id="ghost", p99_ms=90.0))
    await world.breach(3)
    assert world.breaches() == []
    assert world.bus.deliver_again("SLO", "slo_guard") == 0


async def test_refusal(world: World) -> None:
    """A refused resize is answered by the action "none" with the planner's words, and a minute's rest."""
    await world.breach(3)
    sequence = len(world.bus.streams["COMMANDS"])
    await world.bus.publish(refusal(sequence))
    await world.serve()
    assert world.actions() == [("resize", 250_000), ("none", None)]
    told = world.bus.published("slo.action.s1")[-1]
    assert isinstance(told, SloActed)
    assert told.message == "share to 250000 ppm was refused: 50000 ppm are free on GPU-1"
    await world.breach(50)
    assert len(world.commands()) == 1
    await world.breach(12)
    assert len(world.commands()) == 2


async def test_somebody_elses_refusal(world: World) -> None:
    """A tenant's own refused resize does not stop the guard."""
    await world.bus.publish(ResizeSlice(id="s1", share_ppm=1))
    await world.bus.publish(refusal(1))
    await world.breach(3)
    assert world.actions() == [("resize", 250_000)]


def refusal(sequence: int) -> SliceRefused:
    """What the planner says about command ``sequence``."""
    return SliceRefused(
        at=1,
        sequence=sequence,
        command="slice.resize",
        id="s1",
        field="share_ppm",
        given="250000",
        allowed="50000",
        message="50000 ppm are free on GPU-1",
    )


@pytest.mark.parametrize("failure", ["before", "after"])
@pytest.mark.parametrize("what", ["guard.s1", "slo.breached.s1", "slice.resize", "slo.action.s1"])
async def test_lost_writes(world: World, what: str, failure: str) -> None:
    """Whichever write or publish is lost, before or after its effect, the breach has one command and one action."""
    await world.breach(2)
    world.bus.fail_next(what, failure)  # type: ignore[arg-type]
    await world.breach(1)
    await world.serve()
    assert [command.share_ppm for command in world.commands()] == [250_000]
    assert world.actions() == [("resize", 250_000)]
    assert len(world.breaches()) == 1
    assert world.bus.deliver_again("SLO", "slo_guard") == 0


async def test_replicas(world: World) -> None:
    """Two replicas that take turns count together and act once."""
    first, second = world.replica(), world.replica()
    for guard in (first, second, first):
        await world.report()
        await world.serve(guard)
    assert len(world.commands()) == 1


async def test_two_replicas_race(world: World) -> None:
    """Two replicas that hold the same report act once: the second finds it judged."""
    await world.breach(2)
    report = SloReported(at=world.clock.unix_ns(), id="s1", p99_ms=90.0)
    await asyncio.gather(world.replica().on_report(report, 3), world.replica().on_report(report, 3), return_exceptions=True)
    await world.replica().on_report(report, 3)
    assert len(world.commands()) == 1
    assert world.actions() == [("resize", 250_000)]


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("slo.report.s1", b"{not json"),
        ("slo.report.s1", b'{"at": 1}'),
        ("slo.report.s1", b'{"at": 1, "id": "s1", "p99_ms": "fast"}'),
        ("slo.report.s1", b'{"at": 1, "id": "s2", "p99_ms": 9}'),
        ("slo.report.s1", b'{"at": 1, "id": "' + b"x" * 1_000_000 + b'"}'),
        ("slo.report.s1", b"\xff\xfe"),
    ],
)
async def test_malformed_reports(world: World, caplog: pytest.LogCaptureFixture, subject: str, body: bytes) -> None:
    """A report that cannot be understood is dropped with one line, and the next one is judged."""
    await world.bus.publish_raw(subject, body)
    await world.breach(3)
    assert len(world.commands()) == 1
    assert [record.levelname for record in caplog.records if "is dropped" in record.message] == ["WARNING"]
    assert all(len(record.getMessage()) < 500 for record in caplog.records)
    assert world.bus.deliver_again("SLO", "slo_guard") == 0


async def test_stale_reports(world: World) -> None:
    """Reports that waited while no guard ran do not move anything now."""
    for _ in range(3):
        await world.report()
    world.clock.advance(3600)
    await world.serve()
    assert world.commands() == []


async def test_a_bug_does_not_block_the_stream(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that the guard cannot handle for a reason nobody thought of is given up after a few attempts."""
    guard = world.replica()
    monkeypatch.setattr(guard, "on_report", fail)
    await world.report()
    await world.serve(guard)
    assert world.bus.deliver_again("SLO", "slo_guard") == 0
    assert sum("ZeroDivisionError" in (record.exc_text or str(record.exc_info)) for record in caplog.records) == 5


async def fail(*_: object) -> None:
    """What nobody thought of."""
    raise ZeroDivisionError
