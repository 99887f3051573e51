"""The whole ladder on a device in closed form: floods, own demand, what can never be met, and an hour of health."""

import math
from itertools import pairwise

import pytest
from guard_plant import QUIET, Load, Plant, plant
from msgspec.structs import replace

from mica.events import Control, Guarding, Mode, SloActed, SloBreached, SloMeasured, Tier
from mica.slo_guard import burning, steps
from mica.slo_guard.blaming import has_witness
from mica.slo_guard.weighing import Patience


def actions(made: Plant) -> list[tuple[float, str, str]]:
    """When, what, and to whom."""
    return [(since(made, event.at), event.action, event.target or event.id) for event in made.rehearsal.told(SloActed)]


def since(made: Plant, at: int) -> float:
    """Seconds since the device began."""
    return made.at_s - (made.now() - at) / 1e9


def gap_s(made: Plant) -> float:
    """Between the first two actions."""
    (first, _, _), (second, _, _) = actions(made)[:2]
    return second - first


async def test_a_flood_is_detected_in_two_seconds_and_over_in_five() -> None:
    """A burst neighbour that borrows too much is named, throttled, measured to have been it, and let go afterwards."""
    made = await plant(neighbour=Tier.BURST)
    await made.run(20, Load(neighbour=0.9))
    (breach,) = made.rehearsal.told(SloBreached)
    assert since(made, breach.at) - 30 <= 2.0
    assert [(what, who) for _, what, who in actions(made)] == [("throttle", "batch")]
    assert all(p99_ms <= 100 for at_s, p99_ms in made.history if at_s > 35)
    (acted,) = made.rehearsal.told(SloActed)
    assert (acted.evidence["gpu_pct_before"], acted.evidence["gpu_pct_now"]) == (5.0, 60.0)
    await made.run(120, Load(neighbour=0.05))
    assert made.rehearsal.records["batch"].control is Control.RUN
    assert [(event.helped, event.undone) for event in made.rehearsal.told(SloMeasured)] == [(True, False), (True, True)]


async def test_a_flood_is_detected_sooner_where_a_neighbour_is_seen_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """With telemetry a second of it is enough; the control, which nobody tells who began, takes longer."""
    found = []
    for seen in (True, False):
        monkeypatch.setattr("mica.slo_guard.handlers.has_witness", has_witness if seen else lambda *_: False)
        made = await plant(neighbour=Tier.BURST, disturbance=2.0)
        await made.run(20, Load(neighbour=0.9))
        found.append(since(made, made.rehearsal.told(SloBreached)[0].at) - 30)
    assert found[0] <= 1.0 < found[1]


async def test_a_constant_flood_ends_in_a_fixed_point() -> None:
    """Each time that it is let go it floods again: it is held twice as long, and after the third time for good."""
    made = await plant(neighbour=Tier.BURST, period_s=1.0)
    await made.run(7200, Load(neighbour=0.9))
    acted = actions(made)
    assert [what for _, what, _ in acted] == ["throttle"] * 4
    holds = [later - earlier for (earlier, _, _), (later, _, _) in pairwise(acted)]
    assert holds[1] > 1.8 * holds[0]
    assert holds[2] > 1.8 * holds[1]
    assert acted[-1][0] < 600
    assert made.rehearsal.records["batch"].control is Control.THROTTLE


async def test_a_spot_neighbour_is_squeezed_then_paused() -> None:
    """The first is measured to be in vain and undone; the second helps, and the first is not in force beside it."""
    made = await plant(neighbour=Tier.SPOT, disturbance=2.0)
    await made.run(30, Load(neighbour=0.9))
    assert [what for _, what, _ in actions(made)] == ["squeeze", "pause"]
    record = made.rehearsal.records["batch"]
    assert (record.control, record.placements[0].share_ppm) == (Control.PAUSE, 300_000)
    assert all(p99_ms <= 100 for at_s, p99_ms in made.history if at_s > 38)


async def test_what_helped_and_falls_short_is_followed_at_once() -> None:
    """Half of the flood gone leaves one request in twenty late: the next rung does not wait for the cool-down to be over."""
    made = await plant(neighbour=Tier.SPOT, disturbance=0.8)
    await made.run(30, Load(neighbour=0.9))
    assert [what for _, what, _ in actions(made)] == ["squeeze", "pause"]
    assert made.rehearsal.told(SloMeasured)[0].helped
    assert gap_s(made) < Patience().cooldown_s
    assert gap_s(made) >= steps.SETTLE_S + steps.ENOUGH_S


async def test_what_helped_and_leaves_no_room_is_followed_at_once() -> None:
    """All of the slowest are near the promise, and one is late: nobody waits until that is certain by their number."""
    gaps = []
    for near in (burning.NEAR, math.inf):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mica.slo_guard.burning.NEAR", near)
            made = await plant(neighbour=Tier.SPOT, disturbance=0.78)
            await made.run(40, Load(neighbour=0.9))
            gaps.append(gap_s(made))
    assert gaps[0] < gaps[1]


async def test_a_cool_down_that_a_pool_asks_for_is_kept() -> None:
    """The policy's word counts, also for what falls short."""
    made = await plant(neighbour=Tier.SPOT, disturbance=0.8, policy=Guarding(cooldown_s=12.0))
    await made.run(60, Load(neighbour=0.9))
    assert gap_s(made) >= 12.0


async def test_a_cool_down_is_for_what_helped() -> None:
    """What was in vain is followed by the next rung at once, whatever the pool asks for."""
    made = await plant(neighbour=Tier.SPOT, disturbance=2.0, policy=Guarding(cooldown_s=40.0))
    await made.run(30, Load(neighbour=0.9))
    assert [what for _, what, _ in actions(made)] == ["squeeze", "pause"]


async def test_a_guard_that_never_finds_it_short_waits_for_the_cool_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: then the same requests are late for longer."""
    monkeypatch.setattr("mica.slo_guard.weighing.not_enough", lambda *_, **__: False)
    made = await plant(neighbour=Tier.SPOT, disturbance=0.8)
    await made.run(60, Load(neighbour=0.9))
    assert gap_s(made) >= Patience().cooldown_s


async def test_a_pause_is_tried_to_be_lifted_ever_more_rarely() -> None:
    """What takes from a neighbour what it had is never for good: it is taken back after ``hold_max_s``."""
    made = await plant(neighbour=Tier.SPOT, disturbance=2.0, unnoticed=QUIET, policy=Guarding(hold_max_s=240.0), period_s=1.0)
    await made.run(2400, Load(neighbour=0.9))
    pauses = [at_s for at_s, what, _ in actions(made) if what == "pause"]
    gaps = [later - earlier for earlier, later in pairwise(pauses)]
    assert 240 < max(gaps) < 260
    assert made.rehearsal.records["batch"].control is Control.PAUSE


async def test_its_own_demand_is_met_from_what_is_idle() -> None:
    """Twice the requests: nobody is blamed, and it may use what others leave."""
    made = await plant(neighbour=Tier.BURST)
    await made.run(20, Load(neighbour=0.05, victim_hz=85))
    (acted,) = made.rehearsal.told(SloActed)
    assert (acted.action, acted.target) == ("ceiling", "")
    assert acted.evidence == {"requests_before_hz": 40.0, "requests_now_hz": 84.0}
    assert made.history[-1][1] < 100


async def test_copies_are_blamed_and_squeezed() -> None:
    """A spot neighbour that fills the bus is held to half of its copies, and to nothing else."""
    made = await plant(neighbour=Tier.SPOT)
    await made.run(20, Load(neighbour=0.05, copies=16 << 30))
    (acted, *_) = made.rehearsal.told(SloActed)
    assert (acted.action, acted.target) == ("squeeze", "batch")
    assert acted.evidence["copied_mib_per_s_now"] == pytest.approx(16384, rel=0.05)


async def test_what_can_never_be_met_is_said_and_left_alone() -> None:
    """Ten times what the device can do: what does not help is undone, and tried again ever more rarely.

    The ceiling helps, if not enough, and takes nothing from anybody: it stays.
    """
    made = await plant(neighbour=None, period_s=1.0)
    await made.run(2 * 3600, Load(victim_hz=400))
    acted = actions(made)
    assert [what for _, what, _ in acted[:3]] == ["ceiling", "resize", "none"]
    rests = [at_s for at_s, what, _ in acted if what == "none"]
    gaps = [later - earlier for earlier, later in pairwise(rests)]
    assert all(later > 1.7 * earlier for earlier, later in pairwise(gaps[:4]))
    done = [at_s for at_s, what, _ in acted if what != "none"]
    assert all(sum(at <= other < at + 3600 for other in done) <= 12 for at in done)
    first = made.rehearsal.records["chat"].placements[0]
    assert (first.share_ppm, first.limits.ceiling_ppm or 0) == (400_000, 1_000_000)


async def test_hardware_gets_the_reason() -> None:
    """In hardware nothing can be done beside it, and that is what is said."""
    made = await plant(neighbour=Tier.SPOT, mode=Mode.HARDWARE, policy=Guarding(move=(), evict=()))
    await made.run(20, Load(victim_hz=200))
    assert made.rehearsal.commands == []
    assert "a hardware partition has the share it was made with" in made.rehearsal.told(SloActed)[0].message


async def test_without_telemetry_it_helps_itself() -> None:
    """A guard that sees no neighbours blames none."""
    made = await plant(neighbour=Tier.BURST, samples=False)
    await made.run(20, Load(neighbour=0.9))
    assert {who for _, _, who in actions(made)} == {"chat"}


def healthy(made: Plant, second: int) -> Load:
    """Load that goes up and down within what is promised, with a stall now and then, and a neighbour that comes and goes."""
    if second % 97 == 50:
        return Load(victim_hz=40, neighbour=0.9)
    return Load(victim_hz=20 + 20 * made.random.random(), neighbour=0.25 * made.random.random())


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("period_s", [0.5, 1.0])
async def test_an_hour_of_health(period_s: float, *, counted: bool) -> None:
    """No action at all, though every hundredth second is a bad one; telemetry and reports as in the field."""
    made = await plant(neighbour=Tier.BURST, counted=counted, period_s=period_s)
    for second in range(3600):
        await made.run(period_s if healthy(made, second).neighbour > 0.5 else 1.0, healthy(made, second))
    assert max(p99_ms for _, p99_ms in made.history) > 200
    assert actions(made) == []
    assert made.rehearsal.commands == []


async def test_a_guard_that_takes_one_window_at_its_word_fails_that_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with no patience the same hour has false actions."""
    monkeypatch.setattr(burning, "FAST", replace(burning.FAST, enter=1.0))
    monkeypatch.setattr(burning, "RUN_WINDOWS", 1)
    monkeypatch.setattr(burning, "RUN_S", 0.1)
    made = await plant(neighbour=Tier.BURST, period_s=0.5)
    for second in range(600):
        await made.run(1.0, healthy(made, second))
    assert len(actions(made)) >= 3


async def test_a_guard_without_holds_oscillates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: where what helped is let go at once, and never held longer, the flood is throttled again and again."""
    made = await plant(neighbour=Tier.BURST, policy=Guarding(hold_s=5.0, hold_max_s=5.0, actions_per_hour=60))
    monkeypatch.setattr(steps, "HARMLESS", frozenset())
    monkeypatch.setattr("mica.slo_guard.deciding.HARMLESS", frozenset())
    await made.run(600, Load(neighbour=0.9))
    assert len(actions(made)) > 20
