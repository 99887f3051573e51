"""What ``mica bench scale`` runs: placements in a large fleet, by the planner's own code; and what replicas are told of it."""

import pytest
from planner_house import ask

from mica.bus import ServiceError
from mica.planner.__main__ import HOME_VARIABLE, home
from mica.planner.domain.asks import Ask, Pins
from mica.planner.domain.placing import Placed, decide
from mica.planner.domain.sizing import Size
from mica.planner.scaling import FULL, Measured, fleet_of, requests, run


def test_a_fleet_is_filled_and_kept_as_full_as_it_was() -> None:
    """Every placement is checked when it is entered; what is too much leaves again."""
    report = run(nodes=12, placements=150, seed=3)
    assert report.nodes == 12
    assert report.devices == 96
    assert report.placed + report.refused == 150
    assert report.placed > 100
    assert 100 * FULL - 5 < report.held_percent <= 100 * FULL
    assert report.p50_ms <= report.p99_ms <= report.p999_ms


def test_equal_seeds_ask_for_equal_things() -> None:
    """So that two runs can be compared."""
    first, second = requests(5, 64), requests(5, 64)
    assert [next(first) for _ in range(50)] == [next(second) for _ in range(50)]


def test_a_replica_fills_its_own_pools_first_and_the_others_when_they_are_full() -> None:
    """Of two replicas each goes elsewhere with the same request; when its half is full it goes to the other's."""
    pools = []
    for which in range(2):
        measured = Measured(fleet_of(8), (which, 2))
        request = ask("a", 4)
        outcome = decide(
            measured.fleet, Ask(id="a", request=request, size=Size(request.vram_bytes or 0, None), pins=Pins(now_ns=1), members=1)
        )
        assert isinstance(outcome, Placed)
        pools.append(measured.fleet.node(outcome.placements[0].node).pool)
    assert pools[0] != pools[1]
    measured = Measured(fleet_of(2), (0, 2))
    nodes = set()
    for number in range(200):
        request = ask(f"s{number}", 20)
        one = Ask(id=f"s{number}", request=request, size=Size(request.vram_bytes or 0, None), pins=Pins(now_ns=1), members=1)
        outcome = decide(measured.fleet, one)
        if not isinstance(outcome, Placed):
            break
        measured.fleet.reserve(one.id, outcome.placements, request)
        nodes.add(outcome.placements[0].node)
    assert nodes == {"n0", "n1"}


@pytest.mark.parametrize(("given", "found"), [("", (0, 1)), ("1/2", (0, 2)), ("2/2", (1, 2))])
def test_a_replica_is_told_which_pools_are_its_home(monkeypatch: pytest.MonkeyPatch, given: str, found: tuple[int, int]) -> None:
    """Without a word it is at home everywhere."""
    monkeypatch.setenv(HOME_VARIABLE, given)
    assert home() == found


@pytest.mark.parametrize("given", ["2", "0/2", "3/2", "a/b", "1/100"])
def test_a_home_that_makes_no_sense_ends_the_service_with_one_line(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """The variable, what it holds, what is allowed."""
    monkeypatch.setenv(HOME_VARIABLE, given)
    with pytest.raises(ServiceError, match=rf"MICA_PLANNER_HOME: got {given}, allowed: n/m with 1 <= n <= m <= 64"):
        home()
