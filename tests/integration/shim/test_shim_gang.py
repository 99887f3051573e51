"""One kernel on several devices by one call: admitted and charged on each, in one order, once."""

from collections.abc import Callable

from shim_node import PEER_CLIENT, UUIDS, Node, Tenant

from mica.events import Control

MS = 1_000_000
KERNEL_NS = 502_000
NOT_PERMITTED = 800
INVALID_VALUE = 1

Eventually = Callable[[Callable[[], bool]], None]


def start(node: Node) -> Tenant:
    """A program with a part of a launch ready on each of the slice's devices."""
    tenant = node.start("a", client=PEER_CLIENT)
    assert tenant("init") == [0]
    for ordinal in (0, 1):
        assert tenant("part_on", ordinal) == [0]
    return tenant


def place(node: Node, **limits: object) -> None:
    for uuid in UUIDS[:2]:
        node.place("a", uuid, **({"burst_ns": 10**12, "quantum_ns": 2 * MS} | limits))


def change(node: Node, ordinal: int, **limits: object) -> None:
    node.change("a", UUIDS[ordinal], **({"burst_ns": 10**12, "quantum_ns": 2 * MS, "generation": 2} | limits))


def launches(node: Node) -> list[int]:
    return [node.usage("a", uuid).launches for uuid in UUIDS[:2]]


def test_each_device_is_charged_its_part_once(node: Node, eventually: Eventually) -> None:
    """Every part counts as one launch of its own device, and is charged there no less than it took."""
    place(node)
    tenant = start(node)
    assert tenant("gang", [1, 0], 20) == [0]
    for ordinal in (0, 1):
        assert tenant("primary", ordinal) == tenant("sync") == [0]
    assert launches(node) == [20, 20]
    for uuid in UUIDS[:2]:
        eventually(lambda uuid=uuid: node.usage("a", uuid).gpu_ns >= 0.9 * 20 * KERNEL_NS)  # type: ignore[misc]


def test_a_device_that_may_not_go_holds_all_parts(node: Node, eventually: Eventually) -> None:
    """While the slice is paused on one device nothing of the launch reaches any."""
    place(node)
    tenant = start(node)
    change(node, 1, control=Control.PAUSE)
    tenant.send("gang", [0, 1])
    eventually(lambda: node.usage("a", UUIDS[1]).throttled_ns > 5 * MS)
    assert [account["kernel_ns"] for account in node.process(tenant)["accounts"]] == [0, 0]
    change(node, 1, generation=3)
    assert tenant.answer() == [0]
    assert launches(node) == [1, 1]


def test_a_part_that_is_refused_leaves_no_charge_on_the_others(node: Node, eventually: Eventually) -> None:
    """When one device refuses its part, what was charged for the others is taken back, and nothing counts as in flight."""
    place(node, inflight_max=4)
    tenant = start(node)
    change(node, 1, control=Control.PAUSE, inflight_max=4)
    tenant.send("gang", [0, 1])
    eventually(lambda: node.usage("a", UUIDS[1]).throttled_ns > 5 * MS)
    node.clear("a", UUIDS[1])
    assert tenant.answer() == [NOT_PERMITTED]
    usage = node.usage("a", UUIDS[0])
    assert (usage.launches, usage.gpu_ns, usage.processes[0].inflight) == (0, 0, 0)


def test_two_parts_on_one_device_are_refused(node: Node) -> None:
    """As the driver says; and nothing is charged, or waits for itself."""
    place(node, inflight_max=1)
    tenant = start(node)
    assert tenant("gang", [0, 0]) == [INVALID_VALUE]
    assert launches(node) == [0, 0]


def test_opposite_orders_never_wait_for_each_other(node: Node) -> None:
    """Two programs that name the same devices in opposite orders, each with room for one launch, both come to their end."""
    place(node, inflight_max=1)
    first, second = start(node), start(node)
    first.send("gang", [0, 1], 300)
    second.send("gang", [1, 0], 300)
    assert first.answer() == second.answer() == [0]
    assert launches(node) == [600, 600]
