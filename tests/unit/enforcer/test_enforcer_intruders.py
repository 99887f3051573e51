"""Processes that came around the slices, and processes that hold more than they say."""

import pytest
from enforcer_house import GIB, S1, House, entry

from mica.enforcer.intruders import SLACK_BYTES, Action, Sighting, Stranger, exceeds, judge
from mica.enforcer.ports import Identity
from mica.events import IntruderAction, NodePolicy, PoolPolicy, SliceIntruder

STRANGER = Stranger("GPU-0", 900)
SEEN = {STRANGER: Sighting(vram_bytes=1, mortal=True)}
REPORT, TERMINATE = IntruderAction.REPORT, IntruderAction.TERMINATE


def facts(house: House) -> list[tuple[int, str, str, int, int]]:
    """Of each fact: pid, action, slice, bytes by the driver, bytes by the slice."""
    found = house.bus.published("slice.intruder.*")
    return [(f.pid, f.action, f.id, f.vram_bytes, f.charged_bytes) for f in found if isinstance(f, SliceIntruder)]


async def occupied(house: House, rule: IntruderAction = REPORT) -> None:
    """A slice with one process of 1 GiB, pid 100; and what the operators have decided."""
    await house.bus.policy.put("pool.default", PoolPolicy(intruders=rule))
    await house.start()
    await house.ledger(entry())
    house.attach(pid=100, vram_bytes=GIB, place=S1)
    await house.tick(1)
    house.node.occupants.found["GPU-0"] = {100: GIB}


async def look(house: House, times: int) -> None:
    assert house.enforcer is not None
    for _ in range(times):
        await house.enforcer.look_for_intruders()
        await house.settle()


def stranger(house: House, pid: int = 900, **identity: object) -> None:
    """A process that mica did not start holds 2 GiB."""
    house.processes.start(pid, 5_000 + pid)
    house.processes.strangers[pid] = Identity(1, **identity)  # type: ignore[arg-type]
    house.node.occupants.found["GPU-0"][pid] = 2 * GIB


async def test_a_process_without_a_slice_is_told_of_once(house: House) -> None:
    """One fact, however long it stays; a tenant's process on the same device is none."""
    await occupied(house)
    stranger(house)
    await look(house, 4)
    assert facts(house) == [(900, "reported", "", 2 * GIB, 0)]
    assert house.processes.running[900].signals == []


async def test_a_stranger_is_asked_to_end_and_then_made_to_where_the_policy_says_so(house: House) -> None:
    """SIGTERM, a look later SIGKILL, and a fact for each."""
    await occupied(house, TERMINATE)
    stranger(house)
    await look(house, 4)
    assert house.processes.running[900].signals == [15, 9]
    assert [fact[:2] for fact in facts(house)] == [(900, "terminated"), (900, "killed")]


async def test_a_nodes_own_policy_holds_over_its_pools(house: House) -> None:
    """In both directions, and from the moment that it is heard."""
    await occupied(house, TERMINATE)
    await house.bus.policy.put("node.n1", NodePolicy(intruders=REPORT))
    await house.restart()
    stranger(house)
    await look(house, 3)
    assert house.processes.running[900].signals == []


async def test_a_policy_that_nobody_can_read_does_not_keep_an_enforcer_from_starting(house: House) -> None:
    """The pool's last readable version is in force, and the node's own, which never was one, is as if it were not set."""
    await occupied(house, TERMINATE)
    await house.bus.publish_raw("$KV.policy.pool.default", b'{"intruders": "spare them"}')
    await house.bus.publish_raw("$KV.policy.node.n1", b"garbage")
    await house.restart()
    stranger(house)
    await look(house, 2)
    assert house.processes.running[900].signals == [15]


async def test_a_process_of_a_slice_that_holds_more_than_it_charged_is_reported_and_lives(house: House) -> None:
    """With its slice and both amounts; a stranger would have been ended."""
    await occupied(house, TERMINATE)
    house.node.occupants.found["GPU-0"][100] = 3 * GIB
    await look(house, 4)
    assert facts(house) == [(100, "reported", "s1", 3 * GIB, GIB)]
    assert house.processes.running[100].signals == []


async def test_a_process_of_a_slice_on_another_device_is_reported_and_lives(house: House) -> None:
    """It came there around its shim; mica has started it all the same."""
    await house.bus.policy.put("pool.default", PoolPolicy(intruders=TERMINATE))
    await house.start()
    await house.ledger_of({"GPU-0": [entry()], "GPU-1": [entry("s2")]})
    house.attach(pid=100, vram_bytes=GIB, place=S1)
    await house.tick(1)
    house.node.occupants.found["GPU-1"] = {100: GIB}
    await look(house, 3)
    assert facts(house) == [(100, "reported", "s1", GIB, 0)]


async def test_a_child_that_left_its_slice_is_ended_under_its_slices_name(house: House) -> None:
    """Whoever clears a child's environment has not taken it out of the policy's reach."""
    await occupied(house, TERMINATE)
    stranger(house, ancestors=(850, 100, 1))
    house.processes.running[900].ends_on.add(15)
    await look(house, 2)
    assert facts(house) == [(900, "terminated", "s1", 2 * GIB, 0)]


async def test_the_nodes_own_processes_are_no_intruders(house: House) -> None:
    """A daemon of the vendor's holds the device for everybody."""
    await occupied(house, TERMINATE)
    stranger(house, of_node=True)
    await look(house, 4)
    assert facts(house) == []
    assert house.processes.running[900].signals == []


async def test_a_process_out_of_the_enforcers_reach_is_reported_and_not_said_to_be_ended(house: House) -> None:
    """An enforcer that is not root can not end everybody's processes."""
    await occupied(house, TERMINATE)
    stranger(house)
    house.processes.running[900].out_of_reach = True
    await look(house, 2)
    assert [fact[:2] for fact in facts(house)] == [(900, "reported")]


async def test_a_process_that_left_the_device_is_not_signalled(house: House) -> None:
    """With the descriptor open the vendor is asked again; another process may have the pid by then."""
    await occupied(house, TERMINATE)
    stranger(house)
    await look(house, 1)
    asked = iter([{100: GIB, 900: 2 * GIB}, {100: GIB}])
    house.node.occupants.on = lambda device_id: next(asked) if device_id == "GPU-0" else {}  # type: ignore[method-assign]
    await look(house, 1)
    assert house.processes.running[900].signals == []
    assert [fact[:2] for fact in facts(house)] == [(900, "reported")]


def test_a_process_that_is_seen_once_is_not_accused() -> None:
    """It may be a tenant's, on its way to attach."""
    suspicion, verdicts = judge({}, SEEN, TERMINATE)
    assert verdicts == []
    assert judge(suspicion, {}, TERMINATE) == ({}, [])
    assert [verdict.action for verdict in judge(suspicion, SEEN, REPORT)[1]] == [Action.REPORTED]


def test_a_pid_that_another_process_has_got_is_another_process() -> None:
    """What was done about the one is not gone on with at the other."""
    again = {Stranger("GPU-0", 900, started=7): SEEN[STRANGER]}
    suspicion, verdicts = judge({STRANGER: Action.TERMINATED}, again, TERMINATE)
    assert (list(suspicion.values()), verdicts) == ([Action.SEEN], [])


def test_a_policy_that_becomes_stricter_reaches_who_was_only_told_of() -> None:
    """And one that becomes milder says nothing again."""
    assert [verdict.action for verdict in judge({STRANGER: Action.REPORTED}, SEEN, TERMINATE)[1]] == [Action.TERMINATED]
    assert judge({STRANGER: Action.TERMINATED}, SEEN, REPORT)[1] == []


@pytest.mark.parametrize(
    ("vram_bytes", "charged_bytes", "lies"),
    [(SLACK_BYTES, 0, False), (SLACK_BYTES + 1, 0, True), (9 * GIB, 8 * GIB, False), (9 * GIB + 1, 8 * GIB, True)],
)
def test_a_drivers_own_footprint_and_whole_pages_are_no_lie(vram_bytes: int, charged_bytes: int, lies: bool) -> None:
    """256 MiB, or an eighth of what was charged."""
    assert exceeds(vram_bytes, charged_bytes) is lies
