"""What ``mica show`` tells of a slice's last breach."""

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "slo_guard"))

from guard_plant import Load, Plant, plant

from mica.cli._breach import breach_lines, breach_row
from mica.events import Control, ControlSlice, Guarding, GuardMode, GuardState, Tier


async def state_of(made: Plant) -> GuardState:
    """What the guard remembers."""
    entry = await made.rehearsal.bus.state.get("guard.chat", GuardState)
    assert entry is not None
    return entry.value


def told(made: Plant) -> str:
    """The story now."""
    return "\n".join(breach_lines(asyncio.run(state_of(made)), made.now()))


def test_a_slice_without_a_breach_has_no_story() -> None:
    """Nothing is shown."""
    assert breach_lines(GuardState(id="chat"), 0) == []
    assert breach_row(None) is None
    assert breach_row(GuardState(id="chat")) is None


def test_the_whole_story() -> None:
    """What was promised and seen, who was blamed by which figures, what was done, expected, measured, and that it was undone."""

    async def run() -> Plant:
        made = await plant(neighbour=Tier.BURST)
        await made.run(20, Load(neighbour=0.9))
        await made.run(150, Load(neighbour=0.05))
        return made

    made = asyncio.run(run())
    story = told(made)
    for line in (
        "promised   p99 100 ms",
        "observed   307 ms",
        "found 1.5 s later; the error budget burned 15 times too fast over 1 s and 3.7 times over 8 s",
        "blamed     batch: batch went from 5 % of the device to 60 % of the device as it began",
        "GPU before 5 %, GPU now 60 %",
        "done: throttle to batch: batch is held to its share of 30 %",
        "expected: batch falls back to 30 % of the device, from 60 %",
        "measured: p99 from 307 to 76.8 ms: it helped",
        ": it is not needed any more",
        "kept again",
    ):
        assert line in story
    row = breach_row(asyncio.run(state_of(made)))
    assert row is not None
    assert (row["blamed"], row["steps"][0]["rung"], row["steps"][0]["evidence"]["gpu_pct_now"]) == ("batch", "throttle", 60.0)


def test_what_never_helps_and_what_goes_on() -> None:
    """Each attempt with what was measured, that nothing is left, and when it is tried again."""

    async def run() -> Plant:
        made = await plant(neighbour=None)
        await made.run(30, Load(victim_hz=400))
        return made

    story = told(asyncio.run(run()))
    assert "blamed     nobody else: its own requests rose from 40 to" in story
    assert story.count("it did not help") >= 3
    assert "nothing was left to do: ceiling: done, or tried in vain" in story
    assert "goes on; tried again in 45s" in story


@pytest.mark.parametrize("mode", [GuardMode.DRY_RUN, GuardMode.ACT])
def test_a_dry_run_and_what_an_operator_has_taken_over(mode: GuardMode) -> None:
    """What would have been done is told as such; what somebody else has set since is left, with that reason."""

    async def run() -> Plant:
        made = await plant(neighbour=Tier.BURST, policy=Guarding(mode=mode))
        await made.run(10, Load(neighbour=0.9))
        await made.rehearsal.order(ControlSlice(id="batch", control=Control.PAUSE))
        await made.run(90, Load(neighbour=0.05))
        return made

    story = told(asyncio.run(run()))
    expected = {
        GuardMode.DRY_RUN: "would have done: throttle to batch",
        GuardMode.ACT: "somebody else has set its control word to pause since",
    }
    assert expected[mode] in story
