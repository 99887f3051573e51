"""The planner's index: what it prefers, says, learns and forgets."""

from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace
from planner_house import GIB, ask, h100, l4, p40

from mica.events import (
    Device,
    Health,
    Inventory,
    Ledger,
    Mode,
    NodePolicy,
    Observed,
    Placement,
    PoolPolicy,
    Switching,
)
from mica.packing import Foresighted, Learner
from mica.planner.domain import cells, placing
from mica.planner.domain.affinity import affinity_of
from mica.planner.domain.asks import Ask, Pins
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.index import Index
from mica.planner.domain.placing import Placed, Unplaced, decide
from mica.planner.domain.sizing import Size, size_of

NOW = Pins(now_ns=1)
S = 1_000_000_000


def fleet(**nodes: tuple[Device, ...]) -> Fleet:
    """Nodes of pool ``p``, or of the pool that stands before ``_`` in their names."""
    made = Fleet()
    for name, devices in nodes.items():
        pool = name.split("_")[0] if "_" in name else "p"
        made.node(name).take_inventory(Inventory(node=name, pool=pool, boot_id="b", devices=devices))
        made.node(name).take_observed(Observed(node=name, boot_id="b", lease_until=1_000 * S))
    return made


def big(device_id: str, model: str = "L40S") -> Device:
    """Like an L4, with twice the memory."""
    return replace(l4(device_id), model=model, vram_bytes=46 * GIB, reserve_bytes=GIB)


def asked(id_: str, gib: float, pins: Pins = NOW, **more: Any) -> Ask:
    request = ask(id_, gib, **more)
    size = size_of(request)
    assert isinstance(size, Size)
    return Ask(id=id_, request=request, size=size, pins=pins, members=request.devices)


def put(where: Fleet, id_: str, gib: float, pins: Pins = NOW, **more: Any) -> Placed:
    """Decide by the index alone, and reserve."""
    with patch.object(Index, "nearest", lambda *_: []):
        outcome = decide(where, asked(id_, gib, pins, **more))
    assert isinstance(outcome, Placed), outcome
    where.reserve(id_, outcome.placements)
    return outcome


def at(outcome: Placed | Unplaced) -> str:
    assert isinstance(outcome, Placed), outcome
    return outcome.placements[0].device_id


def priced(**prices: float) -> Pins:
    return Pins(now_ns=1, pools={"p": PoolPolicy(prices=prices)})


def test_of_places_that_are_as_good_the_cheapest_is_taken() -> None:
    """By what the request takes of the device: a tenth of a dear one may cost less than a half of a cheap one."""
    where = fleet(n1=(l4("small"), big("large")))
    assert at(decide(where, asked("a", 10, priced(L4=1.0, L40S=3.0)))) == "small"
    assert at(decide(where, asked("a", 10, priced(L4=1.0, L40S=1.0)))) == "large"


def test_a_model_without_a_price_costs_nothing() -> None:
    """So it comes before any that has one."""
    where = fleet(n1=(l4("small"), big("large")))
    assert at(decide(where, asked("a", 10, priced(L4=0.01)))) == "large"
    assert at(decide(where, asked("a", 10, priced(L40S=0.01)))) == "small"


def test_a_dear_device_is_taken_when_the_cheap_one_is_full() -> None:
    """A price is a preference; and what costs the same goes by what becomes useless, on the first of equals."""
    where, pins = fleet(n1=(l4("x"), l4("y"), big("large"))), priced(L4=1.0, L40S=9.0)
    assert [at(put(where, str(number), 22, pins)) for number in range(3)] == ["x", "y", "large"]


def test_a_stronger_mode_comes_before_a_lower_price() -> None:
    """A partition that costs is taken before a free share in software."""
    where = fleet(n1=(l4("l4"), h100("h100")))
    assert at(decide(where, asked("a", 5, priced(**{"H100-SXM-80GB": 100.0})))) == "h100"


def test_every_pool_has_its_own_prices() -> None:
    """The same request is weighed by the prices of the pool that it is in."""
    where = fleet(a_n1=(l4("a-small"), big("a-large")), b_n1=(l4("b-small"), big("b-large")))
    dear, cheap = PoolPolicy(prices={"L4": 9.0, "L40S": 1.0}), PoolPolicy(prices={"L4": 1.0, "L40S": 9.0})
    pins = Pins(now_ns=1, pools={"a": dear, "b": cheap})
    assert at(decide(where, asked("x", 10, pins, pool="a"))) == "a-large"
    assert at(decide(where, asked("y", 10, pins, pool="b"))) == "b-small"


def test_the_answer_tells_what_a_place_was_weighed_by() -> None:
    """In software what becomes useless, in hardware what the partition leaves; and a price where there is one."""
    where = fleet(n1=(l4("l4"), h100("h100")))
    hard = put(where, "hard", 5, priced(**{"H100-SXM-80GB": 7.0}))
    assert set(hard.decision.terms) == {"unused", "futures", "price"}
    assert "tightest fit" in hard.decision.summary
    soft = put(where, "soft", 5, mode=Mode.FCSP)
    assert set(soft.decision.terms) == {"left", "useless_milli"}
    assert "where the rest stays most useful to others" in soft.decision.summary


def test_what_speaks_against_the_places_that_were_not_taken_is_told() -> None:
    """A higher price, and that it comes later; each with what it was weighed by."""
    where = fleet(n1=(l4("x"), l4("y"), big("large")))
    outcome = decide(where, asked("a", 10, priced(L4=1.0, L40S=9.0)))
    assert isinstance(outcome, Placed)
    reasons = {each.device_id: each.reason for each in outcome.decision.rejected}
    assert "an hour in place of" in reasons["large"]
    assert "comes later in the fleet" in reasons["y"]
    assert all("left" in each.terms for each in outcome.decision.rejected)


def test_a_nodes_own_policy_says_when_its_devices_are_switched() -> None:
    """The first node never is, until its policy is another one."""
    devices = [replace(h100(id_), partitioned=False, switchable=True) for id_ in ("one", "two")]
    where = fleet(n1=(devices[0],), n2=(devices[1],))
    never = Pins(now_ns=1, nodes={"n1": NodePolicy(switching=Switching.NEVER)})
    assert at(decide(where, asked("a", 5, never, mode=Mode.HARDWARE))) == "two"
    assert at(decide(where, asked("b", 5, mode=Mode.HARDWARE))) == "one"
    asked_only = Pins(now_ns=1, pools={"p": PoolPolicy(switching=Switching.ASKED)})
    assert at(decide(where, asked("c", 5, asked_only, mode=Mode.HARDWARE))) == "one"
    unpinned = decide(where, asked("d", 5, asked_only))
    assert isinstance(unpinned, Placed)
    assert unpinned.placements[0].mode is Mode.FCSP


@pytest.mark.parametrize("mode", [Mode.HARDWARE, Mode.FCSP])
def test_what_a_device_was_switched_to_holds_for_those_who_come_later(mode: Mode) -> None:
    """Also while its inventory tells of before, and whatever policy says of devices that nobody uses."""
    before = replace(h100("one"), partitioned=mode is not Mode.HARDWARE, switchable=True)
    where = fleet(n1=(before,))
    put(where, "first", 5, mode=mode)
    never = Pins(now_ns=1, pools={"p": PoolPolicy(switching=Switching.NEVER)})
    assert put(where, "second", 5, never).placements[0].mode is mode


def test_where_a_stronger_mode_is_lost_anyway_nothing_is_switched_for_it() -> None:
    """A request pinned to time slices takes a device that is whole already before one that is partitioned."""
    where = fleet(n1=(replace(h100("parted"), switchable=True), replace(h100("whole"), partitioned=False)))
    assert at(decide(where, asked("a", 5, mode=Mode.TIMESLICE))) == "whole"
    with_p40 = fleet(n1=(replace(h100("parted"), switchable=True), replace(h100("whole"), partitioned=False), p40("p40")))
    assert at(decide(with_p40, asked("a", 5, mode=Mode.TIMESLICE))) == "p40"


def test_a_sick_device_does_not_hide_the_others_of_its_node() -> None:
    """Whatever mode it was found sick in."""
    failed = [replace(each, health=Health.FAILED) for each in (l4("sick-l4"), h100("sick-h100"))]
    where = fleet(n1=(*failed, h100("h100"), l4("l4")))
    assert at(put(where, "a", 5, mode=Mode.FCSP)) == "l4"
    assert at(put(where, "b", 5)) == "h100"
    assert at(put(where, "c", 5, mode=Mode.HARDWARE)) == "h100"


def test_a_device_that_recovers_and_a_lease_that_is_taken_again_are_seen() -> None:
    """What was found closed is looked at again once the node's documents change."""
    sick = replace(l4("l4"), health=Health.FAILED)
    where = fleet(n1=(sick,))
    assert isinstance(decide(where, asked("a", 5)), Unplaced)
    where.node("n1").take_inventory(Inventory(node="n1", pool="p", boot_id="b", devices=(l4("l4"),)))
    assert at(put(where, "a", 5)) == "l4"
    where.node("n1").take_observed(Observed(node="n1", boot_id="b", lease_until=0))
    assert isinstance(decide(where, asked("b", 5)), Unplaced)
    where.node("n1").take_observed(Observed(node="n1", boot_id="b", lease_until=1_000))
    assert at(put(where, "b", 5)) == "l4"


def test_a_sort_of_device_that_comes_later_is_found() -> None:
    """A request that nothing could hold is not forgotten to be looked at again when a device is made whole."""
    where = fleet(n1=(h100("one"),))
    assert isinstance(decide(where, asked("a", 5, mode=Mode.FCSP)), Unplaced)
    whole = replace(h100("one"), partitioned=False)
    where.node("n1").take_inventory(Inventory(node="n1", pool="p", boot_id="b", devices=(whole,)))
    assert at(put(where, "a", 5, mode=Mode.FCSP)) == "one"


def test_a_node_that_no_board_holds_is_looked_at_device_by_device() -> None:
    """For one slice, and for a gang; also once it has grown out of its board."""
    with patch.object(cells, "NODE_DEVICES_MAX", 2):
        where = fleet(n1=(l4("n1-a"), p40("n1-b")))
        assert at(put(where, "a", 20, mode=Mode.FCSP)) == "n1-a"
        grown = (l4("n1-a"), p40("n1-b"), l4("n1-c"), l4("n1-d"))
        where.node("n1").take_inventory(Inventory(node="n1", pool="p", boot_id="b", devices=grown))
        assert {each.device_id for each in put(where, "g", 20, devices=2).placements} == {"n1-c", "n1-d"}
        assert at(put(where, "b", 20)) == "n1-b"


def test_a_node_that_is_put_in_anothers_place_is_found() -> None:
    """What was known of the old one does not count."""
    where = fleet(n1=(l4("old"),))
    put(where, "a", 22)
    node = NodeState("n1")
    node.take_inventory(Inventory(node="n1", pool="p", boot_id="b", devices=(l4("new"),)))
    node.take_observed(Observed(node="n1", boot_id="b", lease_until=1_000))
    where.adopt(node)
    assert at(put(where, "b", 22)) == "new"


def test_the_largest_numbers_that_can_be_said_stop_nothing() -> None:
    """Of a request, and of an inventory that is not to be believed."""
    where = fleet(n1=(replace(l4("huge"), vram_bytes=1 << 60), l4("other")))
    inventory = where.node("n1").inventory
    assert inventory is not None
    where.node("n1").take_inventory(replace(inventory, cpu_milli=1 << 40, host_memory_bytes=1 << 62))
    most = {"cpu_milli": 8_192_000, "host_memory_bytes": 1 << 50}
    assert len(put(where, "a", 1, devices=2, mode=Mode.TIMESLICE, **most).placements) == 2
    assert isinstance(decide(where, asked("b", 1 << 20, **most)), Placed)


def test_a_request_that_is_looked_at_again_is_weighed_by_where_it_goes_now() -> None:
    """What it was weighed by before was another fleet, whose devices may be gone."""
    where = fleet(n1=(l4("l4"),), n2=(l4("n2-l4"),))
    decide(where, asked("a", 5))
    where.node("n1").take_inventory(Inventory(node="n1", pool="p", boot_id="b", devices=(h100("h100"),)))
    outcome = decide(where, asked("a", 5))
    assert at(outcome) == "h100"
    assert isinstance(outcome, Placed)
    assert "useless_milli" not in outcome.decision.terms


def test_a_group_counts_before_nearness() -> None:
    """A slice that is apart from others goes to a node without one, however near to it one with them would be."""
    where = fleet(n1=(l4("n1-a"), l4("n1-b")), n2=(l4("n2-a"),))
    (near,) = put(where, "near", 5).placements
    request = ask("r", 5, apart="g", apart_strict=False)
    first = Ask(id="r", request=request, size=Size(5 * GIB, None), pins=NOW, members=1, affinity=affinity_of(request, []))
    outcome = decide(where, first)
    assert isinstance(outcome, Placed)
    where.reserve("r", outcome.placements, request)
    also = ask("s", 5, apart="g", apart_strict=False, near="near")
    affinity = affinity_of(also, where.group(also, but="s"), (near,))
    second = decide(where, replace(first, id="s", request=also, affinity=affinity))
    assert {outcome.placements[0].node, second.placements[0].node} == {"n1", "n2"}  # type: ignore[union-attr]


def learner_of(where: Fleet, mode: Mode = Mode.FCSP) -> Learner:
    return where.index._pools.all["p"].learners[mode]


def test_what_stands_when_the_planner_begins_is_learned() -> None:
    """Once each, with since when it stands; what stands in a partition teaches the boards nothing."""
    where = fleet(n1=(l4("l4"), h100("h100")))
    where.index.refresh(NOW)
    for number, (device, mode) in enumerate([("l4", Mode.FCSP), ("l4", Mode.FCSP), ("h100", Mode.HARDWARE)]):
        model = where.node("n1").devices[device].device
        assert model is not None
        placement = Placement(
            node="n1", device_id=device, model=model.model, vendor=model.vendor, mode=mode, vram_bytes=5 * GIB, share_ppm=100_000
        )
        where.index.recall(asked(str(number), 5), (placement,), since_ns=number * S)
    learner = learner_of(where)
    assert (learner.arrivals, learner.departures) == (2, 0)
    assert len(learner.counts) == 1


def test_what_has_left_is_learned_to_have_left() -> None:
    """Once it is in no document any more, and once only."""
    where = fleet(n1=(l4("l4"),))
    outcome = put(where, "a", 5)
    learner = learner_of(where)
    assert (learner.arrivals, learner.departures) == (1, 0)
    where.node("n1").take_ledger(Ledger(node="n1"))
    where.index.refresh(NOW)
    assert learner.departures == 0
    where.unreserve("a", outcome.placements)
    for _ in range(2):
        where.index.refresh(Pins(now_ns=60 * S))
    assert learner.departures == 1


def look_ahead(where: Fleet) -> list[Foresighted]:
    due = where.index.due()
    for foresighted in due:
        foresighted.adopt(foresighted.look(0.0).plan())
    return due


def test_places_are_kept_for_what_is_expected_and_taken_by_it() -> None:
    """And the answer says so."""
    where = fleet(n1=(l4("a"), l4("b")), n2=(l4("c"), l4("d")))
    put(where, "first", 5)
    assert look_ahead(where)
    assert look_ahead(where) == []
    second = put(where, "second", 5)
    assert second.decision.terms["kept"] == 1.0
    assert "a place that was kept for such requests" in second.decision.summary


def test_places_that_are_kept_refuse_nothing_that_fits() -> None:
    """Work of another kind takes the places that are kept for the first when there are no others."""
    where = fleet(n1=(l4("a"), l4("b")))
    put(where, "first", 5)
    look_ahead(where)
    assert {at(put(where, str(number), 17 - 0.5 * number, share_ppm=400_000)) for number in range(2)} == {"a", "b"}
    assert isinstance(decide(where, asked("more", 17)), Unplaced)


def test_a_pool_that_has_not_been_looked_at_has_no_place_kept() -> None:
    """Only boards on which something came look ahead."""
    where = fleet(a_n1=(l4("a"),), b_n1=(l4("b"),))
    put(where, "first", 5, pool="a")
    assert len(look_ahead(where)) == 1
    assert put(where, "second", 5, pool="b").decision.terms.get("kept") is None


def test_the_next_best_places_of_a_large_fleet_are_told() -> None:
    """Nodes on which the request does not fit are none of them."""
    full, free = ({f"n{number}": (l4(f"d{number}"),) for number in numbers} for numbers in (range(5), range(5, 9)))
    where = fleet(**full, **free)
    for number in range(5):
        put(where, f"s{number}", 22)
    with patch.object(placing, "EXPLAINED_MAX", 1):
        outcome = decide(where, asked("a", 22))
    assert isinstance(outcome, Placed)
    told = [each.device_id for each in outcome.decision.rejected]
    assert len(told) == 3
    assert set(told) <= {"d5", "d6", "d7", "d8"}


def test_a_request_is_compared_by_all_that_its_place_depends_on() -> None:
    """One whose maker, size or share of the node is another is not taken for the same."""
    index: Index = fleet(n1=(l4("a"),)).index
    index.refresh(NOW)
    kinds: list[dict[str, Any]] = [
        {}, {"vendor": "nvidia"}, {"share_ppm": 5}, {"cpu_milli": 1}, {"host_memory_bytes": GIB}, {"devices": 2},
        {"mode": Mode.FCSP}, {"models": ("L4",)},
    ]  # fmt: skip
    keys = {index._want(asked("a", 5, **kind), "p")[0] for kind in kinds}
    assert len(keys) == len(kinds)
    assert index._want(asked("b", 5), "p")[0] == index._want(asked("c", 5, tenant="t2", name="another"), "p")[0]
