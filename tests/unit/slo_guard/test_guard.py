"""Reports on the bus become breaches, commands and actions."""

import msgspec
import pytest
from guard_house import S1, World, blame, throttled, world
from msgspec.structs import replace

from mica.events import (
    Control,
    Guarding,
    GuardLease,
    Mode,
    Phase,
    ResizeSlice,
    SliceRefused,
    SloActed,
    SloBreached,
    SloIgnored,
    SloMeasured,
    Tier,
    WorkLimits,
)
from mica.slo_guard.rehearsing import Place

BATCH = Place(id="batch", share_ppm=300_000, tier=Tier.SPOT, limits=WorkLimits(ceiling_ppm=1_000_000), tenant="other")
"""A flood that may use all of the device."""


async def held(w: World) -> None:
    """A spot flood that was throttled with success, and whose neighbour runs as near to its promise as 46 of 50 ms."""
    await blame(w, 0.1, seconds=30)
    for _ in range(3):
        await blame(w, 0.7)
        await w.breach(1)
    assert w.controls() == [("batch", "throttle")]
    for late in (0, 0, 0, 1, 0):
        await w.counted(52.0 if late else 46.0, late)
    assert w.told(SloMeasured)[0].helped


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


async def test_what_leaves_no_room_is_followed_without_another_late_request() -> None:
    """One was late since, and the slowest of the last windows are as near: the neighbour's next rung, and not the slice's own."""
    w = await world(BATCH)
    await held(w)
    await blame(w, 0.3)
    await w.counted(46.0)
    assert [(event.action, event.target) for event in w.told(SloActed)] == [("throttle", "batch"), ("squeeze", "batch")]


async def test_what_has_room_again_is_left() -> None:
    """The same with a last window that is far from the promise."""
    w = await world(BATCH)
    await held(w)
    await blame(w, 0.3)
    await w.counted(20.0)
    assert [event.action for event in w.told(SloActed)] == ["throttle"]


async def test_a_step_that_was_taken_near_the_promise_is_not_in_vain_for_one_bad_window() -> None:
    """It is measured against what was near; a burst of late requests does not undo it."""
    w = await world(BATCH)
    await held(w)
    await blame(w, 0.3)
    await w.counted(46.0)
    for _ in range(6):
        await w.counted(70.0, late=2)
    assert [event.undone for event in w.told(SloMeasured)] == [False]
    for _ in range(4):
        await w.counted(30.0)
    assert [(event.before, event.helped) for event in w.told(SloMeasured)][1:] == [(46.0, True)]


async def test_a_slice_of_which_nothing_ends_any_more() -> None:
    """What has taken too long is late before it ends: the neighbour is throttled, and, as nothing moves, its next rung comes."""
    w = await world(BATCH)
    await blame(w, 0.1, seconds=30)
    for _ in range(3):
        await blame(w, 0.7)
        await w.stuck(4)
        await w.stuck(4)
    (breach,) = w.told(SloBreached)
    assert (breach.objective, breach.observed) == ("late", 1.0)
    for _ in range(8):
        await w.stuck(4)
    assert [event.action for event in w.told(SloActed)][:2] == ["throttle", "squeeze"]
    assert w.told(SloMeasured)[0].message == "it did not help"


async def test_what_is_under_way_for_long_and_not_too_long_says_nothing() -> None:
    """As of a server with few and long requests."""
    w = await world(BATCH)
    await blame(w, 0.1, seconds=30)
    for _ in range(20):
        await blame(w, 0.7)
        await w.stuck(1)
    assert (w.told(SloBreached), await w.state()) == ([], None)


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
