"""What a new enforcer makes of a node that another one left."""

import pytest
from enforcer_house import GIB, S1, House, entry, hardware

from mica.bus import BusUnavailableError
from mica.enforcer.memory import MemoryPartitions
from mica.enforcer.places import Holder, Place
from mica.enforcer.report import announced_in
from mica.events import Control, Departure, Observed, ObservedState, Partition, SliceReady, SliceReleased, SliceResized
from mica.region import Limits, SliceState


async def test_a_live_slice_is_adopted_unwritten_and_unannounced(house: House) -> None:
    """A restart touches nothing of a slice that is as it should be."""
    await house.start()
    await house.ledger(entry())
    await house.ledger_of({"GPU-0": [entry()], "GPU-1": [hardware()]})
    said = house.said()
    calls: list[str] = []
    house.node.crash_at(calls.append)
    await house.restart()
    assert set(calls) == {"write_attach"}
    assert house.said() == said
    assert (await house.observed()).generation == 2


def test_ready_said_again_after_a_resize_takes_the_resize_not_back() -> None:
    """The planner repeats slice.ready to whoever asks again; the newest generation that was told stands, until the slice ends."""
    ready = SliceReady(at=1, id="s1", tenant="t1", generation=1, placements=())
    resized = SliceResized(at=2, id="s1", tenant="t1", generation=2, placements=())
    assert announced_in([ready, resized, ready]) == {"s1": 2}
    assert announced_in([ready, resized, SliceReleased(at=3, id="s1"), ready]) == {"s1": 1}


async def test_a_slice_lost_with_the_boot_is_made_anew_and_not_announced_twice(house: House) -> None:
    """After a reboot the regions are empty; the ledger fills them, and ready was said already."""
    await house.start()
    await house.ledger(entry())
    house.regions.records.clear()
    house.regions.slots.clear()
    house.node.partitions = MemoryPartitions()
    await house.restart()
    assert house.regions.records[S1].state is SliceState.LIVE
    assert house.said() == [("slice.ready", "s1", 1)]


async def test_a_ready_that_was_said_just_before_the_kill_is_not_said_again(house: House) -> None:
    """The stream remembers what observed does not: the next generation is a resize, not a second answer."""
    await house.start()
    house.bus.fail_next("observed.n1")
    with pytest.raises(BusUnavailableError):
        await house.ledger(entry())
    house.enforcer = None
    await house.ledger(entry(generation=2, share_ppm=1))
    await house.start()
    assert house.said() == [("slice.ready", "s1", 1), ("slice.resized", "s1", 2)]


async def test_an_id_that_is_used_again_is_ready_again(house: House) -> None:
    """What was said of a slice that has ended says nothing about the next one of that name."""
    await house.start()
    await house.ledger(entry())
    await house.ledger(departures={"s1": Departure(tenant="acme", generation=2)})
    house.enforcer = None
    await house.ledger(entry(generation=3))
    await house.start()
    assert house.said()[-1] == ("slice.ready", "s1", 3)


async def test_a_record_that_says_something_else_is_set_right(house: House) -> None:
    """Drift is repaired from the ledger."""
    await house.start()
    await house.ledger(entry())
    house.regions.records[S1] = Limits(
        slice_id="s1", generation=1, vram_limit_bytes=1, share_ppm=1, ceiling_ppm=1, burst_ns=0, control=Control.KILL
    )
    await house.restart()
    assert house.regions.records[S1].vram_limit_bytes == 4 * GIB
    assert house.regions.records[S1].control is Control.RUN


async def test_leftovers_of_nobody_are_removed(house: House) -> None:
    """A record, a usage region and an attach file without a ledger entry go, without a fact about them."""
    house.regions.records[Place("GPU-0", "old")] = Limits(
        slice_id="old", generation=3, vram_limit_bytes=GIB, share_ppm=1, ceiling_ppm=1, burst_ns=0
    )
    house.regions.slots[Place("GPU-0", "older")] = {}
    house.regions.documents["oldest"] = b"{}"
    await house.start()
    assert not house.regions.records
    assert not house.regions.slots
    assert not house.regions.documents
    assert house.said() == []


async def test_an_orphan_partition_is_destroyed_before_its_slots_are_used_again(house: House) -> None:
    """Repair comes before the ledger: the new slice finds the slots free."""
    orphan = Partition(profile="1g.10gb", profile_id=19, start=0, size=1)
    house.partitions.create("GPU-0", orphan)
    await house.bus.state.put("observed.n1", Observed(node="n1", boot_id="boot-1"))
    house.generation = 1
    await house.ledger(hardware(start=0, id_="h2"))
    house.partitions.on["GPU-0"][0] = Partition(profile="2g.20gb", profile_id=14, start=0, size=2, uuid="MIG-old")
    await house.start()
    assert [partition.profile_id for partition in house.partitions.on["GPU-0"]] == [19]
    assert house.said() == [("slice.ready", "h2", 1)]


async def test_an_orphan_partition_with_processes_is_left_alone(house: House) -> None:
    """Nothing that runs is disturbed for the sake of order; it goes when they have ended."""
    made = house.partitions.create("GPU-0", Partition(profile="1g.10gb", profile_id=19, start=0, size=1))
    house.partitions.pids[made.uuid] = frozenset({55})
    process = house.processes.start(55, 1)
    await house.start()
    await house.tick(10)
    assert process.signals == []
    house.partitions.pids.clear()
    process.exit()
    await house.tick(2)
    assert house.partitions.on["GPU-0"] == []


async def test_a_half_made_partition_is_made_anew(house: House) -> None:
    """An instance without a UUID has no compute instance, so no process could use it."""
    await house.start()
    house.partitions.on["GPU-0"] = [Partition(profile="1g.10gb", profile_id=19, start=0, size=1)]
    house.enforcer = None
    await house.ledger(hardware())
    await house.start()
    [made] = house.partitions.on["GPU-0"]
    assert made.uuid


async def test_a_partition_made_before_the_crash_is_taken_and_announced(house: House) -> None:
    """The instance of a slice that never got its record is the slice's own."""
    house.partitions.create("GPU-0", Partition(profile="1g.10gb", profile_id=19, start=0, size=1))
    await house.ledger(hardware())
    calls: list[str] = []
    house.node.crash_at(calls.append)
    await house.start()
    assert "create" not in calls
    assert house.said() == [("slice.ready", "h1", 1)]


async def test_processes_are_found_again_and_dead_ones_give_back_their_memory(house: House) -> None:
    """A slot whose owner ended while nobody watched is reclaimed; the one that lives is watched."""
    await house.start()
    await house.ledger(entry())
    alive = house.attach(pid=100, vram_bytes=GIB, slot=0)
    dead = house.attach(pid=101, vram_bytes=2 * GIB, slot=1)
    house.processes.running[101].exit()
    await house.restart()
    assert house.regions.slots[S1] == {alive: GIB}
    assert house.regions.reclaimed == [(S1, dead, 2 * GIB)]
    house.processes.running[100].exit()
    assert house.regions.slots[S1] == {}


async def test_a_drain_goes_on_where_it_was(house: House) -> None:
    """The departure is still in the ledger: the process gets its grace, and the end is told."""
    await house.start()
    await house.ledger(entry())
    house.attach(vram_bytes=GIB)
    gone = {"s1": Departure(tenant="acme", generation=2, grace_s=3)}
    await house.ledger(departures=gone)
    await house.restart()
    seen = await house.observed_slice()
    assert seen is not None
    assert seen.state is ObservedState.DRAINING
    await house.tick(5)
    assert house.said()[-1] == ("slice.released", "s1", 2)


async def test_a_shrink_that_was_pending_is_still_unannounced(house: House) -> None:
    """A restart does not make a shrink true."""
    await house.start()
    await house.ledger(entry())
    holder = house.attach(vram_bytes=3 * GIB)
    await house.ledger(entry(generation=2, vram_bytes=GIB))
    await house.restart()
    assert house.said()[-1][0] != "slice.resized"
    house.regions.slots[S1][Holder(*holder)] = 0
    await house.tick(1)
    assert house.said()[-1] == ("slice.resized", "s1", 2)


async def test_a_usage_region_in_use_without_a_slice_is_drained(house: House) -> None:
    """Its processes get the usual grace, and no new memory meanwhile."""
    place = Place("GPU-0", "lost")
    house.regions.slots[place] = {}
    house.attach(place=place, vram_bytes=GIB)
    await house.start()
    assert house.regions.records[place].state is SliceState.DRAINING
    assert house.regions.records[place].vram_limit_bytes == 0
    await house.tick(7)
    assert not house.regions.slots
    assert not house.regions.records
