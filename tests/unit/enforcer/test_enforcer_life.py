"""The life of a slice on one node: applied, changed, released."""

import json

import pytest
from enforcer_house import GIB, House, entry, hardware

from mica.bus import BusUnavailableError, Change
from mica.enforcer.places import Place
from mica.enforcer.steps import same_slots
from mica.events import (
    Control,
    Departure,
    Device,
    Inventory,
    Mode,
    ObservedState,
    Partition,
    Runtime,
    SliceEvicted,
    SliceReady,
    Tier,
    Vendor,
    Window,
)
from mica.region import AttachMessage, SliceState

S1 = Place("GPU-0", "s1")
GONE = {"s1": Departure(tenant="acme", generation=2, grace_s=5.0)}


async def test_a_new_entry_becomes_live_and_ready_once(house: House) -> None:
    """A slice gets its usage region, its record and one ready; what is repeated changes nothing."""
    await house.start()
    await house.ledger(entry())
    await house.ledger(entry())
    limits = house.regions.records[S1]
    assert (limits.vram_limit_bytes, limits.share_ppm, limits.ceiling_ppm, limits.state) == (
        4 * GIB,
        300_000,
        300_000,
        SliceState.LIVE,
    )
    assert house.regions.slots[S1] == {}
    assert house.said() == [("slice.ready", "s1", 1)]
    seen = await house.observed()
    assert seen.generation == 2
    assert seen.devices["GPU-0"]["s1"].state is ObservedState.LIVE
    assert seen.lease_until == house.clock.unix_ns() + 30_000_000_000


async def test_the_record_is_written_after_everything_it_rests_on(house: House) -> None:
    """A shim that finds a live record always finds its usage region too."""
    calls: list[str] = []
    house.node.crash_at(calls.append)
    await house.start()
    await house.ledger(entry())
    assert calls == ["make_usage", "write", "write_attach"]


async def test_a_gang_is_ready_when_all_its_devices_are(house: House) -> None:
    """Ready names every device, with what is taken of the node beside it, and is not said while one of them is missing."""
    await house.start()
    await house.ledger_of({"GPU-0": [entry()], "GPU-9": [entry()]})
    assert house.said() == []
    assert (await house.observed()).devices["GPU-9"]["s1"].state is ObservedState.FAILED
    await house.ledger_of({device: [entry(cpu_milli=2_000)] for device in ("GPU-0", "GPU-1")})
    ready = house.bus.published("slice.ready.s1")[0]
    assert isinstance(ready, SliceReady)
    assert {(placement.device_id, placement.cpu_milli) for placement in ready.placements} == {("GPU-0", 2_000), ("GPU-1", 2_000)}


async def test_a_later_generation_is_resized_and_one_in_between_is_superseded(house: House) -> None:
    """Only the newest of several changes is put in force and announced."""
    enforcer = await house.start()
    await house.ledger(entry())
    house.enforcer = None
    await house.ledger(entry(generation=2, share_ppm=400_000))
    house.enforcer = enforcer
    await house.ledger(entry(generation=3, share_ppm=500_000))
    assert house.said() == [("slice.ready", "s1", 1), ("slice.resized", "s1", 3)]
    assert house.regions.records[S1].share_ppm == 500_000


async def test_an_older_ledger_than_the_known_one_is_not_applied(house: House) -> None:
    """A watch that starts anew may deliver the past; the node does not go back to it."""
    enforcer = await house.start()
    await house.ledger(entry())
    newest = enforcer.ledger
    await house.ledger()
    enforcer.on_ledger([Change("ledger.n1", newest, 1)])
    assert enforcer.ledger.generation == 2


async def test_a_slice_without_processes_is_released_at_once(house: House) -> None:
    """Nothing of it is left: no record, no usage region, no attach file, no line in observed."""
    await house.start()
    await house.ledger(entry())
    await house.ledger(departures=GONE)
    assert house.said()[-1] == ("slice.released", "s1", 2)
    assert not house.regions.records
    assert not house.regions.slots
    assert not house.regions.documents
    assert (await house.observed()).devices == {}


async def test_an_eviction_ends_in_evicted_with_its_reason(house: House) -> None:
    """The departure says which of the two ends it is."""
    await house.start()
    await house.ledger(entry())
    await house.ledger(departures={"s1": Departure(tenant="acme", generation=2, evicted=True, message="spot")})
    [evicted] = house.bus.published("slice.evicted.s1")
    assert isinstance(evicted, SliceEvicted)
    assert evicted.message == "spot"
    assert not house.bus.published("slice.released.s1")


async def test_of_a_slice_that_goes_on_elsewhere_no_end_is_told(house: House) -> None:
    """It is gone here all the same; what becomes of it is the planner's to say."""
    await house.start()
    await house.ledger(entry())
    await house.ledger(departures={"s1": Departure(tenant="acme", generation=2, evicted=True, again=True)})
    assert house.said() == [("slice.ready", "s1", 1)]
    assert not house.regions.records
    assert (await house.observed()).devices == {}


async def test_a_departure_of_a_slice_that_never_came_is_answered_too(house: House) -> None:
    """Placed and released between two looks at the ledger: the end is still told, once."""
    await house.start()
    await house.ledger(departures=GONE)
    await house.ledger(departures=GONE)
    assert house.said() == [("slice.released", "s1", 2)]


async def test_processes_get_their_grace_then_sigterm_then_sigkill(house: House) -> None:
    """Until the last byte is free the slice is charged; then it is released, and its slot was reclaimed once."""
    await house.start()
    await house.ledger(entry())
    holder = house.attach(vram_bytes=GIB)
    await house.tick(1)
    await house.ledger(departures=GONE)
    process = house.processes.running[100]
    assert house.regions.records[S1].control is Control.DRAIN
    seen = await house.observed_slice()
    assert seen is not None
    assert (seen.state, seen.vram_bytes) == (ObservedState.DRAINING, 4 * GIB)
    await house.tick(4)
    assert process.signals == []
    await house.tick(1)
    assert process.signals == [15]
    assert ("slice.released", "s1", 2) not in house.said()
    await house.tick(1)
    assert process.signals == [15, 9]
    assert house.said()[-1] == ("slice.released", "s1", 2)
    assert house.regions.reclaimed == [(S1, holder, GIB)]


async def test_a_shrink_is_in_force_at_once_and_announced_when_it_is_true(house: House) -> None:
    """The limit falls now; the old size stays charged, and unannounced, until no process holds more than the new one."""
    await house.start()
    await house.ledger(entry())
    holder = house.attach(vram_bytes=3 * GIB)
    await house.tick(1)
    await house.ledger(entry(generation=2, vram_bytes=2 * GIB))
    assert house.regions.records[S1].vram_limit_bytes == 2 * GIB
    seen = await house.observed_slice()
    assert seen is not None
    assert (seen.generation, seen.vram_bytes) == (1, 3 * GIB)
    assert ("slice.resized", "s1", 2) not in house.said()
    house.regions.slots[S1][holder] = GIB
    await house.tick(1)
    seen = await house.observed_slice()
    assert seen is not None
    assert (seen.generation, seen.vram_bytes) == (2, 2 * GIB)
    assert house.said()[-1] == ("slice.resized", "s1", 2)


async def test_a_full_device_fails_the_slice_and_the_generation_goes_on(house: House) -> None:
    """The planner reads the reason in observed; the other slices are not held up."""
    await house.start()
    await house.ledger(*(entry(f"s{n}", vram_bytes=1) for n in range(129)))
    seen = await house.observed()
    failed = [slice_ for slice_ in seen.devices["GPU-0"].values() if slice_.state is ObservedState.FAILED]
    assert len(failed) == 1
    assert "128 records are taken" in failed[0].message
    assert seen.generation == 1
    assert len(house.said()) == 128


async def test_without_a_shim_a_software_slice_shows_no_device(house: House) -> None:
    """What a driver would read names no device; the shim finds the slice's devices beside it."""
    await house.start()
    await house.ledger(entry("s1"))
    env = json.loads(house.regions.documents["s1"])["env"]
    assert (env["CUDA_VISIBLE_DEVICES"], env["MICA_VISIBLE_DEVICES"]) == ("mica-shim-is-not-loaded", "GPU-0")


async def test_an_opencl_slice_is_told_of_the_layer_and_of_the_node_that_its_devices_are_named_after(house: House) -> None:
    """A slice of another runtime is not: its programs' OpenCL is as it was."""
    await house.start()
    await house.ledger(entry("s1", runtime=Runtime.OPENCL), entry("s2"))
    document = json.loads(house.regions.documents["s1"])
    assert document["env"]["OPENCL_LAYERS"] == "/lib/shim/libmica-opencl.so"
    assert document["env"]["MICA_NODE"] == document["node"]
    assert {"source": "/lib/shim/libmica-opencl.so", "target": "/lib/shim/libmica-opencl.so", "read_only": True} in document[
        "mounts"
    ]
    assert "MICA_OPENCL_IDS" not in document["env"]
    assert "OPENCL_LAYERS" not in json.loads(house.regions.documents["s2"])["env"]


async def test_an_opencl_slice_of_a_device_with_two_names_is_told_both(house: House) -> None:
    """The layer knows it by what OpenCL says of it; its regions are called as its vendor's library calls it."""
    radeon = Device(id="GPU-0", index=0, vendor=Vendor.AMD, model="MI300X", vram_bytes=192 * GIB, opencl_id="OCL-1")
    await house.bus.state.put("inventory.n1", Inventory(node="n1", pool="default", boot_id="boot-1", devices=(radeon,)))
    await house.start()
    await house.ledger(entry("s1", runtime=Runtime.OPENCL))
    assert json.loads(house.regions.documents["s1"])["env"]["MICA_OPENCL_IDS"] == "OCL-1=GPU-0"


async def test_a_process_is_told_what_to_do_when_something_is_at_fault(house: House) -> None:
    """Refusing is the default, and stands in the document, so that it goes before what a tenant's environment says."""
    await house.start()
    await house.ledger(entry("s1"))
    assert json.loads(house.regions.documents["s1"])["env"]["MICA_ON_FAULT"] == "refuse"


async def test_hardware_gets_its_partition_before_its_record(house: House) -> None:
    """Ready carries the partition's UUID, and processes are told to use it without a shim."""
    await house.start()
    await house.ledger(hardware())
    [made] = house.partitions.on["GPU-0"]
    [ready] = house.bus.published("slice.ready.h1")
    assert isinstance(ready, SliceReady)
    assert ready.placements[0].partition == made
    document = json.loads(house.regions.documents["h1"])
    assert document["env"] == {"MICA_SLICE": "h1", "MICA_RUNTIME_DIR": "/run/mica", "CUDA_VISIBLE_DEVICES": made.uuid}
    await house.ledger(departures={"h1": Departure(tenant="acme", generation=2)})
    assert house.partitions.on["GPU-0"] == []
    assert house.said()[-1] == ("slice.released", "h1", 2)


async def test_a_slice_that_leaves_while_its_partition_is_made_keeps_its_slots_until_they_are_free(house: House) -> None:
    """Released is not said, and the slots are observed, before the partition is gone again."""
    enforcer = await house.start()
    house.enforcer = None
    await house.ledger(hardware())
    enforcer.on_ledger([Change("ledger.n1", await house.stored_ledger(), 1)])
    await enforcer.settle()
    await enforcer.tell()
    await house.ledger(departures={"h1": Departure(tenant="acme", generation=2)})
    enforcer.on_ledger([Change("ledger.n1", await house.stored_ledger(), 2)])
    await enforcer.settle()
    await enforcer.tell()
    seen = await house.observed_slice("h1")
    assert seen is not None
    assert seen.state is ObservedState.DRAINING
    assert seen.partition is not None
    assert house.said() == []
    house.enforcer = enforcer
    await house.settle()
    assert house.partitions.on["GPU-0"] == []
    assert house.said() == [("slice.released", "h1", 2)]


async def test_a_refused_partition_fails_its_slice_alone(house: House) -> None:
    """What the library says reaches the planner; a software slice beside it is ready."""
    house.partitions.refuse = "insufficient resources"
    await house.start()
    await house.ledger_of({"GPU-0": [hardware()], "GPU-1": [entry()]})
    seen = await house.observed_slice("h1")
    assert seen is not None
    assert (seen.state, seen.message) == (ObservedState.FAILED, "insufficient resources")
    assert house.said() == [("slice.ready", "s1", 1)]
    await house.ledger_of({"GPU-1": [entry()]})
    assert await house.observed_slice("h1") is None


async def test_a_partition_in_use_goes_when_its_processes_are_gone(house: House) -> None:
    """The library's own list names the processes that are to end."""
    await house.start()
    await house.ledger(hardware())
    [made] = house.partitions.on["GPU-0"]
    house.partitions.pids[made.uuid] = frozenset({55})
    process = house.processes.start(55, 1)
    await house.ledger(departures={"h1": Departure(tenant="acme", generation=2, grace_s=0)})
    assert process.signals == [15]
    house.partitions.pids.clear()
    await house.tick(1)
    assert process.signals == [15, 9]
    await house.tick(1)
    assert house.said()[-1] == ("slice.released", "h1", 2)
    assert house.partitions.on["GPU-0"] == []


async def test_a_time_slice_has_its_window_and_no_rate_inside_it(house: House) -> None:
    """Inside its window a slice has the whole device."""
    window = Window(offset_ns=0, length_ns=30_000_000, period_ns=100_000_000)
    await house.start()
    await house.ledger(entry(mode=Mode.TIMESLICE, window=window))
    limits = house.regions.records[S1]
    assert (limits.window_length_ns, limits.window_period_ns, limits.ceiling_ppm) == (30_000_000, 100_000_000, 1_000_000)
    seen = await house.observed_slice()
    assert seen is not None
    assert seen.window == window


async def test_control_words_reach_the_record_and_are_announced_as_a_new_generation(house: House) -> None:
    """A pause is a change like any other."""
    await house.start()
    await house.ledger(entry())
    await house.ledger(entry(generation=2, control=Control.PAUSE))
    assert house.regions.records[S1].control is Control.PAUSE
    assert house.said()[-1] == ("slice.resized", "s1", 2)


async def test_a_hardware_slice_without_a_shim_is_paused_and_killed_by_signals(house: House) -> None:
    """Where nothing reads the control word, signals stand in for it."""
    await house.start()
    await house.ledger(hardware())
    assert house.enforcer is not None
    process = house.processes.start(70, 1)
    house.enforcer.on_attach(AttachMessage("h1", "GPU-0", 1, None), 70)
    await house.ledger(hardware(generation=2, control=Control.PAUSE))
    await house.ledger(hardware(generation=3, control=Control.RUN))
    await house.ledger(hardware(generation=4, control=Control.KILL))
    assert process.signals == [19, 18, 9]


async def test_a_lost_answer_repeats_a_fact_and_loses_none(house: House) -> None:
    """A publish whose answer was lost is repeated under the same message id, so that one fact stands in the stream."""
    await house.start()
    house.bus.fail_next("slice.ready.*", "after")
    with pytest.raises(BusUnavailableError):
        await house.ledger(entry())
    assert await house.observed_slice() is None
    await house.settle()
    assert house.said() == [("slice.ready", "s1", 1)]
    assert await house.observed_slice() is not None


def test_partitions_are_the_same_by_profile_and_slots() -> None:
    """UUIDs do not count: a ledger never knows them."""
    one = Partition(profile="1g", profile_id=19, start=1, size=1)
    assert same_slots(one, Partition(profile="1g", profile_id=19, start=1, size=1, uuid="MIG-1"))
    assert not same_slots(one, Partition(profile="1g", profile_id=19, start=2, size=1))


async def test_a_spot_slice_is_told_apart_in_its_record(house: House) -> None:
    """The tier reaches the shims."""
    await house.start()
    await house.ledger(entry(tier=Tier.SPOT))
    assert house.regions.records[S1].tier is Tier.SPOT
