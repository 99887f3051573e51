"""Reports on the bus become breaches, commands and actions, once each, whatever is lost, repeated or restarted."""

import asyncio

import msgspec
import pytest
from msgspec.structs import replace

from mica.events import (
    Control,
    ControlSlice,
    Guarding,
    GuardLease,
    GuardMode,
    GuardState,
    Mode,
    Phase,
    ResizeSlice,
    SliceRefused,
    SliceSampled,
    Slo,
    SloActed,
    SloBreached,
    SloIgnored,
    SloMeasured,
    SloReported,
    Tier,
)
from mica.slo_guard.rehearsing import START_NS, Place, Rehearsal

SECOND = 1_000_000_000
NO_CEILING = Guarding(ceiling=())
S1 = Place(id="s1", share_ppm=200_000, slo=Slo(p99_ms=50))


class World(Rehearsal):
    """Slice s1, which was promised 50 ms, and whoever else a test wants beside it."""

    def __init__(self, *others: Place, policy: Guarding = NO_CEILING, s1: Place = S1) -> None:
        super().__init__((s1, *others), policy)
        self.at = START_NS
        self.id = "s1"

    async def report(self, p99_ms: float = 90.0, id_: str = "") -> None:
        """One window of a second."""
        self.at += SECOND
        await self.say(SloReported(at=self.at, id=id_ or self.id, p99_ms=p99_ms, requests=10))

    async def breach(self, count: int = 3) -> None:
        """So many bad windows."""
        for _ in range(count):
            await self.report()

    async def peace(self, count: int) -> None:
        """So many good ones."""
        for _ in range(count):
            await self.report(p99_ms=10.0)

    def actions(self) -> list[tuple[str, int | None]]:
        return [(event.action, event.share_ppm) for event in self.told(SloActed)]

    def shares(self) -> list[int | None]:
        return [command.share_ppm for command in self.commands if isinstance(command, ResizeSlice)]

    def controls(self) -> list[tuple[str, str]]:
        return [(command.id, str(command.control)) for command in self.commands if isinstance(command, ControlSlice)]

    async def state(self, id_: str = "s1") -> GuardState | None:
        entry = await self.bus.state.get(f"guard.{id_}", GuardState)
        return entry.value if entry else None

    async def change(self, id_: str = "s1", **changes: object) -> None:
        await self.write(replace(self.records[id_], **changes))

    async def restart(self) -> None:
        """Another replica, which knows what is in KV and no more."""
        self.guard = self.replica()
        watch = self.bus.state.watch("guard.*", GuardState)
        self.guard.on_states(await anext(watch))
        await watch.aclose()  # type: ignore[attr-defined]


async def world(*others: Place, **options: object) -> World:
    """A world that is in place."""
    made = World(*others, **options)  # type: ignore[arg-type]
    await made.start()
    return made


async def test_a_breach() -> None:
    """Three bad windows in a row make one breach, one command with its reason, and one action with what it should bring."""
    w = await world()
    await w.breach(2)
    assert w.told(SloBreached) == []
    await w.breach(1)
    (breach,), (command,), (action,) = w.told(SloBreached), w.commands, w.told(SloActed)
    assert (breach.objective, breach.observed, breach.promised) == ("p99_ms", 90.0, 50.0)
    assert breach.burn_short > breach.burn_long > 14.4
    assert isinstance(command, ResizeSlice)
    assert (command.id, command.share_ppm, command.vram_bytes) == ("s1", 250_000, None)
    assert command.reason == "slo_guard: p99_ms of s1 is 90, promised 50"
    assert (action.action, action.share_ppm, action.target) == ("resize", 250_000, "")
    assert "a quarter more compute" in action.expected


async def test_a_ceiling_comes_first() -> None:
    """What others leave idle costs nobody anything."""
    w = await world(policy=Guarding())
    await w.breach(3)
    assert [command.limits.ceiling_ppm for command in w.commands if isinstance(command, ResizeSlice)] == [1_000_000]
    assert w.records["s1"].placements[0].limits.ceiling_ppm == 1_000_000


async def test_good_windows_write_nothing() -> None:
    """A slice that keeps its promise costs no state."""
    w = await world()
    await w.peace(5)
    assert await w.state() is None


async def test_what_helped_is_measured_and_kept_for_a_while() -> None:
    """Two good windows later it is told what it was and is; a minute later it is taken back, and told so."""
    w = await world()
    await w.breach(3)
    await w.peace(3)
    (measured,) = w.told(SloMeasured)
    assert (measured.before, measured.after, measured.helped, measured.undone) == (90.0, 10.0, True, False)
    await w.peace(57)
    assert w.shares() == [250_000]
    await w.peace(5)
    assert w.shares() == [250_000, 200_000]
    assert [(event.helped, event.undone) for event in w.told(SloMeasured)] == [(True, False), (True, True)]
    assert w.told(SloMeasured)[0].action_id == w.told(SloActed)[0].action_id


async def test_what_did_not_help_is_undone() -> None:
    """A resize that changes nothing is taken back, not before its cool-down is over, and not tried again at once."""
    w = await world()
    await w.breach(12)
    assert w.shares() == [250_000]
    await w.breach(10)
    assert w.shares() == [250_000, 200_000]
    (measured,) = w.told(SloMeasured)
    assert (measured.helped, measured.undone, measured.message) == (False, True, "it did not help")
    await w.breach(30)
    assert w.shares() == [250_000, 200_000]
    assert [action for action, _ in w.actions()] == ["resize", "none"]
    assert "resize: done, or tried in vain" in w.told(SloActed)[-1].message


async def test_half_a_help_is_kept_and_more_is_done() -> None:
    """The objective is a third better and still too bad: the next step is taken, a cool-down later."""
    w = await world()
    await w.breach(3)
    for _ in range(12):
        await w.report(p99_ms=60.0)
    assert w.shares() == [250_000, 312_500]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"share_ppm": 1_000_000}, "the slice has the whole device"),
        ({"mode": Mode.HARDWARE}, "a hardware partition has the share it was made with"),
    ],
)
async def test_nothing_can_be_done(changes: dict[str, object], reason: str) -> None:
    """There is a breach and the action "none" with the reason, no command, and then quiet for longer and longer."""
    w = await world(s1=msgspec.structs.replace(S1, **changes))
    await w.breach(3)
    assert w.commands == []
    assert len(w.told(SloBreached)) == 1
    assert w.actions() == [("none", None)]
    assert reason in w.told(SloActed)[0].message
    await w.breach(300)
    assert [action for action, _ in w.actions()] == ["none"] * 3


async def test_a_paused_slice() -> None:
    """Who is held back on purpose gets no more for it."""
    w = await world()
    await w.change(control=Control.PAUSE)
    await w.breach(3)
    assert w.commands == []


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.RELEASING])
async def test_a_slice_that_is_not_running(phase: Phase) -> None:
    """A slice without a place, or on its way out, is not judged."""
    w = await world()
    await w.change(phase=phase)
    await w.breach(3)
    assert await w.state() is None


async def test_the_end_of_a_slice() -> None:
    """When a slice has ended, what was done for it is undone and what was remembered of it is forgotten."""
    w = await world(Place(id="batch", tier=Tier.BURST, share_ppm=300_000))
    await throttled(w)
    await w.change(phase=Phase.RELEASED)
    await w.breach(5)
    assert w.controls() == [("batch", "throttle"), ("batch", "run")]
    assert await w.state() is None
    assert await w.bus.state.get("guard_lease.batch", GuardLease) is None


async def test_an_unknown_slice_and_one_without_slo() -> None:
    """Reports that nobody asked for are taken off the stream and change nothing; those of no slice are counted and told."""
    w = await world(s1=replace(S1, slo=None))
    await w.breach(3)
    for _ in range(3):
        await w.report(id_="ghost")
    assert w.told(SloBreached) == []
    assert w.bus.deliver_again("SLO", "slo_guard") == 0
    for _ in range(70):
        await w.report()
    (ignored,) = w.told(SloIgnored)
    assert (ignored.reason, ignored.count, ignored.slices) == ("unknown_slice", 3, {"ghost": 3})


async def test_a_refusal() -> None:
    """A refused resize is told with the planner's words, and the ladder goes on at once."""
    w = await world(Place(id="big", share_ppm=790_000))
    await w.breach(3)
    assert w.actions() == [("resize", 250_000), ("none", None)]
    assert w.told(SloActed)[-1].message == "share from 200000 to 250000 ppm was refused: no compute is free"
    await w.breach(3)
    assert [action for action, _ in w.actions()] == ["resize", "none", "none"]
    assert len(w.commands) == 1


async def test_somebody_elses_refusal() -> None:
    """A tenant's own refused resize does not concern the guard."""
    w = await world()
    await w.breach(3)
    fact = SliceRefused(
        at=w.at, sequence=77, command="slice.resize", id="s1", field="share_ppm", given="", allowed="", message="no"
    )  # fmt: skip
    await w.bus.publish(fact)
    await w.serve()
    assert w.actions() == [("resize", 250_000)]


@pytest.mark.parametrize("failure", ["before", "after"])
@pytest.mark.parametrize("what", ["guard.s1", "guard_budget.default", "slo.breached.s1", "slice.resize", "slo.action.s1"])
async def test_lost_writes(what: str, failure: str) -> None:
    """Whichever write or publish is lost, before or after its effect, the breach has one command and one action."""
    w = await world()
    await w.breach(2)
    w.bus.fail_next(what, failure)  # type: ignore[arg-type]
    await w.breach(1)
    await w.serve()
    assert w.shares() == [250_000]
    assert w.actions() == [("resize", 250_000)]
    assert len(w.told(SloBreached)) == 1
    assert w.bus.deliver_again("SLO", "slo_guard") == 0
    state = await w.state()
    assert state is not None
    assert len(state.acted) == 1


@pytest.mark.parametrize("failure", ["before", "after"])
@pytest.mark.parametrize("what", ["guard.s1", "slice.control", "slo.measured.s1"])
async def test_lost_writes_while_it_is_undone(what: str, failure: str) -> None:
    """The neighbour is let go once, and that is told once, whatever is lost."""
    w = await world(Place(id="batch", tier=Tier.BURST, share_ppm=300_000))
    await throttled(w)
    await w.peace(58)
    w.bus.fail_next(what, failure)  # type: ignore[arg-type]
    await w.peace(20)
    assert w.controls() == [("batch", "throttle"), ("batch", "run")]
    assert [event.undone for event in w.told(SloMeasured)] == [False, True]
    assert w.records["batch"].control is Control.RUN


async def test_replicas_take_turns() -> None:
    """Replicas that handle one report each count together and act once."""
    w = await world()
    for _ in range(3):
        w.guard = w.replica()
        await w.breach(1)
    assert w.shares() == [250_000]


async def test_two_replicas_race() -> None:
    """Two replicas that hold the same report act once: the second finds it judged."""
    w = await world()
    await w.breach(2)
    w.clock.advance(1)
    report = SloReported(at=w.at + SECOND, id="s1", p99_ms=90.0)
    await asyncio.gather(w.replica().on_report(report, 3), w.replica().on_report(report, 3), return_exceptions=True)
    await w.replica().on_report(report, 3)
    await w.plan()
    assert w.shares() == [250_000]
    assert w.actions() == [("resize", 250_000)]


async def test_a_restart_goes_on() -> None:
    """A guard that starts anew after each window still measures, holds and undoes what another one did."""
    w = await world(Place(id="batch", tier=Tier.BURST, share_ppm=300_000))
    await throttled(w)
    for _ in range(65):
        await w.restart()
        await w.peace(1)
    assert w.controls() == [("batch", "throttle"), ("batch", "run")]


async def test_what_somebody_else_has_set_since_is_left() -> None:
    """An operator's word on the neighbour stands, be it the same word, and nobody undoes it."""
    for word in (Control.PAUSE, Control.THROTTLE):
        w = await world(Place(id="batch", tier=Tier.BURST, share_ppm=300_000))
        await throttled(w)
        await w.order(ControlSlice(id="batch", control=word))
        await w.peace(70)
        assert w.controls() == [("batch", "throttle"), ("batch", str(word))]
        state = await w.state()
        assert state is not None
        assert state.steps[0].note == f"somebody else has set its control word to {word} since"
        assert w.told(SloMeasured)[-1].undone is False


async def test_a_resize_of_the_neighbours_memory_does_not_keep_it_throttled() -> None:
    """What the guard has set is its control word: that is taken back, whatever else changed."""
    w = await world(Place(id="batch", tier=Tier.BURST, share_ppm=300_000))
    await throttled(w)
    await w.order(ResizeSlice(id="batch", share_ppm=310_000))
    await w.peace(70)
    assert w.records["batch"].control is Control.RUN


async def test_two_victims_and_one_neighbour() -> None:
    """The second victim goes on to what it can do itself while the neighbour is dealt with for the first."""
    second = Place(id="s2", share_ppm=200_000, slo=Slo(p99_ms=50))
    w = await world(Place(id="batch", tier=Tier.BURST, share_ppm=300_000), second)
    await throttled(w)
    w.id = "s2"
    for _ in range(4):
        await blame(w, 0.7)
        await w.breach(1)
    assert w.controls() == [("batch", "throttle")]
    assert [event.action for event in w.told(SloActed) if event.id == "s2"] == ["resize"]


async def test_the_fleets_budget() -> None:
    """One action an hour in the pool: the second slice is told that it is spent."""
    second = Place(id="s2", share_ppm=200_000, slo=Slo(p99_ms=50))
    w = await world(second, policy=replace(NO_CEILING, fleet_actions_per_hour=1))
    await w.breach(3)
    w.id = "s2"
    await w.breach(3)
    assert [(event.id, event.action) for event in w.told(SloActed)] == [("s1", "resize"), ("s2", "none")]
    assert w.told(SloActed)[-1].message == "the pool's budget of 1 actions an hour is spent"


async def test_a_dry_run() -> None:
    """What would be done is told, with all it rests on, and nothing is; again only after a rest."""
    w = await world(Place(id="batch", tier=Tier.BURST, share_ppm=300_000), policy=Guarding(mode=GuardMode.DRY_RUN))
    await blame(w, 0.1, seconds=30)
    for _ in range(40):
        await blame(w, 0.7)
        await w.breach(1)
    assert w.commands == []
    (acted,) = w.told(SloActed)
    assert (acted.action, acted.target, acted.control, acted.dry_run) == ("throttle", "batch", Control.THROTTLE, True)
    assert acted.evidence["gpu_pct_now"] == 70.0


async def test_off() -> None:
    """Nothing is told, done or remembered."""
    w = await world(policy=Guarding(mode=GuardMode.OFF))
    await w.breach(20)
    assert (w.told(SloBreached), w.told(SloActed), w.commands) == ([], [], [])


async def test_silence_lets_go() -> None:
    """When the slice falls silent, nothing is needed for it any more: the neighbour is let go after the hold."""
    w = await world(Place(id="batch", tier=Tier.BURST, share_ppm=300_000))
    await throttled(w)
    w.at += 150 * SECOND
    await w.say(SloReported(at=w.at, id="nobody"))
    assert w.controls() == [("batch", "throttle"), ("batch", "run")]


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("slo.report.s1", b"{not json"),
        ("slo.report.s1", b'{"at": 1}'),
        ("slo.report.s1", b'{"at": 1, "id": "s1", "p99_ms": "fast"}'),
        ("slo.report.s1", b'{"at": 1, "id": "s1", "p99_ms": NaN}'),
        ("slo.report.s1", b'{"at": 1, "id": "s2", "p99_ms": 9}'),
        ("slo.report.s1", b'{"at": 1, "id": "' + b"x" * 1_000_000 + b'"}'),
        ("slo.report.s1", b"\xff\xfe"),
    ],
)
async def test_malformed_reports(caplog: pytest.LogCaptureFixture, subject: str, body: bytes) -> None:
    """A report that cannot be understood is dropped with one line, and the next one is judged."""
    w = await world()
    await w.bus.publish_raw(subject, body)
    await w.breach(3)
    assert len(w.commands) == 1
    assert [record.levelname for record in caplog.records if "is dropped" in record.message] == ["WARNING"]
    assert all(len(record.getMessage()) < 500 for record in caplog.records)
    assert w.bus.deliver_again("SLO", "slo_guard") == 0


async def test_stale_reports() -> None:
    """Reports that waited while no guard ran do not move anything now."""
    w = await world()
    for _ in range(3):
        await w.bus.publish(SloReported(at=w.at, id="s1", p99_ms=90.0))
    w.clock.advance(3600)
    await w.serve()
    assert w.commands == []


async def test_a_bug_does_not_block_the_stream(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A message that the guard cannot handle for a reason nobody thought of is given up after a few attempts."""
    w = await world()
    monkeypatch.setattr(w.guard, "on_report", fail)
    await w.report()
    assert w.bus.deliver_again("SLO", "slo_guard") == 0
    assert sum("ZeroDivisionError" in (record.exc_text or str(record.exc_info)) for record in caplog.records) == 5


async def fail(*_: object) -> None:
    """What nobody thought of."""
    raise ZeroDivisionError


async def throttled(w: World) -> None:
    """A flood beside s1, found and stopped, and measured to have helped."""
    await blame(w, 0.1, seconds=30)
    for _ in range(4):
        await blame(w, 0.7)
        await w.breach(1)
    assert w.controls() == [("batch", "throttle")]
    await w.peace(4)


async def blame(w: World, gpu: float, seconds: int = 1) -> None:
    """So many seconds of the neighbour's work, as telemetry sees it, and of waiting slices beside it."""
    if not hasattr(w, "worked"):
        w.worked = {"batch": 0.0, "s1": 0.0, "s2": 0.0}  # type: ignore[attr-defined]
    for second in range(seconds):
        at = w.at + (second - seconds + 1 + (seconds == 1)) * SECOND
        w.worked["batch"] += gpu  # type: ignore[attr-defined]
        for id_, worked in w.worked.items():  # type: ignore[attr-defined]
            waited = (at - START_NS) // 2 if id_ != "batch" else 0
            sample = SliceSampled(
                at=at + 60 * SECOND, id=id_, tenant="t", node="n1", device_id="GPU-1", vram_used_bytes=0, vram_peak_bytes=0,
                vram_limit_bytes=1, gpu_ns=int(worked * 1e9), share_ppm=300_000, throttled_ns=max(0, waited + 30 * SECOND),
            )  # fmt: skip
            w.guard.sightings.see(sample, at / SECOND)
