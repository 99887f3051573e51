"""Plans of moves on small nodes, against every plan there is."""

import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "planner"))
sys.path.insert(0, str(Path(__file__).parent))

from planner_house import GIB
from repack_fleets import Row, every_plan, rows, violations

from mica.events import Mode, RequestSlice
from mica.planner.domain import repack_programme, repacking
from mica.planner.domain.repack_programme import Assignment, Model
from mica.planner.domain.repack_sites import Candidate, Site
from mica.planner.domain.repacking import plan

EPSILON = 1e-6
QUICK = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)


def check_against_every_plan(row: Row, moves_max: int) -> None:
    """The plan gains as much as the best of all; where its bound says less, that is what it says."""
    site = row.site()
    best = max(every_plan(site, moves_max))
    found = plan([site], moves_max)
    assert found.net <= best + EPSILON
    assert found.bound >= best - EPSILON
    if found.proven or all(each.placement.mode is Mode.FCSP for each in site.movables.values()):
        assert found.net == pytest.approx(best, abs=EPSILON)


@QUICK
@given(rows(slices=5), st.integers(1, 3))
def test_a_plan_is_as_good_as_the_best_of_all_plans(row: Row, moves_max: int) -> None:
    """On devices that run slices side by side always; in slots and windows where it says that it is proven. The bound is one."""
    check_against_every_plan(row, moves_max)


@QUICK
@given(rows(devices=4, slices=9), st.integers(1, 6))
def test_a_plan_never_oversells_keeps_its_budget_and_gains(row: Row, moves_max: int) -> None:
    """After every one of its moves; each slice moves once, and what is gained is more than it costs."""
    found = plan([row.site()], moves_max)
    assert violations(row, found.moves) == []
    assert len(found.moves) <= moves_max
    assert len({each.id for each in found.moves}) == len(found.moves)
    gained = sum(each.gain for each in found.moves)
    assert found.net == pytest.approx(gained - sum(each.cost for each in found.moves), abs=1e-4)
    assert found.after.value - found.before.value == pytest.approx(gained, abs=1e-4)
    assert found.net > 0 or not found.moves
    assert found.bound >= found.net


@QUICK
@given(rows(["l4"], name="n1"), rows(["l4"], name="n2"), st.integers(1, 4))
def test_moves_are_shared_out_among_nodes(one: Row, other: Row, moves_max: int) -> None:
    """Two nodes with one budget gain what the best split of it would give them."""
    both = plan([one.site(), other.site()], moves_max)
    splits = [plan([one.site()], left).net + plan([other.site()], moves_max - left).net for left in range(moves_max + 1)]
    assert len(both.moves) <= moves_max
    assert both.net <= max(splits) + EPSILON
    assert both.bound >= max(splits) - EPSILON
    powers = [
        sum(plan([row.site()], k).net for row, k in ((one, a), (other, b)))
        for a, b in ((1, 1), (2, 1), (1, 2))
        if a + b <= moves_max
    ]
    assert both.net >= max(powers, default=0.0) - EPSILON


@settings(QUICK, max_examples=10)
@given(rows(devices=3, slices=6))
def test_equal_nodes_give_equal_plans(row: Row) -> None:
    """Whatever was planned before."""
    assert plan([row.site()], 4) == plan([row.site()], 4)


@QUICK
@given(rows(["l4"], devices=3, slices=6), st.data())
def test_moves_that_others_have_chosen_are_the_only_ones(row: Row, data: Any) -> None:
    """A search elsewhere may name them; they are tried like any."""
    site = row.site()
    everything = [Candidate(id_, device_id) for id_ in sorted(site.movables) for device_id in site.devices]
    among = data.draw(st.sets(st.sampled_from(everything), max_size=4)) if everything else set()
    found = plan([site], 4, among=among)
    assert {Candidate(each.id, each.to_device_id) for each in found.moves} <= among
    assert found.net <= plan([site], 4).net + EPSILON


@pytest.mark.timeout(120)
def test_a_search_that_takes_the_first_move_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle has teeth: a programme that names any move at all, and says that none is better, is not the best."""

    def first(model: Model, moves_max: int) -> Assignment | None:
        moves = frozenset(sorted(model.candidates)[:1])
        return Assignment(moves, 0.0)

    monkeypatch.setattr(repack_programme.Model, "best", first)

    @settings(QUICK, max_examples=200, phases=[Phase.generate])
    @given(rows(["l4"], slices=5), st.integers(1, 3))
    def broken(row: Row, moves_max: int) -> None:
        check_against_every_plan(row, moves_max)

    with pytest.raises((AssertionError, BaseExceptionGroup)):
        broken()


def test_a_plan_in_any_order_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The books have teeth: moves that are tried on the node without its slices oversell a device on the way."""
    row = Row("l4", 3)
    for number, (device, gib) in enumerate([(0, 5), (1, 14), (2, 2), (2, 2), (2, 5), (0, 14)]):
        request = RequestSlice(tenant="t", id=f"s{number}", vram_bytes=gib * GIB, share_ppm=50_000)
        assert row.put(device, request)
    assert violations(row, plan([row.site()], 4).moves) == []
    where = Site.where
    monkeypatch.setattr(Site, "where", lambda site, candidate: where(site.bare(), candidate))
    monkeypatch.setattr(repacking, "ROUNDS", 1)
    assert violations(row, plan([row.site()], 4).moves) != []


@QUICK
@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=3, unique=True), st.integers(1, 4))
def test_nodes_that_are_not_searched_still_count_in_the_bound(seeds: list[int], moves_max: int) -> None:
    """With time for one node only, the plan is legal, and its bound is one for the plan of all."""
    built = [random_row(seed, f"n{number}") for number, seed in enumerate(seeds)]
    whole = plan([row.site() for row in built], moves_max)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repacking, "SITES_MAX", 1)
        part = plan([row.site() for row in built], moves_max)
    assert part.bound >= whole.net - EPSILON
    assert part.net <= whole.net + EPSILON
    for row in built:
        assert violations(row, [each for each in part.moves if each.node == row.node.name]) == []


def random_row(seed: int, name: str) -> Row:
    """Slices of any size on three devices."""
    draw, row = random.Random(seed), Row("l4", 3, name)
    for number in range(6):
        request = RequestSlice(
            tenant="t",
            id=f"{name}-s{number}",
            vram_bytes=draw.choice([2, 5, 9, 14]) * GIB,
            share_ppm=draw.choice([50_000, 300_000]),
        )
        row.put(draw.randrange(3), request)
    return row
