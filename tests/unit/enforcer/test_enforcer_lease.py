"""A node that cannot reach the bus, and the policies that need no node at all."""

import pytest
from enforcer_house import GIB, S1, House, entry
from msgspec.structs import replace

from mica.bus import BusUnavailableError
from mica.enforcer.drains import Drain, due_signal
from mica.enforcer.lending import Neighbour, ceilings
from mica.enforcer.limits import fenced
from mica.enforcer.places import Place
from mica.events import Control, Tier, WorkLimits


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
    assert house.regions.records[Place("GPU-0", "s2")].control is Control.DRAIN


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
    """Whatever the slice was allowed, it is paused or killed; what was killed stays so."""
    assert fenced(control, tier) in (Control.PAUSE, Control.KILL)
    assert fenced(Control.KILL, tier) is Control.KILL


def test_signals_come_in_order_and_only_when_due() -> None:
    """Nothing inside the grace, SIGTERM once at its end, SIGKILL from a second later on."""
    drain = Drain(since_ns=0)
    assert due_signal(drain, 2.0, 1_999_999_999) == 0
    assert due_signal(drain, 2.0, 2_000_000_000) == 15
    assert due_signal(Drain(0, 15), 2.0, 2_500_000_000) == 0
    assert due_signal(Drain(0, 15), 2.0, 3_000_000_000) == 9
    assert due_signal(Drain(0, 9), 2.0, 9_000_000_000) == 9


def test_idle_compute_is_lent_to_the_burst_slices_at_work() -> None:
    """Alone at work a burst slice has the device; with an active neighbour only what that one leaves."""
    burst, quiet = Neighbour(Tier.BURST, 200_000, active=True), Neighbour(Tier.GUARANTEED, 500_000, active=False)
    assert ceilings({"b": burst, "g": quiet}) == {"b": 1_000_000}
    busy = Neighbour(Tier.GUARANTEED, 500_000, active=True)
    assert ceilings({"b": burst, "g": busy}) == {"b": 500_000}


def test_loans_never_add_up_to_more_than_the_device() -> None:
    """Two borrowers divide what is idle by their shares; an idle one keeps its own."""
    lent = ceilings(
        {
            "a": Neighbour(Tier.BURST, 100_000, active=True),
            "b": Neighbour(Tier.BURST, 300_000, active=True),
            "c": Neighbour(Tier.BURST, 100_000, active=False),
            "g": Neighbour(Tier.GUARANTEED, 200_000, active=True),
        }
    )
    assert lent == {"a": 200_000, "b": 600_000, "c": 100_000}


async def test_a_loan_reaches_the_record_and_is_withdrawn_when_the_neighbour_wakes(house: House) -> None:
    """Within one period of lending the neighbour has its share again."""
    enforcer = await house.start()
    await house.ledger(entry("s1"), entry("b1", tier=Tier.BURST))
    burst = Place("GPU-0", "b1")
    house.attach(pid=100, place=burst)
    house.attach(pid=101, place=S1)
    await house.tick(1)
    enforcer.lend()
    house.regions.gpu_ns[burst] = 10
    assert enforcer.lend()
    assert house.regions.records[burst].ceiling_ppm == 1_000_000
    house.regions.gpu_ns |= {burst: 20, S1: 5}
    enforcer.lend()
    assert house.regions.records[burst].ceiling_ppm == 700_000
    house.processes.running[100].exit()
    enforcer.lend()
    assert house.regions.records[burst].ceiling_ppm == 300_000
    assert not enforcer.lend()


async def test_a_neighbour_that_waits_to_launch_is_not_idle(house: House) -> None:
    """Its next kernel may be long in coming: what it waits for is not lent, and is again once it stopped waiting."""
    enforcer = await house.start()
    borrower, quiet = Place("GPU-0", "s1"), Place("GPU-0", "s2")
    await house.ledger(entry("s1", tier=Tier.BURST, share_ppm=300_000), entry("s2", share_ppm=300_000))
    house.attach(pid=100, place=borrower)
    house.attach(pid=101, place=quiet)
    await house.tick(1)
    enforcer.lend()
    for at_work, ceiling_ppm in ((False, 1_000_000), (True, 700_000), (False, 1_000_000)):
        house.clock.advance(0.1)
        house.regions.gpu_ns[borrower] = house.regions.gpu_ns.get(borrower, 0) + 1
        house.regions.waiting_ns[quiet] = house.clock.monotonic_ns() if at_work else 0
        enforcer.lend()
        assert house.regions.records[borrower].ceiling_ppm == ceiling_ppm


def test_a_ceiling_lets_any_slice_borrow_up_to_it() -> None:
    """A guaranteed slice with leave to use half of the device gets no more than that; without, nothing is lent to it."""
    raised = Neighbour(Tier.GUARANTEED, 200_000, active=True, ceiling_ppm=500_000)
    plain = Neighbour(Tier.GUARANTEED, 300_000, active=False)
    assert ceilings({"r": raised, "p": plain}) == {"r": 500_000}
    assert ceilings({"r": raised, "p": replace(plain, active=True)}) == {"r": 500_000}
    busy = Neighbour(Tier.GUARANTEED, 700_000, active=True)
    assert ceilings({"r": raised, "p": busy}) == {"r": 300_000}


async def test_a_ceiling_comes_into_force_and_goes(house: House) -> None:
    """Idle time is lent under it while it stands in the ledger, and the share holds again when it does not, beside a borrower."""
    enforcer = await house.start()
    limits = WorkLimits(ceiling_ppm=1_000_000)
    await house.ledger(entry("s1", limits=limits), entry("b1", tier=Tier.BURST))
    burst = Place("GPU-0", "b1")
    house.attach(pid=100, place=S1)
    house.attach(pid=101, place=burst)
    await house.tick(1)
    enforcer.lend()
    house.regions.gpu_ns[S1] = 10
    assert enforcer.lend()
    assert house.regions.records[S1].ceiling_ppm == 1_000_000
    await house.ledger(entry("s1", generation=2), entry("b1", tier=Tier.BURST))
    enforcer.lend()
    assert house.regions.records[S1].ceiling_ppm == house.regions.records[S1].share_ppm
