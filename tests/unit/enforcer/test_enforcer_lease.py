"""A node that cannot reach the bus, and the policies that need no node at all."""

import pytest
from enforcer_house import GIB, S1, House, entry

from mica.bus import BusUnavailableError
from mica.enforcer.drains import Drain, due_signal
from mica.enforcer.limits import fenced
from mica.enforcer.places import Place
from mica.events import Control, Departure, Tier


async def cut_off(house: House, seconds: int) -> None:
    """Let time pass while every write is lost."""
    assert house.enforcer is not None
    for _ in range(seconds):
        house.clock.advance(1.0)
        house.enforcer.on_beat()
        if house.enforcer.due.is_set():
            house.bus.fail_next("observed.n1")
            with pytest.raises(BusUnavailableError):
                await house.once()


async def test_a_node_keeps_its_slices_until_its_lease_ends_and_then_fences_them(house: House) -> None:
    """Spot is ended, the others stand still: nothing runs that may run elsewhere too."""
    await house.start()
    await house.ledger(entry("s1"), entry("b1", tier=Tier.BURST), entry("x1", tier=Tier.SPOT))
    await cut_off(house, 29)
    assert {limits.control for limits in house.regions.records.values()} == {Control.RUN}
    await cut_off(house, 2)
    assert {place.slice_id: limits.control for place, limits in house.regions.records.items()} == {
        "s1": Control.PAUSE,
        "b1": Control.PAUSE,
        "x1": Control.KILL,
    }


async def test_what_the_ledger_still_has_goes_on_when_the_bus_is_back(house: House) -> None:
    """The ledger is read anew first: a slice that was placed elsewhere meanwhile does not run again."""
    enforcer = await house.start()
    await house.ledger(entry("s1"), entry("s2"))
    house.attach(place=Place("GPU-0", "s2"), vram_bytes=GIB)
    await cut_off(house, 32)
    house.enforcer = None
    await house.ledger(entry("s1"))
    house.enforcer = enforcer
    await house.tick(1)
    assert house.regions.records[S1].control is Control.RUN
    assert house.regions.records[Place("GPU-0", "s2")].control is Control.PAUSE


async def test_what_leaves_in_the_ordinary_way_may_run_until_it_is_gone(house: House) -> None:
    """It was released while the bus was away: its programs have the time that they were given."""
    enforcer = await house.start()
    await house.ledger(entry("s1"))
    house.attach(vram_bytes=GIB)
    await cut_off(house, 32)
    house.enforcer = None
    await house.ledger(departures={"s1": Departure(tenant="acme", generation=2, grace_s=60.0)})
    house.enforcer = enforcer
    await house.tick(1)
    assert house.regions.records[S1].control is Control.DRAIN


async def test_what_stood_still_stands_still_after_a_restart_unless_the_ledger_has_it(house: House) -> None:
    """The enforcer that stopped it is gone, and the slice may be elsewhere by now."""
    await house.start()
    await house.ledger(entry("s1"), entry("s2"))
    house.attach(vram_bytes=GIB)
    await cut_off(house, 32)
    house.enforcer.close()  # type: ignore[union-attr]
    house.enforcer = None
    await house.ledger(entry("s2"))
    await house.start()
    assert house.regions.records[S1].control is Control.PAUSE
    assert house.regions.records[Place("GPU-0", "s2")].control is Control.RUN


async def test_what_could_not_be_told_ready_before_it_was_taken_out_is_never_told(house: House) -> None:
    """The bus was away, and the planner has answered otherwise meanwhile: the ledger is read anew before anything is repeated."""
    enforcer = await house.start()
    house.bus.fail_next("slice.ready.s1")
    with pytest.raises(BusUnavailableError):
        await house.ledger(entry("s1"))
    house.enforcer = None
    await house.ledger()
    house.enforcer = enforcer
    await house.tick(6)
    assert house.bus.published("slice.ready.s1") == []
    assert S1 not in house.regions.records


async def test_a_wall_clock_that_is_set_fences_nobody(house: House) -> None:
    """The lease is counted on the monotonic clock."""
    enforcer = await house.start()
    await house.ledger(entry("x1", tier=Tier.SPOT))
    house.clock._unix_ns += 3600 * 10**9
    enforcer.on_beat()
    assert house.regions.records[Place("GPU-0", "x1")].control is Control.RUN


async def test_the_lease_is_renewed_every_five_seconds_and_not_more_often(house: House) -> None:
    """An idle node writes once in five seconds."""
    await house.start()
    await house.ledger(entry())
    before = await house.bus.state.get("observed.n1", type(await house.observed()))
    await house.tick(20)
    after = await house.bus.state.get("observed.n1", type(await house.observed()))
    assert before is not None
    assert after is not None
    assert after.revision - before.revision == 4
    assert after.value.lease_until - before.value.lease_until == 20_000_000_000


@pytest.mark.parametrize("control", list(Control))
@pytest.mark.parametrize("tier", list(Tier))
def test_a_fence_never_lets_anything_run(control: Control, tier: Tier) -> None:
    """Whatever the slice was allowed, it stands still or is killed; what was killed, or is suspended, stays so."""
    assert fenced(control, tier) in (Control.PAUSE, Control.KILL, Control.SUSPEND)
    assert (fenced(control, tier) is Control.SUSPEND) is (control is Control.SUSPEND and tier is not Tier.SPOT)
    assert fenced(Control.KILL, tier) is Control.KILL


def test_signals_come_in_order_and_only_when_due() -> None:
    """Nothing inside the grace, SIGTERM once at its end, SIGKILL from a second later on."""
    drain = Drain(since_ns=0)
    assert due_signal(drain, 2.0, 1_999_999_999) == 0
    assert due_signal(drain, 2.0, 2_000_000_000) == 15
    assert due_signal(Drain(0, 15), 2.0, 2_500_000_000) == 0
    assert due_signal(Drain(0, 15), 2.0, 3_000_000_000) == 9
    assert due_signal(Drain(0, 9), 2.0, 9_000_000_000) == 9
