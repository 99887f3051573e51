"""A slice with a part of the device to itself: what its work costs."""

from collections.abc import Callable

import pytest
from shim_node import MIB, Node, Tenant

from mica.region import Spatial

MS = 1_000_000
Eventually = Callable[[Callable[[], bool]], None]


def cost_of_a_round(node: Node, tenant: Tenant, slice_id: str = "a") -> float:
    """What the slice is charged for ten launches, by what the driver's books say that they took.

    The first rounds tell what a launch takes, and a machine that does not run the program meanwhile makes one wrong.
    """
    before, taken_ns = node.usage(slice_id).gpu_ns, node.account(tenant)["kernel_ns"]
    assert tenant("launch", 10) == [0]
    assert tenant("sync") == [0]
    return float((node.usage(slice_id).gpu_ns - before) / (node.account(tenant)["kernel_ns"] - taken_ns))


@pytest.mark.parametrize(
    ("part_ppm", "asked", "cost"), [(500_000, "", 0.5), (250_000, "", 0.25), (1_000_000, "", 1.0), (500_000, "20", 0.2)]
)
def test_work_on_a_part_of_the_device_costs_that_part_of_its_time(
    node: Node, eventually: Eventually, part_ppm: int, asked: str, cost: float
) -> None:
    """By the part that the process really has: its own percentage, where it asked for less than the slice has."""
    node.place("a", burst_ns=10**12, spatial_kind=Spatial.MPS, spatial_ppm=part_ppm)
    tenant = node.start("a", **({"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": asked} if asked else {})).started()
    eventually(lambda: cost_of_a_round(node, tenant) == pytest.approx(cost, rel=0.1))


def test_a_process_that_started_before_its_slice_had_a_part_costs_all_of_the_device(node: Node, eventually: Eventually) -> None:
    """It can not move into the part; the rate still holds it to the slice's share."""
    node.place("a", burst_ns=10**12)
    tenant = node.start("a").started()
    node.change("a", generation=2, burst_ns=10**12, spatial_kind=Spatial.MPS, spatial_ppm=250_000)
    eventually(lambda: cost_of_a_round(node, tenant) == pytest.approx(1, rel=0.1))


def test_two_slices_with_green_contexts_work_side_by_side(node: Node, eventually: Eventually) -> None:
    """Each has the multiprocessors of its own half, is charged that half of the time, and neither waits for the other."""
    node.describe(mps=1)
    for slice_id, offset_ppm in (("a", 0), ("b", 500_000)):
        part = {"spatial_kind": Spatial.GREEN, "spatial_ppm": 500_000, "spatial_offset_ppm": offset_ppm}
        node.place(slice_id, share_ppm=500_000, burst_ns=20 * MS, **part)
    tenants = {slice_id: node.start(slice_id).started() for slice_id in "ab"}
    for tenant in tenants.values():
        assert tenant("multiprocessors") == [0, 28]  # seven of fourteen groups of four; two of 58 are in none
        tenant.send("launch", 400)
    for tenant in tenants.values():
        assert tenant.answer() == [0]
        assert tenant("sync") == [0]
    ran = {slice_id: node.account(tenant)["kernel_ns"] for slice_id, tenant in tenants.items()}
    assert node.books()["devices"][0]["busy_ns"] < 0.8 * sum(ran.values())
    eventually(lambda: cost_of_a_round(node, tenants["a"], "a") == pytest.approx(0.5, rel=0.1))
    eventually(lambda: cost_of_a_round(node, tenants["b"], "b") == pytest.approx(0.5, rel=0.1))


def test_a_part_ends_with_its_program_and_memory_is_charged_as_ever(node: Node) -> None:
    """Memory of a green context is the slice's; the last release of the primary context gives context and memory back."""
    node.describe(mps=1)
    node.place("a", spatial_kind=Spatial.GREEN, spatial_ppm=250_000, spatial_offset_ppm=0)
    tenant = node.start("a").started()
    assert tenant("multiprocessors") == [0, 12]
    assert tenant("alloc", "p", 4 * MIB) == [0]
    assert node.usage("a").vram_bytes == 4 * MIB
    assert tenant("reset") == [0]
    assert node.usage("a").vram_bytes == 0
    assert tenant("primary") == [0]
    assert tenant("multiprocessors") == [0, 12]
