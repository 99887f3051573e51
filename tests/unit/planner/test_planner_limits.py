"""A slice's own limits, from the request to the ledger."""

from planner_house import GIB, House, ask

from mica.events import (
    AskedLimits,
    Control,
    ControlSlice,
    Ledger,
    LedgerEntry,
    Mode,
    MoveSlice,
    ResizeSlice,
    SliceRecord,
    WorkLimits,
)


async def entry_of(house: House, id_: str = "s1") -> LedgerEntry:
    found = await house.bus.state.get("ledger.n1", Ledger)
    assert found is not None
    [entry] = [slices[id_] for slices in found.value.devices.values() if id_ in slices]
    return entry


async def test_limits_of_a_request_reach_the_ledger_and_the_answer(house: House) -> None:
    """What was asked stands in the entry, and placed tells it."""
    await house.send(ask("s1", 4, mode=Mode.FCSP, limits=AskedLimits(pinned_bytes=GIB, launch_rate_hz=500)))
    expected = WorkLimits(pinned_bytes=GIB, launch_rate_hz=500)
    assert (await entry_of(house)).limits == expected
    [placed] = house.said("slice.placed.s1")
    assert placed.placements[0].limits == expected


async def test_a_resize_changes_the_limits_that_it_names(house: House) -> None:
    """What is left out stays, 0 lifts, and the size is untouched."""
    await house.send(ask("s1", 4, mode=Mode.FCSP, limits=AskedLimits(pinned_bytes=GIB, inflight_max=8)))
    before = await entry_of(house)
    await house.send(ResizeSlice(id="s1", limits=AskedLimits(pinned_bytes=0, copy_bytes_per_s=10 * GIB)))
    after = await entry_of(house)
    assert after.limits == WorkLimits(pinned_bytes=0, inflight_max=8, copy_bytes_per_s=10 * GIB)
    assert (after.vram_bytes, after.share_ppm, after.generation) == (before.vram_bytes, before.share_ppm, 2)


async def test_a_slice_with_limits_is_not_placed_in_hardware(house: House) -> None:
    """No shim enforces them there: a software mode is taken instead, and hardware that is insisted on is rejected."""
    await house.send(ask("s1", 4, limits=AskedLimits(inflight_max=8)))
    [placed] = house.said("slice.placed.s1")
    assert placed.placements[0].mode is Mode.FCSP
    await house.send(ask("s2", 4, mode=Mode.HARDWARE, limits=AskedLimits(inflight_max=8)))
    [rejected] = house.said("slice.rejected.s2")
    assert (rejected.field, rejected.given) == ("limits", "inflight_max")


async def test_limits_of_a_partition_can_not_be_set(house: House) -> None:
    """The refusal names the limits and says why there are none."""
    await house.send(ask("s1", 4, mode=Mode.HARDWARE))
    sequence = await house.send(ResizeSlice(id="s1", limits=AskedLimits(launch_rate_hz=10)))
    [refused] = house.said(f"slice.refused.{sequence}")
    assert (refused.field, refused.given) == ("limits", "launch_rate_hz")
    assert "no shim" in refused.allowed


async def test_a_move_takes_along_what_a_resize_has_set(house: House) -> None:
    """Not what the request once asked."""
    await house.send(ask("s1", 4, mode=Mode.TIMESLICE, limits=AskedLimits(launch_rate_hz=10)))
    await house.send(ResizeSlice(id="s1", limits=AskedLimits(launch_rate_hz=20)))
    await house.send(MoveSlice(id="s1"))
    moved = await entry_of(house)
    assert (moved.generation, moved.limits) == (3, WorkLimits(launch_rate_hz=20))


async def test_a_record_says_which_command_set_what(house: House) -> None:
    """The control word and the size have each the command that set them last: whoever did it can tell that from another's."""
    await house.send(ask("s1", 4, mode=Mode.FCSP))
    control = await house.send(ControlSlice(id="s1", control=Control.THROTTLE))
    size = await house.send(ResizeSlice(id="s1", limits=AskedLimits(ceiling_ppm=900_000)))
    found = await house.bus.state.get("slice.s1", SliceRecord)
    assert found is not None
    assert (found.value.control_sequence, found.value.size_sequence, found.value.sequence) == (control, size, size)
    assert (await entry_of(house)).limits.ceiling_ppm == 900_000
