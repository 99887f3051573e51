"""Processes whose work stays on a device beyond its time: the steps, and what the enforcer does at each."""

import pytest
from enforcer_house import GIB, House, entry

from mica.enforcer.overruns import Climb, Progress, Terms, Who, advance, longest, progress, terms_of
from mica.enforcer.places import Holder, Place, Work
from mica.events import (
    Control,
    Grace,
    LedgerEntry,
    Mode,
    NodePolicy,
    Overruns,
    OverrunStep,
    PoolPolicy,
    SliceOverran,
    SpotGrace,
    Tier,
    Window,
)
from mica.vendors import ProcessStage

NONE, THROTTLED, PAUSED, TERMINATED = OverrunStep
S = 1_000_000_000
MS = 1_000_000
TERMS = Terms(allowed_ns=S, grace=Grace(throttle_s=1, pause_s=2, terminate_s=3), calm_s=4, furthest=TERMINATED)
START = Climb()
A, B = (Who(Place("GPU-0", id_), Holder(0, owner)) for id_, owner in (("a", 1), ("b", 2)))


def climbed(ran_s: list[float], terms: Terms = TERMS, start: Climb = START) -> list[OverrunStep]:
    """The steps after looks one second apart that found the work there for so long."""
    steps, climb = [], start
    for second, ran in enumerate(ran_s, start=100):
        climb = advance(climb, round(ran * S), terms, second * S)
        steps.append(climb.step)
    return steps


def test_each_step_comes_after_its_own_grace() -> None:
    """A kernel that may run for a second: throttled after 2 s, paused after 4, its process ended after 7."""
    steps = climbed([0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert steps == [NONE, NONE, THROTTLED, THROTTLED, PAUSED, PAUSED, PAUSED, TERMINATED, TERMINATED]


def test_who_behaves_climbs_down_a_step_at_a_time_after_a_while() -> None:
    """Four seconds of calm for each step."""
    steps = climbed([0] * 12, start=Climb(PAUSED, over=True, since_ns=99 * S))
    assert steps == [PAUSED] * 4 + [THROTTLED] * 4 + [NONE] * 4


def test_who_overruns_now_and_then_does_not_go_to_and_fro() -> None:
    """Every overrun begins the calm anew; the next step still waits for its own grace."""
    steps = climbed([0, 0, 0, 1.5, 0, 0, 0, 1.5, 0, 0], start=Climb(THROTTLED, over=True, since_ns=99 * S))
    assert set(steps) == {THROTTLED}


def test_an_overrun_goes_no_further_than_the_policy() -> None:
    """And one that stands further than a new policy goes is let down at once."""
    terms = Terms(S, TERMS.grace, 4, THROTTLED)
    assert climbed([60] * 3 + [120] * 3, terms)[-1] is THROTTLED
    assert climbed([60], terms, Climb(PAUSED, over=True, since_ns=1)) == [THROTTLED]
    assert climbed([60], Terms(S, TERMS.grace, 4, NONE), Climb(PAUSED, over=True, since_ns=1)) == [NONE]


def test_work_is_old_when_none_of_its_process_has_ended_since() -> None:
    """From the first look that saw it; an end makes it young; what the shim calls stuck is as old as it says."""
    seen = progress(Work(launches=10, inflight=2), None, 5 * S)
    assert seen == Progress(8, 5 * S)
    assert progress(Work(launches=12, inflight=4), seen, 6 * S) == Progress(8, 5 * S)
    assert progress(Work(launches=12, inflight=3), seen, 6 * S) == Progress(9, 6 * S)
    assert progress(Work(launches=12, inflight=0), seen, 6 * S) == Progress(12, 0)
    assert progress(Work(launches=12, inflight=0, stuck_ns=2 * S), seen, 6 * S) == Progress(12, 2 * S)
    assert progress(Work(launches=12, inflight=0, stuck_ns=7 * S), seen, 6 * S) == Progress(12, 0)


def test_only_whose_work_is_the_oldest_is_judged_and_the_next_from_then_on() -> None:
    """His neighbour's work may not end because his does not."""
    both = {A: Progress(0, 3 * S), B: Progress(0, 4 * S)}
    first = longest(both, None, 9 * S)
    assert first == (A, 3 * S)
    assert longest(both, first, 10 * S) == first
    assert longest({B: both[B], A: Progress(1, 0)}, first, 11 * S) == (B, 11 * S)
    assert longest({A: Progress(1, 0)}, first, 11 * S) is None


def test_how_long_work_may_stay_is_its_window_or_a_number_of_turns() -> None:
    """And on a device whose driver takes turns by itself nobody is ended, unless the policy says so."""
    timeslice = terms_of(windowed("a", Tier.SPOT), 2 * MS, Overruns())
    assert (timeslice.allowed_ns, timeslice.furthest, timeslice.grace) == (40 * MS, TERMINATED, SpotGrace())
    fcsp = terms_of(entry(), 2 * MS, Overruns())
    assert (fcsp.allowed_ns, fcsp.furthest, fcsp.grace) == (100 * MS, THROTTLED, Grace())
    assert terms_of(entry(), 2 * MS, Overruns(fcsp=PAUSED)).furthest is PAUSED


def windowed(id_: str, tier: Tier, offset_ms: int = 0, **fields: object) -> LedgerEntry:
    """An entry with a window of 40 ms in 100."""
    window = Window(offset_ns=offset_ms * MS, length_ns=40 * MS, period_ns=100 * MS)
    return entry(id_, tier=tier, mode=Mode.TIMESLICE, window=window, **fields)


HOG, MEEK = Place("GPU-0", "hog"), Place("GPU-0", "meek")


async def at_work(house: House, tier: Tier = Tier.SPOT) -> tuple[Holder, Holder]:
    """A slice whose process has a kernel that does not end, and one whose work waits behind it."""
    await house.inventory("GPU-0")
    await house.start()
    await house.ledger(windowed("hog", tier), windowed("meek", Tier.GUARANTEED, 40))
    hog, meek = house.attach(100, place=HOG), house.attach(200, slot=0, place=MEEK)
    await house.tick(1)
    house.regions.at_work[HOG] = {hog: Work(1, 1)}
    house.regions.at_work[MEEK] = {meek: Work(7, 0)}
    look(house, 0.1)
    house.regions.at_work[MEEK] = {meek: Work(9, 2)}
    return hog, meek


def look(house: House, seconds: float) -> None:
    """Let time pass, a look every tenth of a second."""
    assert house.enforcer is not None
    for _ in range(round(seconds * 10)):
        house.clock.advance(0.1)
        house.enforcer.look_at_turns()


async def told(house: House) -> list[SliceOverran]:
    await house.settle()
    return [fact for fact in house.bus.published("slice.overran.*") if isinstance(fact, SliceOverran)]


async def test_a_kernel_that_does_not_end_is_throttled_paused_and_its_process_ended(house: House) -> None:
    """Each step is in the record and a fact with the numbers; the neighbour behind it is blamed for nothing, then or later."""
    await at_work(house)
    controls = []
    for _ in range(25):
        look(house, 0.1)
        controls.append(house.regions.records[HOG].control)
        if not house.processes.running[100].alive:
            break
    assert list(dict.fromkeys(controls)) == [Control.RUN, Control.THROTTLE, Control.PAUSE]
    facts = await told(house)
    assert [(fact.before, fact.step) for fact in facts] == [(NONE, THROTTLED), (THROTTLED, PAUSED), (PAUSED, TERMINATED)]
    assert {(fact.id, fact.pid, fact.allowed_ns, fact.window_length_ns, fact.tier) for fact in facts} == {
        ("hog", 100, 40 * MS, 40 * MS, Tier.SPOT)
    }
    assert [fact.ran_ns for fact in facts] == sorted(fact.ran_ns for fact in facts)
    assert house.processes.running[100].signals == [9]
    look(house, 0.1)
    assert house.regions.records[HOG].control is Control.RUN
    assert house.regions.records[MEEK].control is Control.RUN
    assert (await told(house))[3:] == []


@pytest.mark.parametrize(("tier", "seconds"), [(Tier.SPOT, 1.79), (Tier.BURST, 3.54), (Tier.GUARANTEED, 8.04)])
async def test_spot_is_ended_first_and_guaranteed_last(house: House, tier: Tier, seconds: float) -> None:
    """Window, and the tier's three graces."""
    await at_work(house, tier)
    look(house, seconds - 0.2)
    assert house.processes.running[100].alive
    look(house, 0.5)
    assert not house.processes.running[100].alive


async def test_a_process_that_behaves_again_is_let_down_and_told(house: House) -> None:
    """A kernel that ends after all: the pause becomes a throttle, and that ends too."""
    hog, meek = await at_work(house)
    look(house, 1.2)
    assert house.regions.records[HOG].control is Control.PAUSE
    await house.settle()
    observed = await house.observed_slice("hog")
    assert observed is not None
    assert observed.restraint is Control.PAUSE
    house.regions.at_work[HOG], house.regions.at_work[MEEK] = {hog: Work(1, 0)}, {meek: Work(9, 0)}
    look(house, 5.2)
    assert house.regions.records[HOG].control is Control.THROTTLE
    look(house, 5.2)
    assert house.regions.records[HOG].control is Control.RUN
    assert [fact.step for fact in await told(house)] == [THROTTLED, PAUSED, THROTTLED, NONE]
    assert house.processes.running[100].signals == []


async def test_what_an_operator_has_set_is_not_loosened(house: House) -> None:
    """The control word is the stricter of the ledger's and the step's."""
    hog, _ = await at_work(house)
    await house.ledger(windowed("hog", Tier.SPOT, control=Control.PAUSE, generation=2), windowed("meek", Tier.GUARANTEED, 40))
    look(house, 0.5)
    assert house.regions.records[HOG].control is Control.PAUSE
    house.regions.at_work[HOG] = {hog: Work(1, 0)}
    look(house, 11)
    assert house.regions.records[HOG].control is Control.PAUSE


async def test_a_slice_that_is_suspended_is_not_judged(house: House) -> None:
    """Its processes stand still, and can't say that their work has ended; what it had before does not count when it is back."""
    hog, _ = await at_work(house)
    house.node.checkpoints.driver.stages[100] = ProcessStage.RUNNING
    sizes = {"vram_bytes": 0, "share_ppm": 0, "away_vram_bytes": GIB, "away_share_ppm": 400_000}
    gone = entry("hog", 2, tier=Tier.SPOT, mode=Mode.TIMESLICE, **sizes)
    await house.ledger(gone, windowed("meek", Tier.GUARANTEED, 40))
    house.regions.at_work[MEEK] = {}
    look(house, 10)
    assert house.processes.running[100].signals == []
    assert await told(house) == []
    await house.ledger(windowed("hog", Tier.SPOT, generation=3), windowed("meek", Tier.GUARANTEED, 40))
    house.regions.at_work[HOG] = {hog: Work(3, 0)}
    look(house, 2)
    assert await told(house) == []


async def test_without_windows_such_work_is_throttled_and_not_ended_by_default(house: House) -> None:
    """The driver takes turns there: a persistent kernel makes its slice pay, and nobody stands still."""
    await house.inventory("GPU-0")
    await house.start()
    await house.ledger(entry("hog", tier=Tier.SPOT))
    holder = house.attach(100, place=HOG)
    await house.tick(1)
    house.regions.at_work[HOG] = {holder: Work(1, 0, stuck_ns=house.clock.monotonic_ns())}
    await house.tick(60)
    assert house.regions.records[HOG].control is Control.THROTTLE
    assert [fact.step for fact in await told(house)] == [THROTTLED]
    assert house.processes.running[100].alive


async def test_a_nodes_own_policy_says_how_far_it_goes(house: House) -> None:
    """In place of its pool's, at the next look."""
    await house.bus.policy.put("pool.default", PoolPolicy(overruns=Overruns(timeslice=NONE)))
    await house.bus.policy.put("node.n1", NodePolicy(overruns=Overruns(timeslice=PAUSED), borrowers=(Tier.GUARANTEED,)))
    await at_work(house)
    look(house, 20)
    assert house.regions.records[HOG].control is Control.PAUSE
    assert house.processes.running[100].alive
    assert (house.regions.records[HOG].borrows, house.regions.records[MEEK].borrows) == (0, 1)


async def test_idle_windows_are_for_burst_and_spot(house: House) -> None:
    """Unless an operator says otherwise; guaranteed slices keep to their own."""
    await at_work(house)
    assert (house.regions.records[HOG].borrows, house.regions.records[MEEK].borrows) == (1, 0)
