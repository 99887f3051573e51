"""A slice that is to have less memory than its processes hold: they are asked, and those of a spot slice ended."""

import signal
from typing import Any

from enforcer_house import GIB, S1, House, entry, hardware

from mica.bus import Change
from mica.enforcer.places import Place
from mica.events import Held, Ledger, Partition, SliceAsked, Tier


async def shrink(house: House, **more: Any) -> None:
    """The planner's ledger, in which 4 GiB have become 2."""
    tier = more.pop("tier", Tier.GUARANTEED)
    grace_s, generation = more.pop("grace_s", 10.0), more.pop("generation", 2)
    await write(house, entry(generation=generation, tier=tier, vram_bytes=2 * GIB), grace_s=grace_s, **more)


async def write(house: House, wanted: Any, *, grace_s: float, since: int = 2, until: int = 99, before: Any = None) -> None:
    house.generation += 1
    held = {"GPU-0": {wanted.id: Held(entry=before or entry(), generation=since, grace_s=grace_s, until=until)}}
    ledger = Ledger(node="n1", generation=house.generation, devices={"GPU-0": {wanted.id: wanted}}, held=held)
    revision = await house.bus.state.put("ledger.n1", ledger)
    assert house.enforcer is not None
    house.enforcer.on_ledger([Change("ledger.n1", ledger, revision)])
    await house.settle()


def asked(house: House) -> list[SliceAsked]:
    return [fact for fact in house.bus.published("slice.asked.*") if isinstance(fact, SliceAsked)]


async def in_use(house: House, tier: Tier = Tier.GUARANTEED) -> None:
    """A slice of 4 GiB, with a process that holds 3 of them."""
    await house.start()
    await house.ledger(entry(tier=tier))
    house.attach(vram_bytes=3 * GIB)
    await house.tick(1)


async def test_the_new_limit_is_in_the_region_at_once_and_the_fact_only_when_it_is_kept(house: House) -> None:
    """So nothing more can be allocated beyond it; the larger size is observed until the processes have let go (I5)."""
    await in_use(house)
    await shrink(house)
    assert (house.regions.records[S1].generation, house.regions.records[S1].vram_limit_bytes) == (2, 2 * GIB)
    assert ("slice.resized", "s1", 2) not in house.said()
    seen = await house.observed_slice()
    assert seen is not None
    assert (seen.generation, seen.vram_bytes) == (1, 3 * GIB)
    house.regions.slots[S1] = dict.fromkeys(house.regions.slots[S1], GIB)
    await house.tick(1)
    assert house.said()[-1] == ("slice.resized", "s1", 2)


async def test_the_slice_is_asked_with_the_numbers(house: House) -> None:
    """What is wanted, what is held, until when, and what follows."""
    await in_use(house)
    await shrink(house, until=1234)
    [fact] = asked(house)
    assert (fact.id, fact.node, fact.device_id, fact.what) == ("s1", "n1", "GPU-0", "shrink")
    assert (fact.vram_bytes, fact.used_bytes, fact.until) == (2 * GIB, 3 * GIB, 1234)
    assert (fact.then, fact.times, fact.generation) == ("given_up", 1, 2)


async def test_who_ignores_it_is_asked_ever_less_often(house: House) -> None:
    """Twice as long each time, a minute at most: an hour of it costs some sixty facts and no signal."""
    await in_use(house)
    await shrink(house, grace_s=5.0)
    await house.tick(60)
    assert [fact.times for fact in asked(house)] == [1, 2, 3, 4, 5]
    await house.tick(3540)
    assert 60 <= len(asked(house)) <= 66
    assert house.processes.running[100].signals == []


async def test_the_processes_of_a_spot_slice_are_ended_after_the_grace(house: House) -> None:
    """First asked to end, a second later made to; then the new size is in force."""
    await in_use(house, Tier.SPOT)
    await shrink(house, tier=Tier.SPOT, grace_s=5.0)
    assert asked(house)[0].then == "terminated"
    await house.tick(4)
    assert house.processes.running[100].signals == []
    await house.tick(1)
    assert house.processes.running[100].signals == [signal.SIGTERM]
    await house.tick(2)
    assert signal.SIGKILL in house.processes.running[100].signals
    house.processes.running[100].exit()
    house.regions.slots[S1].clear()
    await house.tick(1)
    assert house.said()[-1] == ("slice.resized", "s1", 2)


async def test_a_control_word_that_comes_meanwhile_gives_no_more_time(house: House) -> None:
    """It is the same shrink, by the ledger's own note."""
    await in_use(house, Tier.SPOT)
    await shrink(house, tier=Tier.SPOT, grace_s=5.0)
    await house.tick(3)
    await shrink(house, tier=Tier.SPOT, grace_s=5.0, generation=3)
    await house.tick(2)
    assert house.processes.running[100].signals == [signal.SIGTERM]


async def test_a_later_shrink_has_a_time_of_its_own(house: House) -> None:
    """It is asked anew, too."""
    await in_use(house, Tier.SPOT)
    await shrink(house, tier=Tier.SPOT, grace_s=5.0)
    await house.tick(3)
    await shrink(house, tier=Tier.SPOT, grace_s=5.0, generation=3, since=3)
    await house.tick(3)
    assert house.processes.running[100].signals == []
    assert next(fact.times for fact in asked(house) if fact.generation == 3) == 1


async def test_nobody_is_asked_who_fits_or_whose_slice_was_not_shrunk(house: House) -> None:
    """A slice that holds less than the new size; and one that holds too much for another reason."""
    await house.start()
    await house.ledger(entry())
    house.attach(vram_bytes=GIB)
    await shrink(house)
    house.regions.slots[S1] = dict.fromkeys(house.regions.slots[S1], 9 * GIB)
    await house.ledger(entry(generation=3, vram_bytes=2 * GIB))
    await house.tick(5)
    assert asked(house) == []


async def test_a_partition_that_is_to_be_another_is_left_by_its_programs_after_the_grace(house: House) -> None:
    """The old one is destroyed when they are gone, and the new one made in its place: one change, told once."""
    await house.start()
    await house.ledger(hardware())
    place = Place("GPU-0", "h1")
    house.processes.start(200, 7_200)
    house.enforcer.node.guest_came(place, 200)  # type: ignore[union-attr]
    house.enforcer.attachments.admit(place, 200)  # type: ignore[union-attr]
    wanted = hardware(generation=2)
    larger = Partition(profile="3g.40gb", profile_id=9, start=4, size=4)
    await write(house, entry("h1", 2, mode=wanted.mode, partition=larger), grace_s=5.0, before=hardware(), until=0)
    await house.tick(4)
    assert house.processes.running[200].signals == []
    await house.tick(1)
    assert house.processes.running[200].signals == [signal.SIGTERM]
    house.processes.running[200].exit()
    await house.tick(2)
    held = house.enforcer.node.held[place]  # type: ignore[union-attr]
    assert held.partition is not None
    assert (held.partition.profile, held.partition.start) == ("3g.40gb", 4)
    assert house.said()[-1] == ("slice.resized", "h1", 2)


async def test_a_slice_that_comes_from_a_lost_node_is_told_resized_and_not_ready_again(house: House) -> None:
    """It had its one answer."""
    await house.start()
    await house.ledger(entry(generation=4, again=True))
    assert house.said() == [("slice.resized", "s1", 4)]
