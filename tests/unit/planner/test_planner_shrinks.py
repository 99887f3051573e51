"""A resize below what is used waits, and is superseded, given up or enforced; one that does not fit offers another place."""

from typing import Any

import pytest
from planner_house import GIB, House, Rig, ask, h100, l4, quiet

from mica.events import (
    Control,
    ControlSlice,
    EvictSlice,
    Inventory,
    Ledger,
    Mode,
    MoveSlice,
    Phase,
    ReleaseSlice,
    ResizeSlice,
    SliceRecord,
    TenantHoldings,
    Tier,
)

PLACE = ("a", "s1")


@pytest.fixture
async def house() -> Any:
    """A node with two L4s and a partitioned H100, one planner."""
    house = House()
    await house.add_node(Inventory(node="n1", pool="default", boot_id="b1", devices=(l4("a", 0), l4("b", 1), h100("h", 2))))
    await house.start_planner()
    yield house
    await house.stop_planners()


async def record(house: House, id_: str = "s1") -> SliceRecord:
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    return entry.value


async def ledger(house: House) -> Ledger:
    entry = await house.bus.state.get("ledger.n1", Ledger)
    assert entry is not None
    return entry.value


async def charged(house: House) -> int:
    entry = await house.bus.state.get("tenant.t1", TenantHoldings)
    return entry.value.holdings["s1"].vram_bytes if entry is not None else 0


async def put(house: House, used_gib: int, tier: Tier = Tier.GUARANTEED) -> None:
    """A slice of 10 GiB on device ``a``, of which its programs hold some."""
    await house.send(ask("s1", 10, tier=tier, mode=Mode.FCSP, share_ppm=200_000))
    house.enforcers["n1"].used[PLACE] = used_gib * GIB
    await house.settle()


async def use(house: House, gib: int) -> None:
    """Programs let go, or take more."""
    house.enforcers["n1"].used[PLACE] = gib * GIB
    await house.settle()


async def shrink(house: House, gib: float, **more: Any) -> int:
    return await house.send(ResizeSlice(id="s1", vram_bytes=int(gib * GIB), **more))


async def wait(house: House, seconds: float) -> None:
    await house.pass_time(seconds)
    await house.settle()


@pytest.mark.parametrize("tier", [Tier.GUARANTEED, Tier.BURST])
async def test_a_shrink_that_is_ignored_is_given_up_and_told_with_the_reason(house: House, tier: Tier) -> None:
    """The old size stands again, under a new generation, and the command is refused once."""
    await put(house, 8, tier)
    sequence = await shrink(house, 4, share_ppm=100_000, grace_s=10)
    assert house.said("slice.resized.s1") == []
    await wait(house, 8)
    assert house.said(f"slice.refused.{sequence}") == []
    await wait(house, 6)
    [refused] = house.said(f"slice.refused.{sequence}")
    assert (refused.command, refused.field, refused.given) == ("slice.resize", "vram_bytes", str(4 * GIB))
    assert refused.allowed == f"at least {8 * GIB}, which its programs on a held after 10 s; it keeps the size that it had"
    now = await record(house)
    assert [(each.vram_bytes, each.share_ppm) for each in now.placements] == [(10 * GIB, 200_000)]
    assert [each.generation for each in house.said("slice.resized.s1")] == [now.generation] == [3]
    assert (await ledger(house)).held == {}
    assert await charged(house) == 10 * GIB


async def test_a_shrink_is_in_force_once_the_programs_have_let_go(house: House) -> None:
    """Until then the larger size is charged and not sold; nothing is given up after that."""
    await put(house, 8)
    sequence = await shrink(house, 4, grace_s=10)
    assert (await ledger(house)).held["a"]["s1"].entry.vram_bytes == 10 * GIB
    await house.send(ask("other", 15, mode=Mode.FCSP, share_ppm=100_000))
    assert [each.device_id for each in (await record(house, "other")).placements] == ["b"]
    await use(house, 3)
    assert [each.generation for each in house.said("slice.resized.s1")] == [2]
    await wait(house, 20)
    assert house.said(f"slice.refused.{sequence}") == []
    assert await charged(house) == 4 * GIB


async def test_an_enforcer_that_is_slow_is_no_program_that_ignores_it(house: House) -> None:
    """Nothing is given up as long as the node has not applied the shrink."""
    await put(house, 1)
    sequence = await house.bus.publish(ResizeSlice(id="s1", vram_bytes=4 * GIB, grace_s=2))
    await house.pass_time(12)
    assert house.said(f"slice.refused.{sequence}") == []
    await house.settle()
    assert [each.generation for each in house.said("slice.resized.s1")] == [2]


async def test_the_processes_of_a_spot_slice_are_the_enforcers_to_end(house: House) -> None:
    """The planner does not give up: the ledger says how long they have, and the shrink stands."""
    await put(house, 8, Tier.SPOT)
    sequence = await shrink(house, 4, grace_s=3)
    await wait(house, 30)
    assert house.said(f"slice.refused.{sequence}") == []
    assert (await ledger(house)).held["a"]["s1"].grace_s == 3.0
    await use(house, 0)
    assert [each.generation for each in house.said("slice.resized.s1")] == [2]


async def test_a_second_resize_takes_the_place_of_one_that_waits(house: House) -> None:
    """At once; the grace is that of the second, and what both of them left behind is held."""
    await put(house, 8)
    first = await shrink(house, 6, grace_s=5)
    second = await shrink(house, 4, grace_s=60)
    await wait(house, 20)
    assert house.said(f"slice.refused.{first}") == house.said(f"slice.refused.{second}") == []
    assert (await ledger(house)).held["a"]["s1"].entry.vram_bytes == 10 * GIB
    await use(house, 4)
    assert [each.generation for each in house.said("slice.resized.s1")] == [3]
    assert await charged(house) == 4 * GIB


async def test_a_second_shrink_that_is_ignored_falls_back_to_what_was_before_both(house: House) -> None:
    """Only the second is refused: the first was superseded."""
    await put(house, 8)
    first = await shrink(house, 6, grace_s=5)
    second = await shrink(house, 4, grace_s=5)
    await wait(house, 12)
    assert house.said(f"slice.refused.{first}") == []
    assert len(house.said(f"slice.refused.{second}")) == 1
    assert [each.vram_bytes for each in (await record(house)).placements] == [10 * GIB]


@pytest.mark.parametrize("gib", [9, 10, 12])
async def test_growing_again_ends_the_wait(house: House, gib: int) -> None:
    """To less than before, the same or more: it is in force at once, and nothing is refused."""
    await put(house, 8)
    await shrink(house, 4, grace_s=5)
    await shrink(house, gib)
    await wait(house, 12)
    assert house.said("slice.refused.*") == []
    assert [each.vram_bytes for each in (await record(house)).placements] == [gib * GIB]
    assert await charged(house) == gib * GIB
    assert (await ledger(house)).held == {}


async def test_what_is_changed_meanwhile_stays_changed_when_the_shrink_is_given_up(house: House) -> None:
    """A share and a control word that came while it waited."""
    await put(house, 8)
    sequence = await shrink(house, 4, grace_s=5)
    await house.send(ResizeSlice(id="s1", share_ppm=300_000))
    await house.send(ControlSlice(id="s1", control=Control.THROTTLE))
    await wait(house, 12)
    assert len(house.said(f"slice.refused.{sequence}")) == 1
    now = await record(house)
    assert [(each.vram_bytes, each.share_ppm) for each in now.placements] == [(10 * GIB, 300_000)]
    assert now.control is Control.THROTTLE


@pytest.mark.parametrize("end", [ReleaseSlice(id="s1", grace_s=60.0), EvictSlice(id="s1", grace_s=60.0)])
async def test_a_slice_that_leaves_while_a_shrink_waits_leaves_nothing(house: House, end: Any) -> None:
    """What it holds stays charged until it is gone; the shrink is of no more interest."""
    await put(house, 8)
    sequence = await shrink(house, 4, grace_s=5)
    await house.send(end)
    await wait(house, 12)
    assert await charged(house) == 10 * GIB
    await use(house, 0)
    assert (await record(house)).phase in (Phase.RELEASED, Phase.EVICTED)
    now = await ledger(house)
    assert (now.held, now.departures) == ({}, {})
    assert house.said(f"slice.refused.{sequence}") == []


async def test_a_slice_that_moves_while_a_shrink_waits_has_the_new_size_in_its_new_place(house: House) -> None:
    """Without a grace for its programs it does not move: they hold memory."""
    await put(house, 8)
    sequence = await shrink(house, 4, grace_s=5)
    refused = await house.send(MoveSlice(id="s1"))
    assert str(8 * GIB) in house.said(f"slice.refused.{refused}")[0].allowed
    await house.send(MoveSlice(id="s1", grace_s=1.0))
    await use(house, 0)
    await wait(house, 12)
    assert [(each.device_id, each.vram_bytes) for each in (await record(house)).placements] == [("b", 4 * GIB)]
    assert house.said(f"slice.refused.{sequence}") == []
    assert (await ledger(house)).held == {}


@pytest.mark.parametrize("writes", range(1, 7))
async def test_a_planner_that_dies_while_it_gives_up_leaves_a_successor_the_rest(house: House, writes: int) -> None:
    """Whatever was written: the old size stands, and the command is refused once."""
    await put(house, 8)
    sequence = await shrink(house, 4, grace_s=5)
    house.planners[0][0].budget = writes
    await wait(house, 12)
    await house.stop_planners()
    house.bus.deliver_again("COMMANDS", "planner")
    await house.start_planner(Rig(house.bus))
    await wait(house, 6)
    assert {each.message for each in house.said(f"slice.refused.{sequence}")} != set()
    assert len(house.said(f"slice.refused.{sequence}")) == 1
    now = await record(house)
    assert ([each.vram_bytes for each in now.placements], now.resizing) == ([10 * GIB], None)
    assert (await ledger(house)).held == {}


async def test_what_a_partition_does_not_have_is_refused_with_a_place_that_has_it(house: House) -> None:
    """Profile, slot and device; nothing has changed."""
    await house.send(ask("s1", 8, mode=Mode.HARDWARE))
    sequence = await shrink(house, 30)
    [refused] = house.said(f"slice.refused.{sequence}")
    [offer] = refused.offer
    assert offer.partition is not None
    assert (offer.device_id, offer.partition.profile) == ("h", "3g.40gb")
    assert f"3g.40gb at slot {offer.partition.start} of h would hold it" in refused.message
    assert (await record(house)).generation == 1


async def test_a_partition_changes_for_another_where_it_may_move(house: House) -> None:
    """As one change of one generation; the old slots are held until the enforcer has left them."""
    await house.send(ask("s1", 8, mode=Mode.HARDWARE))
    await house.bus.publish(ResizeSlice(id="s1", vram_bytes=30 * GIB, may_move=True, grace_s=7.0))
    await quiet()
    now = await ledger(house)
    partition = now.devices["h"]["s1"].partition
    assert partition is not None
    assert (partition.profile, now.devices["h"]["s1"].generation) == ("3g.40gb", 2)
    assert now.held["h"]["s1"].grace_s == 7.0
    await house.settle()
    assert [each.generation for each in house.said("slice.resized.s1")] == [2]
    assert (await ledger(house)).held == {}


async def test_a_partition_that_can_not_be_made_gives_the_old_one_back(house: House) -> None:
    """With the size that it had; the command is refused with what the enforcer said."""
    await house.send(ask("s1", 8, mode=Mode.HARDWARE))
    before = (await record(house)).placements
    house.enforcers["n1"].broken.add("h")
    sequence = await house.bus.publish(ResizeSlice(id="s1", vram_bytes=30 * GIB, may_move=True))
    await quiet()
    await house.enforcers["n1"].step()
    await quiet()
    house.enforcers["n1"].broken.clear()
    await house.settle()
    [refused] = house.said(f"slice.refused.{sequence}")
    assert "it is broken" in refused.allowed
    assert (await record(house)).placements == before
    assert house.said("slice.lost.s1") == []


async def test_a_software_slice_that_does_not_fit_goes_to_another_device_where_it_may(house: House) -> None:
    """Else the refusal names that device; where there is none it says what would fit here."""
    await put(house, 2)
    await house.send(ask("s2", 10, mode=Mode.FCSP, share_ppm=200_000))
    sequence = await shrink(house, 20)
    [refused] = house.said(f"slice.refused.{sequence}")
    assert [each.device_id for each in refused.offer] == ["b"]
    await shrink(house, 20, may_move=True)
    await use(house, 0)
    assert [(each.device_id, each.vram_bytes) for each in (await record(house)).placements] == [("b", 20 * GIB)]
    sequence = await shrink(house, 40, may_move=True)
    [refused] = house.said(f"slice.refused.{sequence}")
    assert refused.offer == ()


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        (b'{"id":"s1","vram_bytes":1,"grace_s":-1}', "grace_s", ">= 0"),
        (b'{"id":"s1","vram_bytes":1,"grace_s":1e9}', "grace_s", "86400"),
        (b'{"id":"s1","vram_bytes":0}', "vram_bytes", ">= 1"),
        (b'{"id":"s1","vram_bytes":1,"may_mvoe":true}', "may_mvoe", "no such field"),
        (b'{"id":"s1","vram_bytes":1,"may_move":"yes"}', "may_move", "bool"),
        (b'{"id":"s1","grace_s":5}', "vram_bytes", "share_ppm"),
        (b'{"id":"nobody","vram_bytes":1}', "id", "the id of a slice"),
    ],
)
async def test_a_resize_that_makes_no_sense_is_refused_with_one_clear_line(
    house: House, body: bytes, field: str, allowed: str
) -> None:
    """The field, what was given, and what is allowed; the slice is as it was."""
    await put(house, 2)
    sequence = await house.bus.publish_raw("slice.resize", body)
    await house.settle()
    [refused] = house.said(f"slice.refused.{sequence}")
    assert refused.field == field
    assert allowed in refused.allowed
    assert (await record(house)).generation == 1
