"""Devices that are switched between whole and partitioned, and partitions that change without us."""

from enforcer_house import GIB, House, entry, hardware
from msgspec import json
from msgspec.structs import replace

from mica.enforcer.errors import PartitionBusyError
from mica.enforcer.places import Place
from mica.events import Device, Inventory, ObservedState, Partition, PartitionProfile, Vendor
from mica.vendors import Access

PROFILE = PartitionProfile(
    name="1g.10gb",
    profile_id=19,
    size=1,
    starts=(0, 1),
    vram_bytes=10 * GIB,
    compute_slices=1,
    multiprocessors=16,
    max_instances=7,
)
CPX = Partition(profile="CPX", profile_id=4, start=3, size=1, layout="CPX/NPS1")


async def list_device(house: House, *, partitioned: bool) -> None:
    """The inventory says that GPU-0 can be partitioned, and whether it is."""
    device = Device(
        id="GPU-0", index=0, vendor=Vendor.NVIDIA, model="H100", vram_bytes=80 * GIB, profiles=(PROFILE,), switchable=True,
        partitioned=partitioned,
    )  # fmt: skip
    inventory = Inventory(node="n1", pool="default", boot_id="boot-1", devices=(device, replace(device, id="GPU-1", index=1)))
    await house.bus.state.put("inventory.n1", inventory)
    if house.enforcer is not None:
        house.enforcer.on_inventory(inventory)


async def look(house: House) -> None:
    """What the loop does every few seconds, and all that follows from it."""
    assert house.enforcer is not None
    await house.enforcer.look_at_partitions()
    await house.settle()


async def test_a_partitioned_device_is_made_whole_before_a_software_slice_is_on_it(house: House) -> None:
    """The record is written only after the device can be used whole."""
    await list_device(house, partitioned=True)
    house.partitions.partitioned.add("GPU-0")
    calls: list[str] = []
    house.node.crash_at(calls.append)
    await house.start()
    await house.ledger(entry())
    assert calls.index("make_whole") < calls.index("write")
    assert house.partitions.partitioned == set()
    assert house.said() == [("slice.ready", "s1", 1)]


async def test_a_device_is_made_whole_only_when_the_last_partition_is_gone(house: House) -> None:
    """The software slice waits for the processes of the partition that leaves, and then is ready."""
    await list_device(house, partitioned=True)
    await house.start()
    await house.ledger(hardware())
    made = house.partitions.on["GPU-0"][0]
    house.partitions.pids[made.uuid] = frozenset({4711})
    house.processes.start(4711, 1)
    await house.ledger(entry())
    assert house.said() == [("slice.ready", "h1", 1)]
    house.partitions.pids.clear()
    house.processes.running[4711].exit()
    await house.tick(2)
    assert house.said() == [("slice.ready", "h1", 1), ("slice.ready", "s1", 1)]
    assert house.partitions.partitioned == set()


async def test_a_device_that_can_not_be_made_whole_fails_the_slice_alone(house: House) -> None:
    """The refusal is the slice's message, and nothing is written for it."""
    await list_device(house, partitioned=True)
    await house.start()
    house.partitions.on["GPU-0"] = [CPX]  # of a layout: nobody's to destroy
    await house.ledger(entry())
    seen = await house.observed_slice()
    assert seen is not None
    assert (seen.state, seen.message) == (ObservedState.FAILED, "device GPU-0: 1 partitions are left")
    assert house.regions.records == {}


async def test_a_partition_that_is_gone_is_made_again(house: House) -> None:
    """Somebody destroyed it by hand: the slice gets one at the same slots and its new name; nothing is said anew."""
    await list_device(house, partitioned=True)
    await house.start()
    await house.ledger(hardware())
    before = house.partitions.on["GPU-0"].pop()
    await look(house)
    (after,) = house.partitions.on["GPU-0"]
    assert (after.start, after.profile_id) == (before.start, before.profile_id)
    assert after.uuid != before.uuid
    assert json.decode(house.regions.documents["h1"])["env"]["CUDA_VISIBLE_DEVICES"] == after.uuid
    seen = await house.observed_slice("h1")
    assert seen is not None
    assert seen.partition == after
    assert house.said() == [("slice.ready", "h1", 1)]


async def test_a_partition_that_was_made_anew_by_hand_is_adopted(house: House) -> None:
    """The same slots under another name are the slice's."""
    await list_device(house, partitioned=True)
    await house.start()
    await house.ledger(hardware())
    house.partitions.on["GPU-0"] = [replace(house.partitions.on["GPU-0"][0], uuid="MIG-by-hand")]
    await look(house)
    assert json.decode(house.regions.documents["h1"])["env"]["CUDA_VISIBLE_DEVICES"] == "MIG-by-hand"
    assert [each.uuid for each in house.partitions.on["GPU-0"]] == ["MIG-by-hand"]


async def test_a_partition_that_nobody_wants_is_destroyed_when_nobody_uses_it(house: House) -> None:
    """One made by hand stays while a process is inside, and goes after."""
    await list_device(house, partitioned=True)
    await house.start()
    await house.ledger(hardware())
    hand_made = Partition(profile="1g.10gb", profile_id=19, start=5, size=1, uuid="MIG-by-hand")
    house.partitions.on["GPU-0"].append(hand_made)
    house.partitions.pids["MIG-by-hand"] = frozenset({4711})
    house.processes.start(4711, 1)
    await look(house)
    await house.tick(3)
    assert hand_made in house.partitions.on["GPU-0"]
    house.partitions.pids.clear()
    house.processes.running[4711].exit()
    await house.tick(2)
    assert [each.start for each in house.partitions.on["GPU-0"]] == [0]


async def test_partitions_of_a_layout_are_nobodys_to_destroy(house: House) -> None:
    """They come and go with the device's layout: not at a restart, not when somebody looks, not with the slice that had one."""
    await list_device(house, partitioned=True)
    house.partitions.on["GPU-0"] = [replace(CPX, start=start, uuid=f"P{start}") for start in range(8) if start != CPX.start]
    calls: list[str] = []
    house.node.crash_at(calls.append)
    await house.start()
    await look(house)
    assert "destroy" not in calls
    await house.ledger(replace(hardware(), partition=CPX))
    assert house.said() == [("slice.ready", "h1", 1)]
    await house.restart()
    assert house.enforcer is not None
    assert {place for place, held in house.enforcer.node.held.items() if held.partition is not None} == {Place("GPU-0", "h1")}


async def test_what_a_container_needs_stands_in_the_launch_descriptor(house: House) -> None:
    """Device nodes, mounts and the vendor's CDI name, once each, beside the variables."""
    await list_device(house, partitioned=True)

    def access(device_id: str, partition: Partition | None) -> Access:
        return Access(
            visible={"ROCR_VISIBLE_DEVICES": partition.uuid if partition else "all of it"}, env={"A": "1"},
            devices=("/dev/kfd", "/dev/kfd"), mounts=("/opt/driver",), cdi=f"amd.com/gpu={device_id}",
        )  # fmt: skip

    house.partitions.access = access  # type: ignore[method-assign]
    await house.start()
    await house.ledger(hardware())
    document = json.decode(house.regions.documents["h1"])
    assert document["env"]["ROCR_VISIBLE_DEVICES"] == house.partitions.on["GPU-0"][0].uuid
    assert document["env"]["A"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in document["env"]
    assert document["device_nodes"] == ["/dev/kfd"]
    assert document["cdi"] == ["amd.com/gpu=GPU-0"]
    assert {"source": "/opt/driver", "target": "/opt/driver", "read_only": True} in document["mounts"]


async def test_a_device_that_strangers_are_on_fails_the_slice_and_not_the_strangers(house: House) -> None:
    """It can't be laid out while somebody is on it: the slice is answered, and nobody is counted as its guest or ended."""
    await list_device(house, partitioned=False)

    def busy(device_id: str, partition: Partition) -> Partition:
        raise PartitionBusyError(frozenset({4711}))

    house.partitions.create = busy  # type: ignore[method-assign]
    stranger = house.processes.start(4711, 1)
    await house.start()
    await house.ledger(replace(hardware(), partition=CPX))
    seen = await house.observed_slice("h1")
    assert seen is not None
    assert (seen.state, seen.message) == (ObservedState.FAILED, "device GPU-0: processes of no slice are on it (4711)")
    await house.ledger()
    await house.tick(10)
    assert stranger.alive
    assert stranger.signals == []


async def test_what_processes_reach_is_asked_anew_when_a_device_is_laid_out(house: House) -> None:
    """Some vendors number their devices: a layout shifts the numbers of those behind it, and their slices are told."""
    await list_device(house, partitioned=False)
    numbers = iter(range(10))

    def access(device_id: str, partition: Partition | None) -> Access:
        return Access(visible={"ZE_AFFINITY_MASK": str(next(numbers))})

    house.partitions.access = access  # type: ignore[method-assign]
    await house.start()
    await house.ledger_of({"GPU-1": [replace(hardware("h0"), partition=CPX)]})
    before = json.decode(house.regions.documents["h0"])["env"]["ZE_AFFINITY_MASK"]
    await house.ledger_of({"GPU-1": [replace(hardware("h0"), partition=CPX)], "GPU-0": [replace(hardware(), partition=CPX)]})
    assert json.decode(house.regions.documents["h0"])["env"]["ZE_AFFINITY_MASK"] > before
