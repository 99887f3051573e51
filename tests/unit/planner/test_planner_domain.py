"""What the planner decides, by itself: sizes, modes, slots, windows, quotas."""

import pytest
from msgspec.structs import replace
from planner_house import GIB, ask, h100, l4, mixed, p40

from mica.events import (
    Device,
    Health,
    Holding,
    Inventory,
    MeasuredPoint,
    Mode,
    Observed,
    Partition,
    PoolPolicy,
    Profile,
    Runtime,
    Slo,
    TenantHoldings,
    TenantQuota,
    Vendor,
    Window,
)
from mica.planner.domain import partitions, windows
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.partitions import Geometry
from mica.planner.domain.placing import Ask, Pins, Placed, Unplaced, decide
from mica.planner.domain.quotas import over_quota
from mica.planner.domain.sizing import Size, size_of


def fleet(*inventories: Inventory) -> Fleet:
    made = Fleet()
    for inventory in inventories:
        node = made.node(inventory.node)
        node.take_inventory(inventory)
        node.take_observed(Observed(node=inventory.node, boot_id="b1", lease_until=1_000))
    return made


def place(where: Fleet, id_: str, gib: float, pins: Pins | None = None, **more: object) -> Placed | Unplaced:
    request = ask(id_, gib, **more)
    size = size_of(request)
    assert isinstance(size, Size)
    outcome = decide(where, Ask(id=id_, request=request, size=size, pins=pins or Pins(now_ns=1), members=request.devices))
    if isinstance(outcome, Placed):
        where.reserve(id_, outcome.placements)
    return outcome


def where_to(outcome: Placed | Unplaced) -> tuple[str, Mode]:
    assert isinstance(outcome, Placed), outcome
    return outcome.placements[0].device_id, outcome.placements[0].mode


def blamed(outcome: Placed | Unplaced) -> tuple[str, str, bool]:
    assert isinstance(outcome, Unplaced), outcome
    return outcome.refusal.field, outcome.refusal.allowed, outcome.possible


def test_hardware_is_taken_first_then_fcsp_then_timeslice() -> None:
    """The strongest mode that fits wins, and what was not taken is explained."""
    where = fleet(mixed())
    first = place(where, "a", 70)
    assert where_to(first) == ("n1-h100", Mode.HARDWARE)
    assert isinstance(first, Placed)
    assert {each.reason for each in first.decision.rejected} == {
        "fcsp is weaker than hardware",
        "timeslice is weaker than hardware",
    }
    assert where_to(place(where, "b", 20)) == ("n1-l4", Mode.FCSP)
    assert where_to(place(where, "c", 20)) == ("n1-p40", Mode.TIMESLICE)
    assert blamed(place(where, "d", 20)) == ("vram_bytes", f"at most {3 * GIB + GIB // 2} now", True)


def test_more_than_any_device_has_is_never_possible() -> None:
    """Such a request names the largest that any device could ever give."""
    field, allowed, possible = blamed(place(fleet(mixed()), "a", 200))
    assert (field, allowed, possible) == ("vram_bytes", f"at most {int(79.25 * GIB)}", False)


def test_an_unknown_pool_lists_the_known_ones() -> None:
    """The answer to a typo is the list."""
    where = fleet(mixed("n1", "gold"), mixed("n2", "edge"))
    assert blamed(place(where, "a", 1, pool="silver")) == ("pool", "one of edge, gold", False)


def test_a_vendor_without_devices_lists_the_others() -> None:
    """So is the answer to a vendor that nobody has."""
    assert blamed(place(fleet(mixed()), "a", 1, vendor=Vendor.AMD)) == ("vendor", "one of nvidia", False)


def test_a_runtime_without_a_shim_gets_no_software_mode() -> None:
    """fcsp and timeslice are offered only where a shim enforces the runtime."""
    device = replace(l4(), vendor=Vendor.AMD, runtimes=(Runtime.HIP, Runtime.OPENCL))
    field, allowed, possible = blamed(
        place(fleet(Inventory(node="n", pool="p", boot_id="b", devices=(device,))), "a", 1, runtime=Runtime.HIP)
    )
    assert (field, possible) == ("runtime", False)
    assert "no shim enforces hip on amd" in allowed


@pytest.mark.parametrize("vendor", list(Vendor))
def test_opencl_is_enforced_on_devices_of_every_vendor(vendor: Vendor) -> None:
    """In turns at least, wherever a device has it."""
    device = Device(id="GPU-1", index=0, vendor=vendor, model="any", vram_bytes=8 * GIB, runtimes=(Runtime.OPENCL,))
    node = Inventory(node="n", pool="p", boot_id="b", devices=(device,))
    assert where_to(place(fleet(node), "a", 1, runtime=Runtime.OPENCL, mode=Mode.TIMESLICE)) == ("GPU-1", Mode.TIMESLICE)


def test_a_processor_takes_opencl_in_either_software_mode_and_nothing_else() -> None:
    """It has no compute capability, and no need of one: a processor runs programs side by side and takes them off again."""
    device = Device(id="OCL-0", index=0, vendor=Vendor.CPU, model="a processor", vram_bytes=8 * GIB, runtimes=(Runtime.OPENCL,))
    node = Inventory(node="n", pool="p", boot_id="b", devices=(device,))
    assert where_to(place(fleet(node), "a", 1, runtime=Runtime.OPENCL)) == ("OCL-0", Mode.FCSP)
    assert where_to(place(fleet(node), "a", 1, runtime=Runtime.OPENCL, mode=Mode.TIMESLICE)) == ("OCL-0", Mode.TIMESLICE)
    field, allowed, possible = blamed(place(fleet(node), "a", 1))
    assert (field, possible) == ("runtime", False)
    assert "offers opencl, none that is its maker's own" in allowed


def test_a_mode_that_no_device_offers_is_named() -> None:
    """Asking a P40 for fcsp tells its compute capability."""
    where = fleet(Inventory(node="n", pool="p", boot_id="b", devices=(p40(),)))
    field, allowed, possible = blamed(place(where, "a", 1, mode=Mode.FCSP))
    assert (field, possible) == ("mode", False)
    assert "6.1" in allowed


def test_a_device_is_carved_in_one_mode_at_a_time() -> None:
    """While a pinned timeslice holds an L4, fcsp has to wait there."""
    where = fleet(Inventory(node="n", pool="p", boot_id="b", devices=(l4(),)))
    assert where_to(place(where, "a", 1, mode=Mode.TIMESLICE)) == ("GPU-l4", Mode.TIMESLICE)
    field, allowed, possible = blamed(place(where, "b", 1, mode=Mode.FCSP))
    assert (field, possible) == ("mode", True)
    assert "carved as timeslice" in allowed


def test_policies_pin_modes_by_pool_and_by_tenant() -> None:
    """A pool's and a tenant's pins leave only what both allow."""
    where = fleet(mixed())
    pool = Pins(now_ns=1, pools={"default": PoolPolicy(modes=(Mode.TIMESLICE,))})
    assert where_to(place(where, "a", 1, pool)) == ("n1-p40", Mode.TIMESLICE)
    both = Pins(now_ns=1, pools={"default": PoolPolicy(modes=(Mode.TIMESLICE,))}, tenant_mode=Mode.FCSP)
    assert blamed(place(where, "b", 1, both))[0] == "mode"


def test_a_gang_stays_on_one_node_and_on_devices_of_one_kind() -> None:
    """Two members need two alike devices; one node with them is found, none is made up."""
    twins = Inventory(node="n2", pool="default", boot_id="b", devices=(l4("x", 0), l4("y", 1)))
    outcome = place(fleet(mixed(), twins), "a", 4, devices=2)
    assert isinstance(outcome, Placed)
    assert [(each.node, each.device_id) for each in outcome.placements] == [("n2", "x"), ("n2", "y")]
    assert blamed(place(fleet(mixed()), "b", 4, devices=2))[0] == "devices"


def test_a_failed_or_unleased_device_is_not_offered() -> None:
    """Neither a sick device nor a node whose enforcer is silent gets slices."""
    sick = Inventory(node="n", pool="p", boot_id="b", devices=(replace(l4(), health=Health.FAILED),))
    assert blamed(place(fleet(sick), "a", 1))[0] == "health"
    assert blamed(place(fleet(mixed()), "a", 1, Pins(now_ns=2_000)))[0] == "node"


def test_what_is_too_large_for_a_silent_nodes_devices_is_not_possible_later_either() -> None:
    """Beside a device that is too small, one that nobody answers for does not make a request wait in vain; a fitting one does."""
    other = Inventory(node="silent", pool="p", boot_id="b", devices=(l4("far"),))
    where = fleet(mixed())
    where.node("silent").take_inventory(other)
    assert not blamed(place(where, "a", 200))[2]
    silent = fleet(Inventory(node="n", pool="p", boot_id="b", devices=(l4(),)))
    assert blamed(place(silent, "b", 9, Pins(now_ns=2_000)))[2]
    assert not blamed(place(silent, "c", 90, Pins(now_ns=2_000)))[2]


def test_the_tightest_device_is_filled_first() -> None:
    """Best fit keeps the emptier device whole."""
    where = fleet(Inventory(node="n", pool="p", boot_id="b", devices=(l4("x", 0), l4("y", 1))))
    first, _ = where_to(place(where, "a", 4, share_ppm=100_000))
    assert where_to(place(where, "b", 4, share_ppm=100_000))[0] == first


def test_one_more_small_instance_keeps_the_large_ones_possible() -> None:
    """The first 1g goes to the slot that no larger profile but 7g wants, and seven of them fill the device."""
    geometry = Geometry(h100())
    first = partitions.choose(geometry, [], GIB, 1)
    assert first is not None
    assert (first.profile.name, first.start) == ("1g.10gb", 6)
    taken: list[Partition] = []
    while (instance := partitions.choose(geometry, taken, GIB, 1)) is not None:
        taken.append(instance.partition)
    assert len(taken) == 7
    assert sorted(each.start for each in taken) == list(range(7))


def test_a_partition_satisfies_memory_and_compute() -> None:
    """Asking for little memory and much compute takes the profile that has the compute."""
    instance = partitions.choose(Geometry(h100()), [], GIB, 480_000)
    assert instance is not None
    assert (instance.profile.name, instance.share_ppm) == ("4g.40gb", 484_848)


def test_windows_are_taken_first_fit_and_never_overlap() -> None:
    """A gap that is long enough is used, one that is not is skipped."""
    taken = [
        Window(offset_ns=0, length_ns=40_000_000, period_ns=100_000_000),
        Window(offset_ns=50_000_000, length_ns=10_000_000, period_ns=100_000_000),
    ]
    small, large = windows.first_fit(taken, 10_000_000), windows.first_fit(taken, 30_000_000)
    assert small is not None
    assert large is not None
    assert (small.offset_ns, large.offset_ns) == (40_000_000, 60_000_000)
    assert windows.first_fit(taken, 41_000_000) is None
    assert windows.largest_share(taken) == 400_000


def test_the_share_comes_from_the_measured_points_and_the_promise() -> None:
    """The smallest that keeps it, with a tenth of headroom and busy neighbours; what none keeps is refused with the best."""
    points = (
        MeasuredPoint(share_ppm=200_000, p99_ms=90, rate_hz=5),
        MeasuredPoint(share_ppm=500_000, p99_ms=30, rate_hz=20),
        MeasuredPoint(share_ppm=900_000, p99_ms=20, rate_hz=40),
    )
    size = size_of(ask("a", 1, profile=Profile(points=points), slo=Slo(p99_ms=50)))
    assert isinstance(size, Size)
    assert size.share_ppm == 433_813
    assert "interpolated" in size.reason
    refusal = size_of(ask("a", 1, profile=Profile(points=points), slo=Slo(p99_ms=1)))
    assert isinstance(refusal, Refusal)
    assert (refusal.field, refusal.allowed) == ("slo", "what the profile measured: p99 down to 20 ms, up to 40 Hz")


def test_a_request_without_a_size_is_refused() -> None:
    """Neither vram_bytes nor a profile with it: the field is named."""
    refusal = size_of(replace(ask("a", 1), vram_bytes=None))
    assert isinstance(refusal, Refusal)
    assert refusal.field == "vram_bytes"


@pytest.mark.parametrize(
    ("quota", "field"),
    [(TenantQuota(slices=1), "tenant"), (TenantQuota(vram_bytes=5), "vram_bytes"), (TenantQuota(share_ppm=5), "share_ppm")],
)
def test_each_part_of_a_quota_is_kept(quota: TenantQuota, field: str) -> None:
    """Slices, memory and compute are each limited, and a slice's own earlier charge does not count."""
    held = TenantHoldings(tenant="t", holdings={"a": Holding(vram_bytes=3, share_ppm=3)})
    refusal = over_quota(held, "b", Holding(vram_bytes=3, share_ppm=3), quota)
    assert refusal is not None
    assert refusal.field == field
    assert over_quota(held, "a", Holding(vram_bytes=5, share_ppm=5), quota) is None
