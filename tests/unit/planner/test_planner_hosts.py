"""What slices take of a node's own processors and memory: counted beside its devices, blamed, explained, never oversold."""

import pytest
from msgspec import msgpack
from msgspec.structs import replace
from planner_house import GIB, House, Rig, ask, l4, quiet

from mica.audit.invariants import host_given
from mica.events import (
    ExplainSlice,
    Inventory,
    Ledger,
    LedgerEntry,
    Mode,
    MoveSlice,
    Observed,
    Phase,
    Placement,
    ReleaseSlice,
    ResizeSlice,
    SliceRecord,
    Tier,
    Vendor,
)
from mica.planner.domain import admission
from mica.planner.domain.claims import Side
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.placing import Ask, Pins, Placed, Unplaced, decide
from mica.planner.domain.sizing import Size

NODE = Inventory(
    node="n1", pool="default", boot_id="b1", devices=tuple(l4(f"d{index}") for index in range(4)),
    cpu_milli=8_000, host_memory_bytes=64 * GIB,
)  # fmt: skip


def fleet(*inventories: Inventory) -> Fleet:
    made = Fleet()
    for inventory in inventories or (NODE,):
        made.node(inventory.node).take_inventory(inventory)
        made.node(inventory.node).take_observed(Observed(node=inventory.node, boot_id="b1", lease_until=1_000))
    return made


def place(where: Fleet, id_: str, cpus: float = 0, gib: int = 0, **more: object) -> Placed | Unplaced:
    """A slice of 1 GiB on an L4 that takes so much of the node."""
    request = ask(id_, 1, cpu_milli=int(cpus * 1000), host_memory_bytes=gib * GIB, **more)
    outcome = decide(where, Ask(id=id_, request=request, size=Size(GIB, None), pins=Pins(now_ns=1), members=request.devices))
    if isinstance(outcome, Placed):
        where.reserve(id_, outcome.placements)
    return outcome


def blamed(outcome: Placed | Unplaced) -> tuple[str, str, str, bool]:
    assert isinstance(outcome, Unplaced), outcome
    refusal = outcome.refusal
    return refusal.field, refusal.given, refusal.allowed, outcome.possible


def entry(id_: str, cpu_milli: int) -> LedgerEntry:
    return LedgerEntry(
        id=id_, tenant="t", generation=1, tier=Tier.SPOT, mode=Mode.FCSP, vram_bytes=1, share_ppm=1, cpu_milli=cpu_milli
    )


def test_a_node_with_devices_left_and_no_processors_is_full() -> None:
    """What stands in the way is named, with what was asked and what is left now."""
    where = fleet()
    assert isinstance(place(where, "a", cpus=6, gib=60), Placed)
    assert blamed(place(where, "b", cpus=4)) == ("cpu_milli", "4000", "at most 2000 now", True)
    assert blamed(place(where, "c", gib=8)) == ("host_memory_bytes", str(8 * GIB), f"at most {4 * GIB} now", True)
    assert isinstance(place(where, "d", cpus=2, gib=4), Placed)
    assert isinstance(place(where, "e"), Placed)


def test_what_a_node_could_never_have_is_refused_for_good() -> None:
    """It would not fit if all others left, not even while a device is full."""
    assert blamed(place(fleet(), "a", cpus=9)) == ("cpu_milli", "9000", "at most 8000", False)
    where = fleet(replace(NODE, devices=(l4("d0"),)))
    where.reserve("other", (placement("d0", vram_bytes=22 * GIB),))
    assert blamed(place(where, "a", gib=65))[::3] == ("host_memory_bytes", False)


def placement(device_id: str, **more: int) -> Placement:
    given = {"vram_bytes": GIB, "share_ppm": 1, **more}
    return Placement(node="n1", device_id=device_id, model="L4", vendor=Vendor.NVIDIA, mode=Mode.FCSP, **given)


def test_every_member_of_a_gang_takes_its_part() -> None:
    """Four members of two processors fill eight; the refusal tells what one member could have."""
    assert isinstance(place(fleet(), "a", cpus=2, devices=4), Placed)
    assert blamed(place(fleet(), "b", cpus=2.5, devices=4)) == ("cpu_milli", "2500", "at most 2000", False)
    two = fleet(NODE, replace(NODE, node="n2", devices=tuple(l4(f"e{index}") for index in range(4))))
    assert isinstance(place(two, "c", cpus=2.5, devices=4, nodes=2), Placed)
    assert [node.free_cpu_milli("") for node in two.nodes.values()] == [3_000, 3_000]


def test_a_node_that_does_not_tell_limits_nothing() -> None:
    """0 is not known, for each of the two."""
    where = fleet(replace(NODE, cpu_milli=0))
    assert isinstance(place(where, "a", cpus=1_000), Placed)
    assert (where.node("n1").free_cpu_milli("b"), where.node("n1").free_host_memory("b")) == (None, 64 * GIB)
    assert blamed(place(where, "b", gib=65))[0] == "host_memory_bytes"


def test_another_node_is_taken_that_has_enough() -> None:
    """A full node is passed over, though its devices fit better."""
    where = fleet(NODE, replace(NODE, node="n2", devices=(l4("e0"),)))
    where.reserve("other", (placement("d0", cpu_milli=7_000),))
    found = place(where, "a", cpus=4)
    assert isinstance(found, Placed)
    assert found.placements[0].node == "n2"
    assert "4 CPUs of the node" in found.decision.summary
    assert {each.reason for each in found.decision.rejected} == {"asked 4 CPUs on the node, 1 CPUs free, of 8 CPUs"}


def test_a_slice_is_charged_once_at_the_largest_of_all_sides() -> None:
    """While it moves, and if it is released in the middle, it is in two places: one slice's programs, not two's."""
    node = fleet().node("n1")
    node.claims("d0").put("a", Side.HELD, entry("a", 3_000))
    node.claims("d1").put("a", Side.LEDGER, entry("a", 3_000))
    node.claims("d2").put("b", Side.RESERVED, placement("d2", cpu_milli=1_000))
    assert (node.free_cpu_milli("c"), node.free_cpu_milli("a"), node.free_cpu_milli("b")) == (4_000, 7_000, 5_000)
    assert node.without({"b"}).free_cpu_milli("c") == 5_000
    node.claims("d1").put("a", Side.LEDGER, None)
    node.claims("d1").put("a", Side.HELD, replace(entry("a", 3_000), generation=2))
    assert node.free_cpu_milli("c") == 4_000
    node.claims("d1").put("a", Side.HELD, None)
    node.claims("d0").put("a", Side.HELD, None)
    node.claims("d2").put("b", Side.RESERVED, None)
    assert node.free_cpu_milli("c") == 8_000


def test_the_last_look_counts_all_entries_and_lets_stand_what_stands() -> None:
    """A ledger is not written that oversells the node; what a slice has already is never refused to it."""
    node = fleet().node("n1")
    node.claims("d0").put("a", Side.LEDGER, entry("a", 5_000))
    two = {"d1": entry("b", 2_000), "d2": entry("b", 2_000)}
    refusal = admission.inadmissible(node, "b", {}, two)
    assert refusal is not None
    assert (refusal.field, refusal.given, refusal.allowed) == ("cpu_milli", "4000", "at most 3000 now on node n1")
    assert admission.inadmissible(node, "b", two, two) is None
    assert admission.inadmissible(node, "b", {}, {"d1": entry("b", 3_000)}) is None


def test_ledgers_of_older_and_newer_planners_are_read() -> None:
    """Without the fields nothing is charged; with fields that nobody knows yet, what is known is."""
    newer = {**entry_fields("a"), "cpu_milli": 3_000, "sockets": 2}
    written = msgpack.encode({"node": "n1", "devices": {"d0": {"a": newer, "b": entry_fields("b")}}})
    node: NodeState = fleet().node("n1")
    node.take_ledger(msgpack.decode(written, type=Ledger))
    assert node.free_cpu_milli("c") == 5_000


def entry_fields(id_: str) -> dict[str, object]:
    return {"id": id_, "tenant": "t", "generation": 1, "tier": "spot", "mode": "fcsp", "vram_bytes": 1, "share_ppm": 1}


@pytest.fixture
async def house() -> House:
    """Four L4 on one node with eight processors, one planner."""
    house = House()
    await house.add_node(NODE)
    await house.start_planner()
    yield house  # type: ignore[misc]
    await house.stop_planners()


async def record(house: House, id_: str) -> SliceRecord:
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    return entry.value


def wanted(id_: str, cpus: int, **more: object) -> object:
    return ask(id_, 1, mode=Mode.FCSP, cpu_milli=cpus * 1000, **more)


async def test_it_is_told_kept_through_a_move_and_a_resize_and_given_back(house: House) -> None:
    """The answer and the record have it; a slice with all there is moves on its node; then another gets it."""
    await house.send(wanted("a", 8))
    (told,) = house.said("slice.placed.a")
    assert [each.cpu_milli for each in told.placements] == [8_000]
    await house.send(ResizeSlice(id="a", vram_bytes=2 * GIB))
    await house.send(MoveSlice(id="a", device_id="d3"))
    (placed,) = (await record(house, "a")).placements
    assert (placed.device_id, placed.vram_bytes, placed.cpu_milli) == ("d3", 2 * GIB, 8_000)
    await house.send(wanted("b", 1))
    assert (await record(house, "b")).field == "cpu_milli"
    await house.send(ReleaseSlice(id="a"))
    await house.send(wanted("c", 8))
    assert (await record(house, "c")).phase is Phase.PLACED


async def test_what_a_released_slice_had_is_not_sold_before_it_has_left(house: House) -> None:
    """A program that holds memory holds its processors, too."""
    await house.send(wanted("a", 8))
    (placed,) = (await record(house, "a")).placements
    house.enforcers["n1"].used[placed.device_id, "a"] = 1
    await house.send(ReleaseSlice(id="a"))
    await house.send(wanted("b", 1))
    assert (await record(house, "b")).phase is Phase.REJECTED
    house.enforcers["n1"].used.clear()
    await house.settle()
    await house.send(wanted("c", 8))
    assert (await record(house, "c")).phase is Phase.PLACED


async def test_a_dry_run_says_of_every_device_that_its_node_is_short(house: House) -> None:
    """By the same words as a decision."""
    await house.send(wanted("a", 6))
    sequence = await house.send(ExplainSlice(request=wanted("b", 4)))  # type: ignore[arg-type]
    (answer,) = house.said(f"slice.explained.{sequence}")
    fcsp = [each for each in answer.candidates if each.mode is Mode.FCSP]
    assert (answer.outcome, {each.device_id for each in fcsp}) == ("rejected", {"d0", "d1", "d2", "d3"})
    assert {each.reason for each in fcsp} == {"asked 4 CPUs on the node, 2 CPUs free, of 8 CPUs"}


async def test_spot_slices_on_other_devices_leave_for_a_nodes_processors(house: House) -> None:
    """As many as have to, wherever on the node they are; the one who asks for less than they had gets it."""
    for id_ in ("s1", "s2", "s3"):
        await house.send(wanted(id_, 2, tier=Tier.SPOT, apart="spread"))
    await house.send(wanted("kept", 2))
    await house.send(wanted("g", 4, queue_s=600))
    for _ in range(4):
        await house.pass_time(2)
        await house.settle()
    phases = [(await record(house, id_)).phase for id_ in ("s1", "s2", "s3", "kept", "g")]
    assert phases.count(Phase.EVICTED) == 2
    assert phases[3:] == [Phase.PLACED, Phase.PLACED]


async def _two_planners_sell(seed: int) -> tuple[int, int]:
    """Processors that two planners sell of eight, asked at the same time for four times three; and how many got them."""
    house = House()
    await house.add_node(NODE)
    for number in (1, 2):
        await house.start_planner(Rig(house.bus, seed=seed + number, dawdle=6))
    for number in range(4):
        await house.bus.publish(wanted(f"r{number}", 3))  # type: ignore[arg-type]
        await quiet(seed % 3)
    await house.settle(6)
    found = await house.bus.state.get("ledger.n1", Ledger)
    await house.stop_planners()
    assert found is not None
    return host_given(found.value)[0], sum(len(slices) for slices in found.value.devices.values())


async def test_two_planners_at_once_do_not_sell_a_processor_twice() -> None:
    """The ledger is written by compare-and-set, and looked at once more for the node's own."""
    assert {await _two_planners_sell(seed) for seed in range(12)} == {(6_000, 2)}


async def test_without_the_last_look_two_planners_sell_it_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control: what each of them decided alone is more than there is."""
    monkeypatch.setattr(admission, "overdrawn", lambda *_: None)
    assert max([await _two_planners_sell(seed) for seed in range(12)]) > (8_000, 2)
