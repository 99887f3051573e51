"""Sub-devices as parts of a device: who gets one, and what follows from that."""

import json
from typing import Any

import pytest
from enforcer_house import GIB, S1, House, entry

from mica.bus import Change
from mica.enforcer.limits import QUANTUM_NS
from mica.enforcer.places import Place
from mica.enforcer.placing import Part
from mica.enforcer.policy import Rules
from mica.enforcer.spatial import parts
from mica.events import Device, Inventory, LedgerEntry, Mode, PoolPolicy, Runtime, SpatialChoice, Tier, Vendor, Window
from mica.region import Spatial

S2 = Place("GPU-0", "s2")
ASKED = Rules(spatial=SpatialChoice.SUBDEVICE)
WINDOW = Window(offset_ns=0, length_ns=1, period_ns=2)


def device(**fields: Any) -> Device:
    """A processor of eight units that can be divided, except for what is given."""
    known: dict[str, Any] = {"id": "GPU-0", "index": 0, "vendor": Vendor.CPU, "model": "P", "vram_bytes": 80 * GIB}
    return Device(**(known | {"multiprocessors": 8, "subdevices_max": 8, "subdevices_whole": True} | fields))


def cl_entry(id_: str = "s1", **fields: Any) -> LedgerEntry:
    """A guaranteed entry of OpenCL's, of a tenant of its own and a quarter of the device, except for what is given."""
    return entry(id_, **({"runtime": Runtime.OPENCL, "share_ppm": 250_000, "tenant": id_} | fields))


def shares(**share_ppm: int) -> dict[str, LedgerEntry]:
    """Entries with these shares."""
    return {id_: cl_entry(id_, share_ppm=share) for id_, share in share_ppm.items()}


def sub(units: int, first: int = 0) -> Part:
    """So many of eight units."""
    return Part(Spatial.SUBDEVICE, units * 125_000, first * 125_000)


async def divided(house: House, **fields: Any) -> None:
    """A node whose device has sub-devices."""
    inventory = Inventory(node="n1", pool="default", boot_id="boot-1", devices=(device(**fields),))
    await house.bus.state.put("inventory.n1", inventory)
    await house.start()


def test_guaranteed_slices_of_whole_units_have_parts_side_by_side() -> None:
    """Of any tenants: processes on different units end nobody but themselves."""
    assert parts(device(), Rules(), shares(a=125_000, b=500_000), {}) == {"a": sub(1), "b": sub(4, 1)}


@pytest.mark.parametrize(("share_ppm", "units"), [(333_332, 0), (333_333, 1), (333_334, 1), (333_335, 0), (666_667, 2), (1, 0)])
def test_a_share_is_whole_units_to_the_ppm(share_ppm: int, units: int) -> None:
    """A third of three units is one of them, though no number of ppm is a third."""
    found = parts(device(multiprocessors=3), Rules(), shares(a=share_ppm), {})
    assert found == ({"a": Part(Spatial.SUBDEVICE, units * 1_000_000 // 3, 0)} if units else {})


@pytest.mark.parametrize(
    "other",
    [
        {"share_ppm": 300_000},
        {"share_ppm": 100_000},
        {"tier": Tier.BURST},
        {"tier": Tier.SPOT},
        {"mode": Mode.TIMESLICE, "window": WINDOW},
        {"runtime": Runtime.CUDA},
    ],
)
def test_all_slices_have_parts_or_all_take_turns(other: dict[str, Any]) -> None:
    """One that has none is on everybody's units, whatever keeps it from having one."""
    entries = {"a": cl_entry("a"), "b": cl_entry("b", **other)}
    assert parts(device(), Rules(), entries, {}) == {}
    assert parts(device(), Rules(), {"a": entries["a"]}, {}) == {"a": sub(2)}


def test_a_policy_gives_burst_and_spot_slices_parts_too() -> None:
    """What they would borrow of each other they have not, then."""
    entries = {"a": cl_entry("a", tier=Tier.BURST), "b": cl_entry("b", tier=Tier.SPOT)}
    assert parts(device(), ASKED, entries, {}) == {"a": sub(2), "b": sub(2, 2)}


def test_sub_devices_that_can_not_do_what_the_device_can_have_to_be_asked_for() -> None:
    """A program that needs images is better off in turns."""
    poor = device(subdevices_whole=False)
    assert parts(poor, Rules(), shares(a=250_000), {}) == {}
    assert parts(poor, ASKED, shares(a=250_000), {}) == {"a": sub(2)}


@pytest.mark.parametrize("choice", [SpatialChoice.NONE, SpatialChoice.MPS, SpatialChoice.GREEN])
def test_a_policy_that_wants_something_else_gives_no_sub_devices(choice: SpatialChoice) -> None:
    """Slices share by time."""
    assert parts(device(), Rules(spatial=choice), shares(a=250_000), {}) == {}


@pytest.mark.parametrize("fields", [{"subdevices_max": 0}, {"subdevices_max": 1}, {"multiprocessors": 1}, {"multiprocessors": 0}])
def test_a_device_that_can_not_be_divided_is_not(fields: dict[str, int]) -> None:
    """It has one unit, or its driver does not divide it."""
    assert parts(device(**fields), ASKED, shares(a=500_000), {}) == {}


def test_where_mps_is_active_it_goes_first_unless_sub_devices_are_asked_for() -> None:
    """It lends what is idle."""
    both = device(mps_pipe="/tmp/mps")
    assert parts(both, Rules(), shares(a=250_000), {})["a"].kind is Spatial.MPS
    assert parts(both, ASKED, shares(a=250_000), {})["a"].kind is Spatial.SUBDEVICE


def test_a_part_stays_while_others_come_and_go() -> None:
    """Its programs can not leave it: who comes first by name takes what is left."""
    found = parts(device(), Rules(), shares(a=250_000, b=500_000), {"b": sub(4, 2)}, {"b"})
    assert found == {"a": sub(2), "b": sub(4, 2)}


def test_units_of_a_slice_that_is_on_its_way_out_are_nobodys() -> None:
    """Its programs may still be at work."""
    assert parts(device(), Rules(), shares(a=250_000), {"gone": sub(2)}) == {"a": sub(2, 2)}


def test_where_no_units_in_a_row_are_left_all_take_turns() -> None:
    """A part is a row of units."""
    assert parts(device(), Rules(), shares(a=250_000, b=625_000), {"a": sub(2, 2)}) == {}


@pytest.mark.parametrize("held", [{}, {"a": sub(1)}, {"a": sub(2, 1), "b": sub(2)}, {"b": sub(2, 2)}])
def test_no_part_comes_into_force_beside_programs_that_are_not_in_theirs(held: dict[str, Part]) -> None:
    """They have units that would be others': all take turns until the last of them has ended."""
    entries = shares(a=250_000, b=250_000)
    moved = parts(device(), Rules(), entries, held).get("a") != held.get("a")
    assert (parts(device(), Rules(), entries, held, {"a"}) == {}) is moved


def test_a_leaving_slice_without_a_part_keeps_the_others_from_theirs() -> None:
    """Its programs are on every unit until they end."""
    assert parts(device(), Rules(), shares(a=250_000), {"gone": Part()}, {"gone"}) == {}
    assert parts(device(), Rules(), shares(a=250_000), {"gone": Part()}) == {"a": sub(2)}


async def test_a_sub_device_reaches_the_record_and_takes_the_turns_out_of_it(house: House) -> None:
    """And nothing of MPS's reaches the process."""
    await divided(house)
    await house.ledger(cl_entry(), cl_entry("s2", share_ppm=500_000))
    for place, part in ((S1, sub(2)), (S2, sub(4, 2))):
        record = house.regions.records[place]
        assert Part(record.spatial_kind, record.spatial_ppm, record.spatial_offset_ppm) == part
        assert (record.quantum_ns, record.ceiling_ppm) == (0, record.share_ppm)
    document = json.loads(house.regions.documents["s1"])
    assert not [name for name in document["env"] if name.startswith("CUDA_MPS")]
    assert all(mount["source"] for mount in document["mounts"])


async def test_a_newcomer_that_does_not_fit_brings_turns_and_takes_them_with_it_when_nobody_runs(house: House) -> None:
    """A program that started meanwhile has all of the device until it ends, and so long the others' parts wait."""
    await divided(house)
    first, newcomer = cl_entry(), cl_entry("s2", share_ppm=300_000)
    await house.ledger(first)
    assert house.regions.records[S1].spatial_kind is Spatial.SUBDEVICE
    await house.ledger(first, newcomer)
    assert [house.regions.records[place].quantum_ns for place in (S1, S2)] == [QUANTUM_NS] * 2
    house.attach(pid=100, place=S1)
    await house.tick(1)
    await house.ledger(first)
    assert house.regions.records[S1].spatial_kind is Spatial.NONE
    house.processes.running[100].exit()
    await house.tick(1)
    assert house.regions.records[S1].spatial_kind is Spatial.SUBDEVICE


async def test_an_enforcer_that_starts_again_leaves_programs_in_their_parts(house: House) -> None:
    """What stands in the records is what it goes on from."""
    await divided(house)
    await house.ledger(cl_entry(), cl_entry("s2"))
    house.attach(pid=100, place=S2)
    await house.tick(1)
    await house.ledger(cl_entry("s2"))
    before = house.regions.records[S2]
    assert before.spatial_offset_ppm > 0
    await house.restart()
    assert house.regions.records[S2] == before


async def test_a_gang_has_parts_on_the_devices_that_are_divided(house: House) -> None:
    """What the slices of one device do is nothing to another's, also where one slice is on both."""
    both = (device(), device(id="GPU-1", index=1))
    await house.bus.state.put("inventory.n1", Inventory(node="n1", pool="default", boot_id="boot-1", devices=both))
    await house.start()
    gang = cl_entry()
    await house.ledger_of({"GPU-0": [gang, cl_entry("s2")], "GPU-1": [gang, cl_entry("s3", share_ppm=300_000)]})
    divided = {place: record.spatial_kind is Spatial.SUBDEVICE for place, record in house.regions.records.items()}
    assert divided == {S1: True, S2: True, Place("GPU-1", "s1"): False, Place("GPU-1", "s3"): False}


async def test_a_policy_takes_parts_away_at_once(house: House) -> None:
    """Records change; programs keep what they have."""
    await divided(house)
    await house.ledger(cl_entry())
    assert house.enforcer is not None
    house.enforcer.on_policies([Change("pool.default", PoolPolicy(spatial=SpatialChoice.NONE), 1)])
    await house.settle()
    assert (house.regions.records[S1].spatial_kind, house.regions.records[S1].quantum_ns) == (Spatial.NONE, QUANTUM_NS)
