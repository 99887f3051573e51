"""Processes that come and go."""

import pytest
from enforcer_house import GIB, S1, House, entry, hardware

from mica.bus import BusUnavailableError
from mica.enforcer.places import Holder
from mica.events import SliceAttached
from mica.region import AttachMessage


def message(holder: Holder, slice_id: str = "s1", device_id: str = "GPU-0") -> AttachMessage:
    """What a shim sends after it took that slot."""
    return AttachMessage(slice_id, device_id, holder.owner, holder.slot)


async def attached(house: House) -> list[SliceAttached]:
    """What was told about processes."""
    await house.settle()
    return [fact for fact in house.bus.published("slice.attached.*") if isinstance(fact, SliceAttached)]


async def test_an_attach_is_announced_with_the_hosts_pid_under_the_slices_trace(house: House) -> None:
    """The trace that began with the request ends at the first process."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    enforcer = await house.start()
    await house.ledger(entry(traceparent=trace))
    enforcer.on_attach(message(house.attach(pid=100)), 100)
    [fact] = await attached(house)
    assert (fact.id, fact.tenant, fact.pid, fact.slot) == ("s1", "acme", 100, 0)
    stored = house.bus.streams["SLICES"][-1]
    assert stored.traceparent.split("-")[1] == trace.split("-")[1]


async def test_a_datagram_that_comes_twice_is_one_attach(house: House) -> None:
    """A process is watched once and reclaimed once."""
    enforcer = await house.start()
    await house.ledger(entry())
    holder = house.attach(vram_bytes=GIB)
    enforcer.on_attach(message(holder), 100)
    enforcer.on_attach(message(holder), 100)
    house.processes.running[100].exit()
    await house.tick(2)
    assert len(await attached(house)) == 1
    assert house.regions.reclaimed == [(S1, holder, GIB)]


async def test_a_process_that_nobody_announced_is_found_by_the_sweep(house: House) -> None:
    """A lost datagram costs a heartbeat, not the memory."""
    await house.start()
    await house.ledger(entry())
    holder = house.attach(vram_bytes=GIB)
    await house.tick(1)
    assert [fact.pid for fact in await attached(house)] == [100]
    house.processes.running[100].exit()
    assert house.regions.reclaimed == [(S1, holder, GIB)]


async def test_an_attach_that_the_bus_did_not_take_is_told_later(house: House) -> None:
    """A lost publish is kept until it went through."""
    enforcer = await house.start()
    await house.ledger(entry())
    enforcer.on_attach(message(house.attach(pid=100)), 100)
    house.bus.fail_next("slice.attached.*")
    with pytest.raises(BusUnavailableError):
        await house.once()
    assert [fact.pid for fact in await attached(house)] == [100]


async def test_every_slice_is_swept_in_turn(house: House) -> None:
    """With more slices than one heartbeat looks at, each is still looked at."""
    await house.start()
    await house.ledger(*(entry(f"s{n}", vram_bytes=1) for n in range(50)))
    house.attach(place=S1._replace(slice_id="s49"))
    await house.tick(4)
    assert [fact.id for fact in await attached(house)] == ["s49"]


async def test_a_message_about_a_slot_that_is_not_held_is_dropped(house: House) -> None:
    """Nobody can make the enforcer watch, or announce, what is not inside the slice."""
    enforcer = await house.start()
    await house.ledger(entry())
    enforcer.on_attach(AttachMessage("s1", "GPU-0", 1234, 3), 100)
    enforcer.on_attach(AttachMessage("nobody", "GPU-0", 1234, 3), 100)
    enforcer.on_attach(AttachMessage("s1", "GPU-0", 1234, None), 100)
    assert await attached(house) == []


async def test_a_process_of_a_hardware_slice_has_no_slot(house: House) -> None:
    """It is watched by its pid, and a release waits for it."""
    enforcer = await house.start()
    await house.ledger(hardware())
    process = house.processes.start(70, 1)
    enforcer.on_attach(AttachMessage("h1", "GPU-0", 5, None), 70)
    assert [(fact.pid, fact.slot) for fact in await attached(house)] == [(70, -1)]
    await house.ledger()
    assert house.partitions.on["GPU-0"]
    process.exit()
    await house.settle()
    assert not house.partitions.on["GPU-0"]


async def test_the_heartbeat_reaches_the_regions(house: House) -> None:
    """Shims see by it that somebody enforces."""
    await house.start()
    await house.tick(1)
    assert house.regions.heartbeat_ns == house.clock.monotonic_ns()


async def test_what_a_slice_uses_is_observed(house: House) -> None:
    """The planner can tell a slice in use from an idle one."""
    await house.start()
    await house.ledger(entry())
    house.attach(vram_bytes=GIB)
    await house.tick(1)
    seen = await house.observed_slice()
    assert seen is not None
    assert seen.vram_used_bytes == GIB
