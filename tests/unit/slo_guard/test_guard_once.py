"""Once each, whatever is lost, repeated, restarted or malformed; and who else has a say."""

import asyncio

import pytest
from guard_house import NO_CEILING, SECOND, blame, throttled, world
from msgspec.structs import replace

from mica.events import (
    Control,
    ControlSlice,
    Guarding,
    GuardMode,
    ResizeSlice,
    Slo,
    SloActed,
    SloBreached,
    SloMeasured,
    SloReported,
    Tier,
)
from mica.slo_guard.rehearsing import Place


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
