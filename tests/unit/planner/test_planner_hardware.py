"""Hardware partitions of any vendor: layouts, budgets, groups, and devices that are switched for a request."""

import pytest
from msgspec.structs import replace
from planner_house import GIB, ask, h100, l4
from test_planner_domain import blamed, fleet, place, where_to

from mica.events import (
    AskedLimits,
    Device,
    Inventory,
    Ledger,
    LedgerEntry,
    Mode,
    NodePolicy,
    Partition,
    PartitionProfile,
    PoolPolicy,
    Runtime,
    Switching,
    Tier,
    Vendor,
)
from mica.planner.domain import partitions
from mica.planner.domain.admission import inadmissible
from mica.planner.domain.partitions import Geometry
from mica.planner.domain.placing import Pins, Placed


def laid_out(mode: str, memory: str, profile_id: int, count: int) -> PartitionProfile:
    """One of ``count`` equal parts of an MI300X."""
    return PartitionProfile(
        name=f"{mode}/{memory}", profile_id=profile_id, size=8 // count, starts=tuple(range(0, 8, 8 // count)),
        vram_bytes=192 // count * GIB, compute_slices=8 // count, multiprocessors=304 // count, max_instances=count,
        layout=f"{mode}/{memory}", shared=memory,
    )  # fmt: skip


def mi300x(device_id: str = "AMD-0", index: int = 0) -> Device:
    """An MI300X in a hive: everything that it can be laid out as."""
    profiles = (
        laid_out("SPX", "NPS1", 1, 1), laid_out("DPX", "NPS1", 2, 2), laid_out("QPX", "NPS1", 3, 4),
        laid_out("CPX", "NPS1", 4, 8), laid_out("CPX", "NPS4", 5, 8),
    )  # fmt: skip
    return Device(
        id=device_id, index=index, vendor=Vendor.AMD, model="MI300X", vram_bytes=192 * GIB, multiprocessors=304, switchable=True,
        profiles=profiles, compute_slices=8, runtimes=(Runtime.HIP,), group="hive",
    )  # fmt: skip


def ascend() -> Device:
    """A 310P3: cores as slots, AI CPUs as a budget that runs out first."""

    def template(name: str, profile_id: int, cores: int, cpus: int) -> PartitionProfile:
        return PartitionProfile(
            name=name, profile_id=profile_id, size=cores, starts=tuple(range(0, 8, cores)), vram_bytes=3 * cores * GIB,
            compute_slices=cores, multiprocessors=cores, max_instances=8 // cores, needs={"ai_cpus": cpus},
        )  # fmt: skip

    profiles = (template("vir01", 1, 1, 1), template("vir02", 2, 2, 2), template("vir04", 3, 4, 4), template("vir04_3c", 4, 4, 3))
    return Device(
        id="NPU-0", index=0, vendor=Vendor.HUAWEI, model="310P3", vram_bytes=24 * GIB, multiprocessors=8, switchable=True,
        profiles=profiles, compute_slices=8, budgets={"ai_cpus": 7}, runtimes=(Runtime.CANN,),
    )  # fmt: skip


def node(*devices: Device) -> Inventory:
    return Inventory(node="n", pool="p", boot_id="b", devices=devices)


def partition_of(outcome: object) -> Partition:
    assert isinstance(outcome, Placed), outcome
    found = outcome.placements[0].partition
    assert found is not None
    return found


def test_one_request_is_placed_on_any_vendors_device_in_its_own_way() -> None:
    """The same words, with nothing said of vendor, runtime or mode, get the native partition of whatever is there."""
    for device, profile in ((mi300x(), "CPX/NPS1"), (ascend(), "vir04_3c"), (h100(), "1g.20gb")):
        assert partition_of(place(fleet(node(device)), "a", 11)).profile == profile


def test_partitions_of_a_device_are_of_one_layout() -> None:
    """The second slice gets a part of the first one's size; one that is too large for that goes elsewhere or waits."""
    where = fleet(node(mi300x()))
    assert partition_of(place(where, "a", 40)).layout == "QPX/NPS1"
    assert partition_of(place(where, "b", 10)).layout == "QPX/NPS1"
    field, allowed, possible = blamed(place(where, "c", 90))
    assert (field, possible) == ("vram_bytes", True)
    assert allowed == f"at most {48 * GIB} now"


def test_a_device_gives_as_many_parts_as_its_layout_has() -> None:
    """Eight of CPX, each at a slot of its own, and no ninth."""
    where = fleet(node(mi300x()))
    starts = [partition_of(place(where, f"s{index}", 20)).start for index in range(8)]
    assert sorted(starts) == list(range(8))
    assert blamed(place(where, "s8", 20))[0] in {"vram_bytes", "share_ppm"}


def test_devices_of_a_group_share_what_holds_for_all_of_them() -> None:
    """While one device of the hive is in NPS4 the others are laid out in NPS4 only."""
    where = fleet(node(mi300x("A", 0), mi300x("B", 1)))
    entry = LedgerEntry(
        id="x", tenant="t", generation=1, tier=Tier.GUARANTEED, mode=Mode.HARDWARE, vram_bytes=24 * GIB, share_ppm=125_000,
        partition=Partition(profile="CPX/NPS4", profile_id=5, start=0, size=1, layout="CPX/NPS4"),
    )  # fmt: skip
    where.node("n").take_ledger(Ledger(node="n", generation=1, devices={"A": {"x": entry}}))
    for index in range(15):
        assert partition_of(place(where, f"s{index}", 20)).layout == "CPX/NPS4"
    assert blamed(place(where, "large", 90))[0] == "vram_bytes"
    odd = replace(entry, id="y", partition=Partition(profile="DPX/NPS1", profile_id=2, start=0, size=4, layout="DPX/NPS1"))
    refusal = inadmissible(fleet_with(entry).node("n"), "y", {}, {"B": odd})
    assert refusal is not None
    assert refusal.allowed == "one with NPS4, as others of its group have"


def test_a_device_that_is_used_whole_shares_what_its_whole_has() -> None:
    """A software slice keeps the hive in NPS1, and does not fit while another device of it is in NPS4."""
    both = (
        replace(mi300x("A", 0), runtimes=(Runtime.HIP, Runtime.OPENCL)),
        replace(mi300x("B", 1), runtimes=(Runtime.HIP, Runtime.OPENCL)),
    )
    where = fleet(node(*both))
    assert where_to(place(where, "soft", 10, runtime=Runtime.OPENCL, mode=Mode.TIMESLICE))[1] is Mode.TIMESLICE
    for index in range(8):
        assert partition_of(place(where, f"s{index}", 20)).layout == "CPX/NPS1"
    entry = LedgerEntry(
        id="x", tenant="t", generation=1, tier=Tier.GUARANTEED, mode=Mode.HARDWARE, vram_bytes=24 * GIB, share_ppm=125_000,
        partition=Partition(profile="CPX/NPS4", profile_id=5, start=0, size=1, layout="CPX/NPS4"),
    )  # fmt: skip
    other = fleet(node(*both))
    other.node("n").take_ledger(Ledger(node="n", generation=1, devices={"A": {"x": entry}}))
    field, allowed, possible = blamed(place(other, "soft", 10, runtime=Runtime.OPENCL, mode=Mode.TIMESLICE))
    assert (field, possible) == ("device_id", True)
    assert "used whole it needs NPS1, others of its group have NPS4" in allowed


def fleet_with(entry: LedgerEntry) -> object:
    where = fleet(node(mi300x("A", 0), mi300x("B", 1)))
    where.node("n").take_ledger(Ledger(node="n", generation=1, devices={"A": {entry.id: entry}}))
    return where


def test_a_budget_runs_out_before_the_slots_do() -> None:
    """Seven AI CPUs are enough for one vir04 and one vir04_3c, but not for two vir04; the thriftier template is taken first."""
    where = fleet(node(ascend()))
    assert [partition_of(place(where, id_, 12)).profile for id_ in ("a", "b")] == ["vir04_3c", "vir04_3c"]
    geometry = Geometry(ascend())
    keys, mask = partitions.occupied([Partition(profile="vir04", profile_id=3, start=0, size=4)])
    assert geometry.starts(keys, mask, geometry.by_id[3]) == []
    assert geometry.starts(keys, mask, geometry.by_id[4]) == [4]


def switchable(*, partitioned: bool) -> Device:
    return replace(h100(), partitioned=partitioned, switchable=True)


@pytest.mark.parametrize("partitioned", [False, True])
def test_an_idle_device_is_switched_for_what_is_asked(partitioned: bool) -> None:
    """Whole or partitioned, it takes hardware by itself and fcsp where that is asked for; then it stays what it is."""
    where = fleet(node(switchable(partitioned=partitioned)))
    assert where_to(place(where, "a", 10, mode=Mode.FCSP)) == ("GPU-h100", Mode.FCSP)
    assert where_to(place(where, "b", 10)) == ("GPU-h100", Mode.FCSP)
    assert blamed(place(where, "c", 10, mode=Mode.HARDWARE))[0] == "mode"
    assert where_to(place(fleet(node(switchable(partitioned=partitioned))), "a", 10)) == ("GPU-h100", Mode.HARDWARE)


def test_what_no_profile_holds_is_carved_in_software() -> None:
    """More memory than the largest profile that has so little is wasted on: limits, for one, are for shims to enforce."""
    where = fleet(node(switchable(partitioned=False)))
    assert where_to(place(where, "a", 10, limits=AskedLimits(inflight_max=4))) == ("GPU-h100", Mode.FCSP)
    assert where_to(place(fleet(node(switchable(partitioned=False))), "b", 79.3 - 0.01)) == ("GPU-h100", Mode.FCSP)


@pytest.mark.parametrize(
    ("switching", "unpinned", "pinned"),
    [(Switching.AUTO, Mode.HARDWARE, True), (Switching.ASKED, Mode.FCSP, True), (Switching.NEVER, Mode.FCSP, False)],
)
def test_a_pools_policy_says_when_devices_are_switched(switching: Switching, unpinned: Mode, pinned: bool) -> None:
    """For anybody, only for who asks for it, or never."""
    pins = Pins(now_ns=1, pools={"p": PoolPolicy(switching=switching)})
    assert where_to(place(fleet(node(switchable(partitioned=False))), "a", 10, pins))[1] is unpinned
    outcome = place(fleet(node(switchable(partitioned=False))), "a", 10, pins, mode=Mode.HARDWARE)
    assert isinstance(outcome, Placed) is pinned


def test_a_nodes_own_policy_says_it_in_place_of_its_pools() -> None:
    """In both directions; one that says nothing of it leaves its pool's in force."""
    where, never = node(switchable(partitioned=False)), PoolPolicy(switching=Switching.NEVER)
    for own, mode in (
        (NodePolicy(switching=Switching.AUTO), Mode.HARDWARE),
        (NodePolicy(), Mode.FCSP),
    ):
        pins = Pins(now_ns=1, pools={"p": never}, nodes={where.node: own})
        assert where_to(place(fleet(where), "a", 10, pins))[1] is mode
    pins = Pins(now_ns=1, nodes={where.node: NodePolicy(switching=Switching.NEVER), "other": NodePolicy()})
    assert where_to(place(fleet(where), "a", 10, pins))[1] is Mode.FCSP


def test_a_device_that_was_switched_already_needs_no_leave_to_be_switched() -> None:
    """Who joins others in the mode in which they hold it switches nothing, whatever the inventory still says."""
    where = fleet(node(switchable(partitioned=False)))
    assert where_to(place(where, "a", 10))[1] is Mode.HARDWARE
    never = Pins(now_ns=1, pools={"p": PoolPolicy(switching=Switching.NEVER)})
    assert where_to(place(where, "b", 10, never)) == ("GPU-h100", Mode.HARDWARE)


def test_a_device_that_is_as_it_should_be_is_taken_before_one_that_has_to_be_switched() -> None:
    """Of two alike the partitioned one, for hardware; for fcsp the whole one."""
    partitioned, whole = replace(switchable(partitioned=True), id="P"), replace(switchable(partitioned=False), id="W", index=1)
    assert where_to(place(fleet(node(whole, partitioned)), "a", 10))[0] == "P"
    assert where_to(place(fleet(node(partitioned, whole)), "a", 10, mode=Mode.FCSP))[0] == "W"


def test_why_a_device_is_not_partitioned_is_part_of_the_answer() -> None:
    """A missing privilege, or a reset that it would take, is told to who asked for hardware."""
    device = replace(l4(), hardware_refusal="MIG mode is off, and switching it takes a reset")
    field, allowed, possible = blamed(place(fleet(node(device)), "a", 1, mode=Mode.HARDWARE))
    assert (field, possible) == ("mode", False)
    assert "MIG mode is off, and switching it takes a reset" in allowed


def test_a_device_that_can_not_be_switched_is_taken_as_it_is() -> None:
    """An A100 outside of MIG mode is carved in software, one inside of it in hardware."""
    stiff = replace(h100(), partitioned=False, hardware_refusal="takes a reset")
    assert where_to(place(fleet(node(stiff)), "a", 10))[1] is Mode.FCSP
    assert blamed(place(fleet(node(h100())), "a", 10, mode=Mode.FCSP))[0] == "mode"


def test_a_request_says_no_runtime_to_get_the_makers_own() -> None:
    """HIP on AMD, CANN on Ascend; and never a processor."""
    request = ask("a", 1)
    assert request.runtime is Runtime.NATIVE
    processor = Device(id="OCL-0", index=0, vendor=Vendor.CPU, model="p", vram_bytes=8 * GIB, runtimes=(Runtime.OPENCL,))
    assert blamed(place(fleet(node(processor)), "a", 1))[0] == "runtime"
