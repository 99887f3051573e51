"""Processes that came around the slices."""

from enforcer_house import GIB, S1, House, entry

from mica.enforcer.intruders import Stranger, Suspicion, look
from mica.events import SliceIntruder

STRANGER = Stranger("GPU-0", 900)


async def test_a_process_without_a_slice_is_told_of_once(house: House) -> None:
    """One fact, however long it stays; a tenant's process on the same device is none."""
    enforcer = await house.start()
    await house.ledger(entry())
    house.attach(pid=100, place=S1)
    await house.tick(1)
    house.node.occupants.found["GPU-0"] = {100: GIB, 900: 2 * GIB}
    for _ in range(3):
        await enforcer.look_for_intruders()
        await house.settle()
    [fact] = house.bus.published("slice.intruder.*")
    assert isinstance(fact, SliceIntruder)
    assert (fact.node, fact.device_id, fact.pid, fact.vram_bytes, fact.action) == ("n1", "GPU-0", 900, 2 * GIB, "reported")


def test_a_process_that_is_seen_once_is_not_accused() -> None:
    """It may be a tenant's, on its way to attach."""
    suspicion, accused = look(Suspicion(), {STRANGER: 1}, frozenset())
    assert accused == []
    assert look(suspicion, {STRANGER: 1}, frozenset({900}))[1] == []
    assert look(suspicion, {STRANGER: 1}, frozenset())[1] == [(STRANGER, 1)]


def test_a_pid_that_left_and_came_again_is_another_process() -> None:
    """What was told of is forgotten with the process."""
    suspicion = Suspicion(frozenset({STRANGER}), frozenset({STRANGER}))
    suspicion, _ = look(suspicion, {}, frozenset())
    suspicion, _ = look(suspicion, {STRANGER: 1}, frozenset())
    assert look(suspicion, {STRANGER: 1}, frozenset())[1] == [(STRANGER, 1)]
