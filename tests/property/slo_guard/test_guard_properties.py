"""The guard against an adversary who chooses the loads, the clocks and what is lost: it never oscillates."""

import asyncio
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "slo_guard"))

from guard_plant import Load, Plant, plant

from mica.events import Control, Guarding, SloActed, SloMeasured, Tier
from mica.slo_guard import deciding
from mica.slo_guard.rehearsing import START_NS

POLICY = Guarding(actions_per_hour=6, cooldown_s=10.0, hold_s=20.0, hold_max_s=120.0)
LOADS = st.builds(
    Load,
    victim_hz=st.sampled_from([5.0, 40.0, 70.0, 90.0, 300.0]),
    neighbour=st.sampled_from([0.0, 0.05, 0.4, 0.9]),
    copies=st.sampled_from([0.0, 0.0, 16.0 * (1 << 30)]),
)
GAMES = st.lists(st.tuples(LOADS, st.integers(1, 90)), min_size=1, max_size=14)
TIERS = st.sampled_from([Tier.BURST, Tier.SPOT, Tier.GUARANTEED])
SLOW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate]
)
"""Each example is up to an hour of reports; they are short enough to be read as they are found."""


async def played(game: list[tuple[Load, int]], tier: Tier, policy: Guarding = POLICY, **options: Any) -> Plant:
    """The device after these loads, each for so many seconds."""
    made = await plant(neighbour=tier, policy=policy, period_s=1.0, **options)
    for load, seconds in game:
        await made.run(seconds, load)
    return made


def done(made: Plant) -> list[tuple[float, SloActed]]:
    """The actions that were carried out, and when (s)."""
    return [((event.at - START_NS) / 1e9, event) for event in made.rehearsal.told(SloActed) if event.action != "none"]


def flips(made: Plant) -> list[float]:
    """The times between a share that went up, came down and goes up again."""
    ups = [at_s for at_s, event in done(made) if event.action == "resize"]
    return [later - earlier for earlier, later in pairwise(ups)]


@SLOW
@given(GAMES, TIERS, st.integers(0, 3))
def test_whoever_chooses_the_loads_actions_are_bounded(game: list[tuple[Load, int]], tier: Tier, seed: int) -> None:
    """In any hour there are no more than the budget, each is undone at most once, and no share goes up twice in a cool-down."""
    made = asyncio.run(played(game, tier, seed=seed))
    times = [at_s for at_s, _ in done(made)]
    assert all(sum(at <= other < at + 3600 for other in times) <= POLICY.actions_per_hour for at in times)
    assert len(made.rehearsal.commands) <= 2 * len(times)
    undone = [event.action_id for event in made.rehearsal.told(SloMeasured) if event.undone]
    assert len(undone) == len(set(undone))
    assert all(gap >= 10.0 for gap in flips(made))
    assert len({event.action_id for _, event in done(made)}) == len(times)


@SLOW
@given(GAMES, TIERS)
def test_peace_ends_with_everything_as_it_was(game: list[tuple[Load, int]], tier: Tier) -> None:
    """After any game, when all is quiet for long enough, what helped has been taken back, or is kept because it costs nobody."""
    made = asyncio.run(played([*game, (Load(victim_hz=5.0, neighbour=0.0), 900)], tier))
    kept = {step.target for _, step in _kept(made)}
    neighbour = made.rehearsal.records["batch"]
    assert neighbour.control is Control.RUN or "batch" in kept or neighbour.phase != "placed"
    if neighbour.phase == "placed":
        assert neighbour.placements[0].share_ppm == 300_000
    assert neighbour.control is not Control.PAUSE


def _kept(made: Plant) -> list[tuple[float, SloActed]]:
    measured = {event.action_id for event in made.rehearsal.told(SloMeasured) if event.undone or not event.helped}
    return [
        (at_s, event) for at_s, event in done(made) if event.action_id not in measured and event.action in ("throttle", "ceiling")
    ]


@SLOW
@given(LOADS, TIERS)
def test_a_constant_load_ends_in_a_fixed_point(load: Load, tier: Tier) -> None:
    """From some time on there is at most one action in ``hold_max_s``; a share that never suffices is tried once."""
    made = asyncio.run(played([(load, 2400)], tier))
    late = [at_s for at_s, _ in done(made) if at_s > 1200]
    assert all(later - earlier >= POLICY.hold_max_s for earlier, later in pairwise(late))
    assert sum(event.action == "resize" for at_s, event in done(made) if at_s > 1200) <= 1


LOSSES = st.lists(
    st.tuples(
        st.integers(0, 13),
        st.sampled_from(["guard.*", "slice.control", "slice.resize", "slo.action.*", "slo.measured.*"]),
        st.sampled_from(["before", "after"]),
    ),
    max_size=6,
)


@SLOW
@given(GAMES, TIERS, LOSSES)
def test_what_is_lost_is_not_done_twice(game: list[tuple[Load, int]], tier: Tier, losses: list[tuple[int, str, str]]) -> None:
    """Writes and publishes that are lost, and a restart at each of them, change nothing of that."""

    async def run() -> Plant:
        made = await plant(neighbour=tier, policy=POLICY, period_s=1.0)
        for index, (load, seconds) in enumerate(game):
            for at, what, failure in losses:
                if at == index:
                    made.rehearsal.bus.fail_next(what, failure)  # type: ignore[arg-type]
                    made.rehearsal.guard = made.rehearsal.replica()
            await made.run(seconds, load)
        return made

    made = asyncio.run(run())
    names = [event.action_id for _, event in done(made)]
    assert len(names) == len(set(names))
    told = [(event.action_id, event.undone, event.helped) for event in made.rehearsal.told(SloMeasured)]
    assert len(told) == len(set(told))
    assert len(made.rehearsal.commands) <= 2 * len(names)


def test_a_guard_without_hysteresis_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with no rest and nothing remembered as tried, the same adversary drives the share up and down."""
    monkeypatch.setattr(deciding, "tried", lambda state: set())
    monkeypatch.setattr(deciding, "spent", lambda state, now: ())
    policy = Guarding(actions_per_hour=60, cooldown_s=1.0, hold_s=5.0, hold_max_s=5.0, ceiling=())
    made = asyncio.run(played([(Load(victim_hz=300.0), 600)], Tier.GUARANTEED, policy))
    times = [at_s for at_s, _ in done(made)]
    assert max(sum(at <= other < at + 3600 for other in times) for at in times) > POLICY.actions_per_hour
    assert len(made.rehearsal.commands) > 20
