"""One slice's life through the whole planner, on the memory bus with a simulated enforcer."""

import asyncio
from collections.abc import Iterable

import pytest
from planner_house import GIB, House, Rig, ask

from mica.bus import Entry
from mica.events import (
    Control,
    ControlSlice,
    EvictSlice,
    Ledger,
    Mode,
    MoveSlice,
    Phase,
    ReleaseSlice,
    ResizeSlice,
    SliceRecord,
    TenantHoldings,
)
from mica.planner.upkeep import Upkeep


async def record(house: House, id_: str) -> SliceRecord:
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    return entry.value


async def ledger(house: House, node: str = "n1") -> Ledger:
    entry = await house.bus.state.get(f"ledger.{node}", Ledger)
    return entry.value if entry is not None else Ledger(node=node)


async def holdings(house: House, tenant: str = "t1") -> dict[str, object]:
    entry = await house.bus.state.get(f"tenant.{tenant}", TenantHoldings)
    return dict(entry.value.holdings) if entry is not None else {}


@pytest.mark.parametrize(("mode", "device"), [(Mode.HARDWARE, "n1-h100"), (Mode.FCSP, "n1-l4"), (Mode.TIMESLICE, "n1-p40")])
async def test_a_request_becomes_ready_and_a_release_gives_everything_back(house: House, mode: Mode, device: str) -> None:
    """In every mode a slice is placed, ready once, released, and leaves nothing behind but a tombstone."""
    await house.send(ask("s1", 4, mode=mode))
    placed = house.said("slice.placed.s1")
    assert [each.placements[0].device_id for each in placed] == [device]
    assert placed[0].placements[0].mode is mode
    assert len(house.said("slice.ready.s1")) == 1
    assert list(await holdings(house)) == ["s1"]
    await house.send(ReleaseSlice(id="s1"))
    assert len(house.said("slice.released.s1")) == 1
    assert (await record(house, "s1")).phase is Phase.RELEASED
    assert await holdings(house) == {}
    after = await ledger(house)
    assert (after.devices, after.departures, after.held) == ({}, {}, {})
    assert not house.bus.deliver_again("COMMANDS", "planner")


async def test_an_eviction_ends_in_evicted_with_its_reason(house: House) -> None:
    """What an operator takes away is told as evicted, with the reason."""
    await house.send(ask("s1", 4))
    await house.send(EvictSlice(id="s1", reason="maintenance"))
    assert [each.message for each in house.said("slice.evicted.s1")] == ["maintenance"]
    assert (await record(house, "s1")).phase is Phase.EVICTED


async def test_a_resize_takes_effect_and_is_charged(house: House) -> None:
    """Growing and shrinking reach the ledger and the tenant's charge under new generations."""
    await house.send(ask("s1", 4, mode=Mode.FCSP, share_ppm=200_000))
    await house.send(ResizeSlice(id="s1", vram_bytes=8 * GIB, share_ppm=500_000))
    assert (await holdings(house))["s1"].vram_bytes == 8 * GIB
    await house.send(ResizeSlice(id="s1", vram_bytes=2 * GIB))
    entry = (await ledger(house)).devices["n1-l4"]["s1"]
    assert (entry.vram_bytes, entry.share_ppm, entry.generation) == (2 * GIB, 500_000, 3)
    assert (await holdings(house))["s1"].vram_bytes == 2 * GIB
    assert [each.generation for each in house.said("slice.resized.s1")] == [2, 3]
    assert (await ledger(house)).held == {}


async def test_memory_of_a_shrunk_slice_is_not_sold_while_it_is_held(house: House) -> None:
    """After a shrink the difference is free only once the enforcer confirms that nobody holds it."""
    await house.send(ask("s1", 20, mode=Mode.FCSP, share_ppm=100_000))
    house.enforcers["n1"].used["n1-l4", "s1"] = 20 * GIB
    await house.send(ResizeSlice(id="s1", vram_bytes=2 * GIB))
    await house.send(ask("s2", 10, mode=Mode.FCSP, share_ppm=100_000))
    [answer] = house.said("slice.rejected.s2")
    assert answer.field == "vram_bytes"
    house.enforcers["n1"].used["n1-l4", "s1"] = GIB
    await house.settle()
    await house.send(ask("s3", 10, mode=Mode.FCSP, share_ppm=100_000))
    assert len(house.said("slice.ready.s3")) == 1


async def test_a_shrunk_slice_stays_charged_for_what_it_still_holds(house: House) -> None:
    """The quota is not given back early, however long the processes keep the memory."""
    await house.send(ask("s1", 20, mode=Mode.FCSP, share_ppm=100_000))
    house.enforcers["n1"].used["n1-l4", "s1"] = 20 * GIB
    await house.send(ResizeSlice(id="s1", vram_bytes=2 * GIB, grace_s=600.0))
    await house.pass_time(120)
    assert (await holdings(house))["s1"].vram_bytes == 20 * GIB
    house.enforcers["n1"].used["n1-l4", "s1"] = GIB
    await house.settle()
    assert (await holdings(house))["s1"].vram_bytes == 2 * GIB


async def test_hardware_is_not_resized_beyond_its_profile(house: House) -> None:
    """A partition has one size: more is refused with the profile named, less keeps what was granted."""
    await house.send(ask("s1", 4, mode=Mode.HARDWARE))
    sequence = await house.send(ResizeSlice(id="s1", vram_bytes=30 * GIB))
    [refused] = house.said(f"slice.refused.{sequence}")
    assert "1g.10gb" in refused.message
    sequence = await house.send(ResizeSlice(id="s1", vram_bytes=5 * GIB))
    assert house.said(f"slice.refused.{sequence}") == []
    assert len(house.said("slice.resized.s1")) == 1


async def test_a_control_word_reaches_the_ledger(house: House) -> None:
    """Control is one more generation of the same slice."""
    await house.send(ask("s1", 4))
    await house.send(ControlSlice(id="s1", control=Control.PAUSE))
    [entry] = [e for slices in (await ledger(house)).devices.values() for e in slices.values()]
    assert (entry.control, entry.generation) == (Control.PAUSE, 2)


async def test_an_idle_slice_moves_and_a_busy_one_does_not(house: House) -> None:
    """Only what holds no memory goes to another device; the old one is free afterwards."""
    await house.send(ask("whole", 70, mode=None))
    await house.send(ask("s1", 4, mode=None))
    house.enforcers["n1"].used["n1-l4", "s1"] = 1
    await house.settle()
    sequence = await house.send(MoveSlice(id="s1", device_id="n1-p40"))
    assert "holds 1 bytes" in house.said(f"slice.refused.{sequence}")[0].message
    house.enforcers["n1"].used.clear()
    await house.settle()
    await house.send(MoveSlice(id="s1", device_id="n1-p40"))
    after = await ledger(house)
    assert {device: list(slices) for device, slices in after.devices.items()} == {"n1-h100": ["whole"], "n1-p40": ["s1"]}
    assert after.held == {}


async def test_a_move_weakens_no_mode_that_nobody_named(house: House) -> None:
    """Without a target a slice keeps its mode or stays, though a device with a weaker one has room."""
    await house.send(ask("whole", 70, mode=None))
    await house.send(ask("s1", 4, mode=None))
    sequence = await house.send(MoveSlice(id="s1"))
    [refused] = house.said(f"slice.refused.{sequence}")
    assert "n1-p40: " in refused.allowed
    assert list((await ledger(house)).devices["n1-l4"]) == ["s1"]


async def test_what_holds_a_partition_is_not_moved(house: House) -> None:
    """Nobody but the device knows what processes hold in a partition, so none is taken from under them."""
    await house.send(ask("s1", 4, mode=Mode.HARDWARE))
    sequence = await house.send(MoveSlice(id="s1"))
    [refused] = house.said(f"slice.refused.{sequence}")
    assert (refused.field, "software mode" in refused.allowed) == ("id", True)


async def test_a_move_that_finds_no_place_tells_what_the_other_devices_lack(house: House) -> None:
    """With a target or without one, the refusal names the devices that were looked at, not the one that is left."""
    await house.send(ask("s1", 4, mode=Mode.FCSP))
    anywhere = await house.send(MoveSlice(id="s1"))
    [refused] = house.said(f"slice.refused.{anywhere}")
    assert (refused.field, refused.given) == ("device_id", "any")
    assert "n1-h100: " in refused.allowed
    assert "n1-p40: " in refused.allowed
    assert "n1-l4" not in refused.allowed
    nowhere = await house.send(MoveSlice(id="s1", device_id="n1-a100"))
    [refused] = house.said(f"slice.refused.{nowhere}")
    assert (refused.field, refused.given) == ("device_id", "n1-a100")
    assert "there is no such device" in refused.allowed


async def test_commands_for_an_unknown_id_are_refused_by_name(house: House) -> None:
    """Every command but a request says that there is no such slice."""
    for command in (ReleaseSlice(id="x"), ResizeSlice(id="y", share_ppm=1), ControlSlice(id="z", control=Control.RUN)):
        sequence = await house.send(command)
        [refused] = house.said(f"slice.refused.{sequence}")
        assert (refused.field, refused.given) == ("id", command.id)


@pytest.mark.parametrize("half", ["slice.s1", "tenant.t1", "ledger.n1"])
async def test_what_is_being_written_when_a_planner_looks_for_leftovers_is_none(
    house: House, monkeypatch: pytest.MonkeyPatch, half: str
) -> None:
    """A planner that looks at what others have left leaves its own first command alone: the slice becomes ready."""
    await house.stop_planners()
    rig, look, sweep = Rig(house.bus), asyncio.Event(), Upkeep.sweep

    async def late(upkeep: Upkeep, entries: Iterable[Entry[SliceRecord]]) -> None:
        await look.wait()
        await sweep(upkeep, entries)

    monkeypatch.setattr(Upkeep, "sweep", late)
    await house.start_planner(rig)
    written = rig.hold(half)
    await house.send(ask("s1", 4))
    look.set()
    await house.settle()
    written.set()
    await house.settle()
    assert list((await ledger(house)).devices["n1-h100"]) == ["s1"]
    assert len(house.said("slice.ready.s1")) == 1
