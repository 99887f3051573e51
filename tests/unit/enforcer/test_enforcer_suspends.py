"""Suspending and resuming on one node: all processes of a slice or none, told once it is so, and found again after a crash."""

import asyncio
from contextlib import suppress

import pytest
from enforcer_house import GIB, S1, House, entry
from hypothesis import given, settings
from hypothesis import strategies as st

from mica.enforcer.memory import MemoryCheckpointer
from mica.enforcer.places import Place
from mica.enforcer.suspending import resume, suspend
from mica.events import Control, Departure, LedgerEntry, ObservedState, SliceSuspended, Tier
from mica.vendors import ProcessStage, VendorError


def away(id_: str = "s1", generation: int = 2, **fields: object) -> LedgerEntry:
    """A suspended entry of 4 GiB and 30 %."""
    sizes: dict[str, object] = {"vram_bytes": 0, "share_ppm": 0, "away_vram_bytes": 4 * GIB, "away_share_ppm": 300_000}
    return entry(id_, generation, **(sizes | fields))


async def tenants(house: House, *gib: float, place: Place = S1) -> None:
    """A process for each amount of memory, known to the driver."""
    for slot, each in enumerate(gib):
        house.attach(100 + slot, int(each * GIB), slot, place)
        house.node.checkpoints.driver.stages[100 + slot] = ProcessStage.RUNNING
    await house.tick()


@pytest.fixture
async def running(house: House) -> House:
    """A live slice with two processes of 1 and 2 GiB."""
    await house.start()
    await house.ledger(entry())
    await tenants(house, 1, 2)
    return house


def stages(house: House) -> list[str]:
    return [stage.name for stage in house.node.checkpoints.driver.stages.values()]


async def test_a_slice_is_suspended_whole_and_told_so_afterwards(running: House) -> None:
    """All are locked before the first is taken away; then observed has nothing of the device, and the fact says what is away."""
    await running.ledger(away())
    assert running.node.checkpoints.driver.steps == [("lock", 100), ("lock", 101), ("take_away", 100), ("take_away", 101)]
    seen = await running.observed_slice()
    assert seen is not None
    assert (seen.state, seen.generation) == (ObservedState.SUSPENDED, 2)
    assert (seen.vram_bytes, seen.share_ppm, seen.vram_used_bytes) == (0, 0, 0)
    assert seen.away_bytes == 3 * GIB
    assert running.regions.records[S1].control is Control.SUSPEND
    assert running.regions.records[S1].vram_limit_bytes == 4 * GIB
    assert running.said()[-1] == ("slice.suspended", "s1", 2)
    facts = [fact for fact in running.bus.published("slice.suspended.s1") if isinstance(fact, SliceSuspended)]
    assert [fact.away_bytes for fact in facts] == [3 * GIB]


async def test_until_the_last_process_is_away_it_is_what_it_was(running: House) -> None:
    """Between the first step and the last, observed still has all of its memory on the device."""
    during: list[object] = []

    def look(_step: str, _pid: int) -> None:
        seen = running.bus.state
        during.append(asyncio.run_coroutine_threadsafe(seen.get("observed.n1", type(whole)), loop).result(5))

    whole, loop = await running.observed(), asyncio.get_running_loop()
    running.node.checkpoints.driver.before = look
    await running.ledger(away())
    held = [found.value.devices["GPU-0"]["s1"] for found in during]  # type: ignore[attr-defined]
    assert [(each.state, each.generation, each.vram_bytes) for each in held] == [(ObservedState.LIVE, 1, 4 * GIB)] * 4


async def test_a_slice_comes_back_before_its_limits_let_it_run(running: House) -> None:
    """Memory first, then the record; resumed is said over a live one."""
    await running.ledger(away())
    await running.ledger(entry(generation=3))
    steps = running.node.checkpoints.driver.steps[4:]
    assert steps == [("bring_back", 100), ("bring_back", 101), ("unlock", 100), ("unlock", 101)]
    assert running.regions.records[S1].control is Control.RUN
    seen = await running.observed_slice()
    assert seen is not None
    assert (seen.state, seen.generation, seen.vram_bytes, seen.vram_used_bytes, seen.away_bytes) == (
        ObservedState.LIVE, 3, 4 * GIB, 3 * GIB, 0
    )  # fmt: skip
    assert [each[0] for each in running.said()][-2:] == ["slice.suspended", "slice.resumed"]


@pytest.mark.parametrize("trouble", ["slow", "unportable", "stranger", "vendor"])
async def test_what_does_not_work_is_undone_and_refused(running: House, trouble: str) -> None:
    """Work that does not end, memory that cannot be taken, a process the driver does not know, a vendor without the calls."""
    driver = running.node.checkpoints.driver
    if trouble == "vendor":
        running.node.checkpoints.refusal = "amd: no driver of it suspends processes"
    elif trouble == "stranger":
        del driver.stages[101]
    else:
        getattr(driver, trouble).add(101)
    await running.ledger(away())
    seen = await running.observed_slice()
    assert seen is not None
    assert (seen.state, seen.generation, seen.vram_bytes, seen.refused) == (ObservedState.LIVE, 1, 4 * GIB, 2)
    assert seen.message
    survivors = {pid: stage for pid, stage in driver.stages.items() if running.processes.running[pid].alive}
    assert set(survivors.values()) == {ProcessStage.RUNNING}
    assert running.processes.running[101].alive is (trouble != "unportable")
    assert running.regions.records[S1].control is Control.SUSPEND
    await running.ledger(entry(generation=3))
    assert running.regions.records[S1].control is Control.RUN
    assert [each[0] for each in running.said()][-1] == "slice.resumed"


async def test_a_slice_that_finds_no_room_stays_away_and_is_tried_again(running: House) -> None:
    """The first that is back goes away again when the second does not fit; a heartbeat later both are back."""
    driver = running.node.checkpoints.driver
    await running.ledger(away())
    driver.room = lambda pid: pid == 100
    await running.ledger(entry(generation=3))
    assert stages(running) == ["AWAY", "AWAY"]
    seen = await running.observed_slice()
    assert seen is not None
    assert (seen.state, seen.generation, seen.vram_bytes) == (ObservedState.SUSPENDED, 2, 0)
    assert "out of memory" in seen.message
    driver.room = lambda _: True
    await running.tick()
    assert stages(running) == ["RUNNING", "RUNNING"]
    assert running.said()[-1] == ("slice.resumed", "s1", 3)


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("back", [False, True])
async def test_an_enforcer_killed_at_any_step_is_followed_by_one_that_finishes(running: House, at: int, *, back: bool) -> None:
    """The next one asks the driver how far each process is, and says the fact once."""
    driver = running.node.checkpoints.driver
    if back:
        await running.ledger(away())
    left = [at]

    class Killed(BaseException):
        """The enforcer is gone."""

    def kill(_step: str, _pid: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    driver.before = kill
    wanted = entry(generation=3) if back else away()
    with suppress(Killed):
        await running.ledger(wanted)
    driver.before = lambda *_: None
    await running.restart()
    assert set(stages(running)) == {"RUNNING" if back else "AWAY"}
    assert running.said().count(("slice.resumed", "s1", 3) if back else ("slice.suspended", "s1", 2)) == 1


async def test_a_restart_with_a_suspended_slice_changes_nothing(running: House) -> None:
    """It is suspended in the next life too, and told once."""
    await running.ledger(away())
    before = await running.observed_slice()
    await running.restart()
    assert await running.observed_slice() == before
    assert [each for each in running.said() if each[0] == "slice.suspended"] == [("slice.suspended", "s1", 2)]


async def test_a_restart_without_a_driver_leaves_a_suspended_slice_where_it_is(running: House) -> None:
    """Its room may be another's by now: it stays suspended, and the driver is asked again."""
    await running.ledger(away())
    running.node.checkpoints.refusal = "libcuda: cannot open shared object file"
    await running.restart()
    seen = await running.observed_slice()
    assert seen is not None
    assert (seen.state, seen.vram_bytes, seen.refused) == (ObservedState.SUSPENDED, 0, 0)
    running.node.checkpoints.refusal = ""
    await running.tick()
    await running.ledger(entry(generation=3))
    assert stages(running) == ["RUNNING", "RUNNING"]


async def test_a_process_that_ends_while_away_leaves_nothing(running: House) -> None:
    """Its slot is free, and the slice comes back with the other one."""
    await running.ledger(away())
    running.processes.running[100].exit()
    del running.node.checkpoints.driver.stages[100]
    await running.settle()
    await running.ledger(entry(generation=3))
    assert stages(running) == ["RUNNING"]
    seen = await running.observed_slice()
    assert seen is not None
    assert seen.vram_used_bytes == 2 * GIB


async def test_a_suspended_slice_is_released_without_coming_back(running: House) -> None:
    """Nothing of it is on the device meanwhile; its processes are asked to go, then ended."""
    await running.ledger(away())
    await running.ledger(departures={"s1": Departure(tenant="acme", generation=2, grace_s=2.0)})
    seen = await running.observed_slice()
    assert seen is not None
    assert (seen.state, seen.vram_bytes) == (ObservedState.DRAINING, 0)
    assert stages(running) == ["AWAY", "AWAY"]
    await running.tick(4)
    assert [running.processes.running[pid].alive for pid in (100, 101)] == [False, False]
    assert running.said()[-1] == ("slice.released", "s1", 2)


async def test_an_empty_slice_is_suspended_without_a_driver(house: House) -> None:
    """There is nothing to take, so nobody is asked."""
    house.node.checkpoints.refusal = "no driver"
    await house.start()
    await house.ledger(entry())
    await house.ledger(away())
    assert house.said()[-1] == ("slice.suspended", "s1", 2)


async def test_a_gang_is_suspended_on_all_of_its_devices_or_on_none(house: House) -> None:
    """A process on two devices is taken away once; one process that cannot be keeps both places where they are."""
    await house.inventory("GPU-0", "GPU-1")
    await house.start()
    await house.ledger_of({device: [entry("g")] for device in ("GPU-0", "GPU-1")})
    for device in ("GPU-0", "GPU-1"):
        house.regions.slots[Place(device, "g")][house.attach(100, GIB, 0, Place(device, "g"))] = GIB
    house.node.checkpoints.driver.stages[100] = ProcessStage.RUNNING
    await house.tick()
    house.node.checkpoints.driver.slow.add(100)
    await house.ledger_of({device: [away("g")] for device in ("GPU-0", "GPU-1")})
    seen = [await house.observed_slice("g", device) for device in ("GPU-0", "GPU-1")]
    assert [each.refused for each in seen if each is not None] == [2, 2]
    house.node.checkpoints.driver.slow.clear()
    await house.ledger_of({device: [entry("g", 3)] for device in ("GPU-0", "GPU-1")})
    await house.ledger_of({device: [away("g", 4)] for device in ("GPU-0", "GPU-1")})
    assert house.node.checkpoints.driver.steps[-2:] == [("lock", 100), ("take_away", 100)]
    assert [each for each in house.said() if each[0] == "slice.suspended"] == [("slice.suspended", "g", 4)]


async def test_kill_is_stronger_than_suspended(running: House) -> None:
    """A suspended slice that is told to kill has that word in its record; so has a fenced spot slice."""
    await running.ledger(away(control=Control.KILL))
    assert running.regions.records[S1].control is Control.KILL
    await running.ledger(entry("s2", tier=Tier.SPOT), away("s1", 3, tier=Tier.SPOT))
    await running.tick(40)


SOME = st.sets(st.integers(1, 6))
STAGES = st.sampled_from([ProcessStage.RUNNING, ProcessStage.LOCKED, ProcessStage.AWAY])


@settings(deadline=None, max_examples=200)
@given(
    found=st.dictionaries(st.integers(1, 6), STAGES, min_size=1), slow=SOME, unportable=SOME, roomy=SOME, back=st.booleans(),
)  # fmt: skip
def test_all_or_none_wherever_they_were(
    found: dict[int, ProcessStage], slow: set[int], unportable: set[int], roomy: set[int], *, back: bool
) -> None:
    """From any mixture that a crash can leave: done, or all of them run, or those that do not fit stay away; never half."""
    driver = MemoryCheckpointer()
    driver.stages, driver.slow, driver.unportable = dict(found), slow, unportable
    driver.room = lambda pid: pid in roomy
    outcome = resume(driver, found, lambda: 0) if back else suspend(driver, dict.fromkeys(found, 1), 1.0, lambda: 0)
    alive = {stage for stage in driver.stages.values() if stage is not ProcessStage.BROKEN}
    if not outcome.refusal:
        assert alive <= {ProcessStage.RUNNING if back else ProcessStage.AWAY}
        assert back or outcome.away_bytes == len(found)
    else:
        assert ProcessStage.RUNNING not in alive or alive == {ProcessStage.RUNNING} or not set(found) <= roomy


@pytest.mark.parametrize("at", ["lock", "take_away", "bring_back", "unlock"])
async def test_a_step_that_a_killed_enforcer_asked_for_ends_under_the_next_one(running: House, at: str) -> None:
    """The driver says that the process has not got there yet, does it, and finds the question repeated: that is no failure."""
    driver = running.node.checkpoints.driver
    if at in ("bring_back", "unlock"):
        await running.ledger(away())
    then = {"lock": "LOCKED", "take_away": "AWAY", "bring_back": "LOCKED", "unlock": "RUNNING"}[at]

    def finish(step: str, pid: int) -> None:
        if step == at:
            driver.stages[pid] = ProcessStage[then]

    driver.before = finish
    await running.ledger(entry(generation=3) if at in ("bring_back", "unlock") else away())
    assert set(stages(running)) == {"RUNNING" if at in ("bring_back", "unlock") else "AWAY"}
    assert running.said()[-1][0] == ("slice.resumed" if at in ("bring_back", "unlock") else "slice.suspended")


def test_a_suspension_that_leaves_the_others_where_they_are_would_be_found() -> None:
    """The control: without undoing, one process is away and the other runs."""
    driver = MemoryCheckpointer()
    driver.stages = {1: ProcessStage.RUNNING, 2: ProcessStage.RUNNING}
    driver.slow = {2}
    driver.lock(1, 10)
    driver.take_away(1)
    with pytest.raises(VendorError, match="not over"):
        driver.lock(2, 10)
    assert set(driver.stages.values()) == {ProcessStage.AWAY, ProcessStage.RUNNING}
