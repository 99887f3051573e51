"""What is told of a decision: what it was weighed by, why no stronger mode, and what speaks against every other place."""

from msgspec.structs import replace
from planner_house import GIB, h100, l4, p40

from mica.events import (
    Decision,
    Device,
    Inventory,
    Ledger,
    LedgerEntry,
    Mode,
    NodePolicy,
    Observed,
    Placement,
    PoolPolicy,
    RequestSlice,
    Switching,
    Tier,
    Vendor,
)
from mica.planner.domain.affinity import Affinity
from mica.planner.domain.explaining import LOOKED_AT_MAX, explain
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.placing import Ask, Pins, Placed, Unplaced, decide
from mica.planner.domain.sizing import Size

PINS = Pins(now_ns=0)


def fleet(*devices: Device, used_gib: dict[str, int] | None = None, nodes: int = 1) -> Fleet:
    """Nodes with those devices; on the first so much is held of some."""
    made = Fleet()
    for number in range(nodes):
        name = f"n{number}"
        node = made.node(name)
        node.take_inventory(Inventory(node=name, pool="p", boot_id="b", devices=devices))
        node.take_observed(Observed(node=name, boot_id="b", lease_until=1))
    held = {
        id_: {
            f"on-{id_}": LedgerEntry(
                id=f"on-{id_}", tenant="t", generation=1, tier=Tier.GUARANTEED, mode=Mode.FCSP, vram_bytes=gib * GIB,
                share_ppm=gib * 10_000,
            )
        }
        for id_, gib in (used_gib or {}).items()
    }  # fmt: skip
    made.node("n0").take_ledger(Ledger(node="n0", devices=held))
    return made


def ask(gib: int, pins: Pins = PINS, mode: Mode | None = None, share_ppm: int | None = None, id_: str = "a") -> Ask:
    request = RequestSlice(tenant="t", id=id_, vram_bytes=gib * GIB, mode=mode, share_ppm=share_ppm)
    return Ask(id=id_, request=request, size=Size(gib * GIB, share_ppm, reason="by a guess"), pins=pins, members=1)


def decided(where: Fleet, wanted: Ask) -> tuple[Decision, dict[str, str]]:
    """The decision, and by device the reason against it."""
    outcome = decide(where, wanted)
    assert isinstance(outcome, Placed | Unplaced)
    found, _ = explain(where, wanted, outcome)
    dry = {each.device_id: each.reason for each in found if each.fits and not each.chosen}
    told = {each.device_id: each.reason for each in outcome.decision.rejected}
    assert {id_: told[id_] for id_ in dry if id_ in told and told[id_].startswith("fits")} == {
        id_: reason for id_, reason in dry.items() if id_ in told and told[id_].startswith("fits")
    }
    return outcome.decision, told


def test_a_decision_says_what_its_size_rests_on_and_why_no_stronger_mode_holds_it() -> None:
    """Of the device that was taken; nothing in hardware, where none is stronger."""
    decision, _ = decided(fleet(l4("x")), ask(4))
    assert (decision.size, decision.stronger) == ("by a guess", "has no hardware partitions")
    old, _ = decided(fleet(p40("x")), ask(4))
    assert old.stronger == "has no hardware partitions; compute capability 6.1 offers timeslice"
    pinned, _ = decided(fleet(l4("x")), ask(4, mode=Mode.FCSP))
    assert pinned.stronger == "the request asks for fcsp"
    assert decided(fleet(h100("x")), ask(4))[0].stronger == ""


def test_what_boards_found_worse_is_told_in_parts_of_a_device() -> None:
    """A nearly full device is filled up; on the empty one it would be in the way of what is expected."""
    where = fleet(l4("x"), l4("y"), used_gib={"x": 15})
    for number in range(8):
        learn(where, ask(20, id_=f"s{number}"))
    look_ahead(where)
    decision, told = decided(where, ask(4))
    assert set(decision.terms) == {"useless_milli", "beside", "left"}
    assert "of a device more that is of no use to the requests to come" in told["y"]


def test_a_dearer_device_is_told_by_its_price() -> None:
    """An hour of it, in place of an hour of the other."""
    pins = Pins(now_ns=0, pools={"p": PoolPolicy(prices={"L4": 2.0, "P40": 1.0})})
    decision, told = decided(fleet(l4("x"), p40("y")), ask(9, pins, mode=Mode.TIMESLICE))
    assert decision.terms["price"] > 0
    assert told["x"].startswith("fits, but would be carved in time")
    double = fleet(l4("x"), Device(**{**fields(l4("y")), "model": "L40"}))
    pins = Pins(now_ns=0, pools={"p": PoolPolicy(prices={"L4": 2.0, "L40": 1.0})})
    _, told = decided(double, ask(9, pins))
    assert told["x"] == "fits, and costs 0.8 an hour in place of 0.4"


def learn(where: Fleet, wanted: Ask) -> None:
    """Let the planner see such a request; it leaves at once."""
    outcome = decide(where, wanted)
    assert isinstance(outcome, Placed)
    where.index.took(wanted.id, outcome.placements)


def look_ahead(where: Fleet) -> None:
    """Keep places for what is expected."""
    for each in where.index.due():
        each.adopt(each.look().plan())


def fields(device: Device) -> dict[str, object]:
    return {name: getattr(device, name) for name in Device.__struct_fields__}


def test_a_device_that_would_be_switched_is_told_so() -> None:
    """One that is as it is wanted comes first."""
    whole = Device(**{**fields(h100("y")), "partitioned": False, "switchable": True})  # type: ignore[arg-type]
    pins = Pins(now_ns=0, nodes={"n0": NodePolicy(switching=Switching.AUTO)})
    _, told = decided(fleet(h100("x"), whole), ask(9, pins))
    assert told["y"] == "fits, but would first have to be partitioned"


def test_places_that_are_alike_are_told_apart_by_their_order() -> None:
    """The first of the fleet is taken."""
    _, told = decided(fleet(h100("x"), h100("y")), ask(9))
    assert told["y"] == "fits as well; comes later in the fleet"


def test_of_a_refusal_the_devices_that_lack_the_least_come_first() -> None:
    """Whatever their order on the node."""
    where = fleet(l4("x"), l4("y"), l4("z"), used_gib={"x": 20, "y": 2, "z": 12})
    outcome = decide(where, ask(22))
    assert isinstance(outcome, Unplaced)
    assert [each.device_id for each in outcome.decision.rejected] == ["y", "z", "x"]
    found, _ = explain(where, ask(22), outcome)
    assert list(dict.fromkeys(each.device_id for each in found)) == ["y", "z", "x"]
    assert outcome.decision.size == "by a guess"


def test_a_device_that_could_hold_it_is_nearer_than_one_with_more_free_that_never_could() -> None:
    """A full large device comes before an empty small one for what only the large one has."""
    large = Device(**{**fields(l4("y")), "model": "large", "vram_bytes": 80 * GIB})  # type: ignore[arg-type]
    where = fleet(l4("x"), large, used_gib={"y": 70})
    outcome = decide(where, ask(60))
    assert isinstance(outcome, Unplaced)
    assert [each.device_id for each in outcome.decision.rejected] == ["y", "x"]


def test_a_wish_that_would_be_met_less_well_is_named() -> None:
    """Further from a slice, beside more of a group, or either."""
    place = Placement(node="n0", device_id="x", model="L4", vendor=Vendor.NVIDIA, mode=Mode.FCSP, vram_bytes=GIB, share_ppm=1)
    near = Affinity(near=(place,), near_id="llm")
    apart = Affinity(apart="g", others={"n0": {"y": 1}})
    both = Affinity(near=(place,), near_id="llm", apart="g", others={"n0": {"y": 1}})
    where = fleet(l4("x"), l4("y"))
    against = [decided(where, replace(ask(4), affinity=each))[1]["y"] for each in (near, apart, both)]
    assert against == [
        "fits, but is further from slice llm",
        "fits, but has more of group g beside it",
        "fits, but is further from slice llm or has more of group g beside it",
    ]


def test_a_gang_waits_only_where_a_node_has_enough_devices_of_one_model() -> None:
    """An L4 and a P40 never make one, whoever leaves; two L4s do once they are free."""
    request = RequestSlice(tenant="t", id="g", vram_bytes=20 * GIB, devices=2)
    gang = Ask(id="g", request=request, size=Size(20 * GIB, None), pins=PINS, members=2)
    never = decide(fleet(l4("x"), p40("y")), gang)
    later = decide(fleet(l4("x"), l4("y"), used_gib={"y": 9}), gang)
    assert isinstance(never, Unplaced)
    assert isinstance(later, Unplaced)
    assert (never.possible, never.refusal.allowed) == (False, "at most 1 alike on one node in all")
    assert (later.possible, later.refusal.allowed) == (True, "at most 1 alike on one node now")


def test_a_place_that_was_kept_is_told_as_kept() -> None:
    """Once the planner has looked ahead, a request takes a place that was kept for such; the others say so."""
    where = fleet(l4("x"), l4("y"))
    for number in range(60):
        learn(where, ask(4, id_=f"s{number}"))
    look_ahead(where)
    decision, told = decided(where, ask(4))
    assert decision.terms["kept"] == 1.0
    assert "a place that was kept for such requests" in decision.summary
    assert set(told.values()) <= {"fits, but another place was kept for such requests"} | {
        reason for reason in told.values() if "of no use" in reason
    }


def test_of_a_large_fleet_only_some_devices_are_looked_at() -> None:
    """The one that is taken first, and how many there are beside those that are told."""
    nodes = LOOKED_AT_MAX // 8 + 4
    where = fleet(*(l4(f"d{number}", number) for number in range(8)), nodes=nodes)
    wanted = ask(4)
    outcome = decide(where, wanted)
    assert isinstance(outcome, Placed)
    found, left_out = explain(where, wanted, outcome)
    assert (found[0].node, found[0].device_id) == (outcome.placements[0].node, outcome.placements[0].device_id)
    assert found[0].chosen
    assert len({(each.node, each.device_id) for each in found}) + left_out == 8 * nodes
