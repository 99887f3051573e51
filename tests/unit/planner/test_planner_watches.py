"""Replicas that know of each other's ledgers by a watch, and what they do while it lags."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from planner_house import House, Rig, ask, l4, mixed, quiet

from mica.events import Inventory, Ledger, Mode, Phase, ReleaseSlice, SliceRecord, TenantHoldings
from mica.planner.commits import GroupCommit, Key, Outcome
from mica.planner.domain.misfits import Refusal
from mica.planner.progress import PATIENCE_S
from mica.planner.store import Ledgers

NEWS = "news.ledger.*"


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """One L4, no planner yet."""
    house = House()
    await house.add_node(Inventory(node="n1", pool="default", boot_id="b1", devices=(l4("n1-l4", 0),)))
    yield house
    await house.stop_planners()


def to_the_other(house: House) -> None:
    """Let the next command go to the other of two replicas."""
    house.bus._consumers["COMMANDS", "planner"].queue._getters.rotate(-1)


async def on_books(house: House, node: str = "n1") -> set[str]:
    entry = await house.bus.state.get(f"ledger.{node}", Ledger)
    return {id_ for slices in entry.value.devices.values() for id_ in slices} if entry is not None else set()


def big(id_: str) -> object:
    """Two of these do not fit."""
    return ask(id_, 20, mode=Mode.FCSP, share_ppm=100_000)


async def two_replicas_and_a_slice_that_one_has_freed(house: House, rig: Rig) -> None:
    """The first replica, on ``rig``, has placed s1 and does not hear that the second has let it go."""
    await house.start_planner(rig)
    await house.send(big("s1"))
    await house.start_planner()
    rig.hold(NEWS)
    to_the_other(house)
    await house.send(ReleaseSlice(id="s1"))
    await house.settle(4)
    assert len(house.said("slice.released.s1")) == 1
    assert await on_books(house) == set()


@pytest.mark.parametrize("caught_up", [True, False])
async def test_a_lagging_replica_does_not_refuse_what_another_has_freed(
    house: House, monkeypatch: pytest.MonkeyPatch, caught_up: bool
) -> None:
    """It waits for its watch before it refuses; one that did not would say no."""
    if not caught_up:

        async def at_once(ledgers: Ledgers) -> None:
            del ledgers

        monkeypatch.setattr(Ledgers, "catch_up", at_once)
    rig = Rig(house.bus)
    await two_replicas_and_a_slice_that_one_has_freed(house, rig)
    await house.bus.publish(big("s2"))
    await quiet()
    assert len(house.said("slice.rejected.s2")) == (0 if caught_up else 1)
    assert house.said("slice.placed.s2") == []
    rig.release(NEWS)
    await house.settle()
    assert len(house.said("slice.ready.s2")) == (1 if caught_up else 0)


async def test_a_watch_that_brings_nothing_is_not_waited_for_long(house: House) -> None:
    """After a while the ledgers are read without it, and the request is placed."""
    rig = Rig(house.bus)
    await two_replicas_and_a_slice_that_one_has_freed(house, rig)
    await house.bus.publish(big("s2"))
    await quiet()
    assert house.said("slice.placed.s2") == []
    await house.pass_time(PATIENCE_S)
    await house.settle()
    assert len(house.said("slice.ready.s2")) == 1


async def test_a_lagging_replica_sells_nothing_twice(house: House) -> None:
    """It places on what it believes to be free, its write fails, and it says no once it knows better."""
    rig = Rig(house.bus)
    await house.start_planner(rig)
    await house.start_planner()
    rig.hold(NEWS)
    to_the_other(house)
    await house.send(big("s1"))
    await house.bus.publish(big("s2"))
    await quiet()
    rig.release(NEWS)
    await house.settle()
    assert await on_books(house) == {"s1"}
    assert [len(house.said(f"slice.ready.{id_}")) for id_ in ("s1", "s2")] == [1, 0]
    assert len(house.said("slice.rejected.s2")) == 1


async def test_a_replica_hears_of_a_slice_that_it_never_placed(house: House) -> None:
    """Without reading a ledger it knows what another has placed, and takes no part of it."""
    rig = Rig(house.bus)
    await house.start_planner(rig)
    await house.start_planner()
    to_the_other(house)
    await house.send(big("s1"))
    rig.forget()
    await house.send(big("s2"))
    assert len(house.said("slice.rejected.s2")) == 1
    assert [key for key in rig.asked if key.startswith("ledger.")] == []


async def test_what_one_has_placed_and_another_released_is_uncharged_at_once(house: House) -> None:
    """The one that knows only of its placement hears first that the slice is gone, and looks before it clears the departure."""
    placer, releaser = Rig(house.bus), Rig(house.bus)
    await house.start_planner(placer)
    await house.send(big("s1"))
    await house.start_planner(releaser)
    to_the_other(house)
    await house.bus.publish(ReleaseSlice(id="s1"))
    releaser.hold("news.observed.*")
    await house.settle(4)
    releaser.release("news.observed.*")
    await house.settle()
    entry = await house.bus.state.get("tenant.t1", TenantHoldings)
    assert entry is not None
    assert entry.value.holdings == {}
    record = await house.bus.state.get("slice.s1", SliceRecord)
    assert record is not None
    assert record.value.phase is Phase.RELEASED


async def test_an_edit_that_has_nothing_to_do_or_is_refused_has_looked(house: House) -> None:
    """Of two replicas' views of one document, the one that is behind reads it before it answers."""

    def without(ledger: Ledger) -> Ledger:
        return replace(ledger, fenced={}) if ledger.fenced else ledger

    def once(ledger: Ledger) -> Ledger | Refusal:
        return Refusal("id", "s1", "another") if ledger.fenced else replace(ledger, fenced={"s1": 1})

    spawn = asyncio.get_running_loop().create_task
    key = Key(house.bus.state, "ledger.n9", Ledger(node="n9"), lambda ledger: ledger, lambda _: None)
    here, there = GroupCommit(key, spawn), GroupCommit(key, spawn)
    await there.refresh()
    assert await here.submit(once) is Outcome.APPLIED
    assert await there.submit(without) is Outcome.APPLIED
    assert await here.submit(once) is Outcome.APPLIED
    entry = await house.bus.state.get("ledger.n9", Ledger)
    assert entry is not None
    assert entry.value.fenced == {"s1": 1}


async def test_a_planner_reads_no_ledger_to_know_all_of_them() -> None:
    """However many nodes there are, and with or without a ledger: the watch brings all at once."""
    house = House()
    for name in ("n1", "n2", "n3"):
        await house.add_node(mixed(name))
    await house.start_planner()
    await house.send(ask("s1", 4))
    await house.stop_planners()
    rig = await house.start_planner()
    await quiet()
    assert [key for key in rig.asked if key.startswith("ledger.")] == []
    await house.send(ask("s2", 4))
    assert len(house.said("slice.ready.s2")) == 1
    await house.stop_planners()
