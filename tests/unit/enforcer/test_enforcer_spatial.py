"""Parts of a device that slices have to themselves, and how each is given."""

import json
from itertools import pairwise
from typing import Any

import pytest
from enforcer_house import GIB, S1, House, entry
from hypothesis import given
from hypothesis import strategies as st

from mica.bus import Change
from mica.enforcer.limits import QUANTUM_NS
from mica.enforcer.places import Place
from mica.enforcer.placing import Part
from mica.enforcer.policy import Rules
from mica.enforcer.spatial import least_group, parts
from mica.events import (
    PPM,
    Device,
    Inventory,
    LedgerEntry,
    Mode,
    NodePolicy,
    PoolPolicy,
    SpatialChoice,
    Tier,
    Vendor,
    Window,
)
from mica.region import Spatial

GREEN = Rules(spatial=SpatialChoice.GREEN)


def device(**fields: Any) -> Device:
    """A device with 132 multiprocessors of capability 9.0 under an MPS daemon, except for what is given."""
    known: dict[str, Any] = {
        "id": "GPU-0",
        "index": 0,
        "vendor": Vendor.NVIDIA,
        "model": "H100",
        "vram_bytes": 80 * GIB,
        "multiprocessors": 132,
        "compute_capability": (9, 0),
        "mps_pipe": "/tmp/mps",
        "green_contexts": True,
    }
    return Device(**(known | fields))


def shares(**share_ppm: int) -> dict[str, LedgerEntry]:
    """Entries of one tenant with these shares."""
    return {id_: entry(id_, share_ppm=share) for id_, share in share_ppm.items()}


async def under_mps(house: House, **fields: Any) -> None:
    """A node whose first device has an MPS daemon."""
    inventory = Inventory(node="n1", pool="default", boot_id="boot-1", devices=(device(**fields),))
    await house.bus.state.put("inventory.n1", inventory)
    await house.start()


def environment(house: House, slice_id: str = "s1") -> dict[str, str]:
    """What a process of the slice starts with."""
    found: dict[str, str] = json.loads(house.regions.documents[slice_id])["env"]
    return found


def test_without_mps_there_is_no_part() -> None:
    """Green contexts of several processes take turns there, and the rest of the device would be idle meanwhile."""
    assert parts(device(mps_pipe=""), Rules(), shares(s1=300_000), {}) == {}
    assert parts(device(mps_pipe=""), GREEN, shares(s1=300_000), {}) == {}


def test_under_mps_a_slice_has_its_share_in_whole_percent() -> None:
    """Rounded up: the rate takes care that the slice uses no more than its share of it."""
    found = parts(device(), Rules(), shares(s1=300_000, s2=142_857), {})
    assert found == {"s1": Part(Spatial.MPS, 300_000), "s2": Part(Spatial.MPS, 150_000)}


def test_slices_of_several_tenants_share_no_mps_server_unless_the_policy_says_so() -> None:
    """A fatal fault of one would end the other."""
    two = {"s1": entry("s1"), "s2": entry("s2", tenant="other")}
    assert parts(device(), Rules(), two, {}) == {}
    assert parts(device(), Rules(mps_across_tenants=True), two, {}).keys() == {"s1", "s2"}


def test_a_policy_can_forbid_parts() -> None:
    """Then slices share by time."""
    assert parts(device(), Rules(spatial=SpatialChoice.NONE), shares(s1=300_000), {}) == {}


def test_a_slice_with_a_window_needs_no_part() -> None:
    """Nobody else runs in it."""
    window = Window(offset_ns=0, length_ns=1, period_ns=2)
    assert parts(device(), Rules(), {"s1": entry(mode=Mode.TIMESLICE, window=window)}, {}) == {}


@pytest.mark.parametrize(("capability", "group"), [((6, 1), 0), ((7, 5), 2), ((8, 9), 4), ((9, 0), 8), ((12, 0), 8), (None, 0)])
def test_the_smallest_group_of_multiprocessors_depends_on_the_capability(capability: tuple[int, int] | None, group: int) -> None:
    """2 from 7.0 on, 4 from 8.0 on, 8 from 9.0 on; none below."""
    assert least_group(capability) == group


def test_green_parts_are_whole_groups_side_by_side() -> None:
    """132 multiprocessors are 16 groups of 8: 30 % is 5 of them, and the next slice begins behind them."""
    found = parts(device(), GREEN, shares(s1=300_000, s2=500_000), {})
    assert found == {"s1": Part(Spatial.GREEN, 312_500, 0), "s2": Part(Spatial.GREEN, 500_000, 312_500)}


def test_a_green_part_stays_where_it_is_while_others_come_and_go() -> None:
    """A process can not change its multiprocessors: the slice that comes first by name takes what is left."""
    held = {"s2": Part(Spatial.GREEN, 500_000, 312_500)}
    found = parts(device(), GREEN, shares(s0=250_000, s2=500_000), held)
    assert found["s2"] == held["s2"]
    assert found["s0"] == Part(Spatial.GREEN, 250_000, 0)


def test_a_part_of_a_device_that_was_split_otherwise_does_not_stay() -> None:
    """12 multiprocessors are 3 groups of 4: the second half of another device would end behind them."""
    held = {"s1": Part(Spatial.GREEN, 500_000, 500_000)}
    found = parts(device(multiprocessors=12, compute_capability=(8, 6)), GREEN, shares(s1=333_334), held)
    assert found == {"s1": Part(Spatial.GREEN, 666_666, 0)}


def test_a_slice_for_which_no_groups_in_a_row_are_left_has_no_part() -> None:
    """It shares by time."""
    held = {"s1": Part(Spatial.GREEN, 500_000, 250_000)}
    assert parts(device(), GREEN, shares(s1=500_000, s2=400_000), held).keys() == {"s1"}


@pytest.mark.parametrize("fields", [{"green_contexts": False}, {"multiprocessors": 0}, {"compute_capability": (6, 1)}])
def test_a_device_without_green_contexts_has_no_green_parts(fields: dict[str, Any]) -> None:
    """An old driver, an old device, or one that does not say how large it is."""
    assert parts(device(**fields), GREEN, shares(s1=300_000), {}) == {}


@given(st.data())
def test_parts_never_overlap_and_are_never_smaller_than_the_share(data: st.DataObject) -> None:
    """Whatever the shares, the device and what was in force before."""
    wanted = data.draw(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, PPM), max_size=8))
    held = {}
    if data.draw(st.booleans()):
        earlier = data.draw(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, PPM), max_size=8))
        held = parts(device(), GREEN, shares(**earlier), {})
    capability = data.draw(st.sampled_from([(7, 0), (8, 6), (9, 0)]))
    found = parts(
        device(multiprocessors=data.draw(st.integers(1, 200)), compute_capability=capability), GREEN, shares(**wanted), held
    )
    edges = sorted((part.offset_ppm, part.offset_ppm + part.ppm) for part in found.values())
    assert all(one[1] <= other[0] for one, other in pairwise(edges))
    assert all(wanted[id_] <= part.ppm + 1 and part.offset_ppm + part.ppm <= PPM for id_, part in found.items())


async def test_a_part_reaches_the_record_and_the_process(house: House) -> None:
    """No turns for who has a part, and the environment by which MPS gives it."""
    await under_mps(house)
    await house.ledger(entry(share_ppm=250_000))
    record = house.regions.records[S1]
    assert (record.spatial_kind, record.spatial_ppm, record.quantum_ns) == (Spatial.MPS, 250_000, 0)
    assert (
        environment(house).items()
        >= {
            "CUDA_MPS_PIPE_DIRECTORY": "/tmp/mps",
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25",
            "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=5120M",
        }.items()
    )


async def test_a_second_tenant_takes_everybodys_part_away_and_gives_it_back_by_leaving(house: House) -> None:
    """All share by time meanwhile, new processes are kept away from MPS, and nothing is announced a second time."""
    await under_mps(house)
    first, second = entry(share_ppm=250_000), entry("s2", tenant="other", share_ppm=250_000)
    await house.ledger(first)
    await house.ledger(first, second)
    for id_ in ("s1", "s2"):
        record = house.regions.records[Place("GPU-0", id_)]
        assert (record.spatial_kind, record.spatial_ppm, record.quantum_ns) == (Spatial.NONE, 0, QUANTUM_NS)
        assert environment(house, id_)["CUDA_MPS_PIPE_DIRECTORY"] == "/run/mica/no-mps"
        assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" not in environment(house, id_)
    await house.ledger(first)
    assert house.regions.records[S1].spatial_kind is Spatial.MPS
    assert environment(house)["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "25"
    assert [said for said in house.said() if said[1] == "s1"] == [("slice.ready", "s1", 1)]


async def test_a_policy_that_changes_is_applied_at_once(house: House) -> None:
    """By the pool, and by the node over it."""
    await under_mps(house)
    await house.ledger(entry())
    assert house.enforcer is not None
    house.enforcer.on_policies([Change("pool.default", PoolPolicy(spatial=SpatialChoice.NONE), 1)])
    await house.settle()
    assert house.regions.records[S1].spatial_kind is Spatial.NONE
    house.enforcer.on_policies([Change("node.n1", NodePolicy(spatial=SpatialChoice.GREEN), 2)])
    await house.settle()
    assert house.regions.records[S1].spatial_kind is Spatial.GREEN
    assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" not in environment(house)


async def test_an_enforcer_that_starts_again_keeps_every_part_where_it_is(house: House) -> None:
    """What stands in the records is what it goes on from."""
    await house.bus.policy.put("pool.default", PoolPolicy(spatial=SpatialChoice.GREEN))
    await under_mps(house)
    await house.ledger(entry("s1", share_ppm=300_000), entry("s2", share_ppm=300_000))
    await house.ledger(entry("s2", share_ppm=300_000))
    before = house.regions.records[Place("GPU-0", "s2")]
    assert before.spatial_offset_ppm > 0
    await house.restart()
    assert house.regions.records[Place("GPU-0", "s2")] == before


async def test_a_slice_with_a_part_has_no_more_than_that(house: House) -> None:
    """It could not use more of the device than its part."""
    await under_mps(house)
    await house.ledger(entry(tier=Tier.BURST, share_ppm=250_000))
    assert house.regions.records[S1].ceiling_ppm == 250_000


async def test_a_gang_has_parts_on_all_of_its_devices_or_on_none(house: House) -> None:
    """A process is a client of MPS everywhere or nowhere."""
    both = (device(), device(id="GPU-1", index=1))
    await house.bus.state.put("inventory.n1", Inventory(node="n1", pool="default", boot_id="boot-1", devices=both))
    await house.start()
    gang, second = entry("g1"), Place("GPU-1", "g1")
    await house.ledger_of({"GPU-0": [gang], "GPU-1": [gang]})
    assert house.regions.records[second].spatial_kind is Spatial.MPS
    assert environment(house, "g1")["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=5120M,1=5120M"
    await house.ledger_of({"GPU-0": [gang, entry("s2", tenant="other")], "GPU-1": [gang]})
    assert house.regions.records[second].spatial_kind is Spatial.NONE
    assert environment(house, "g1")["CUDA_MPS_PIPE_DIRECTORY"] == "/run/mica/no-mps"
