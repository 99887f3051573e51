"""A slice with a part of the device to itself: what its work costs."""

from collections.abc import Callable

import pytest
from shim_node import Node

from mica.region import Spatial

Eventually = Callable[[Callable[[], bool]], None]


@pytest.mark.parametrize(
    ("part_ppm", "asked", "cost"), [(500_000, "", 0.5), (250_000, "", 0.25), (1_000_000, "", 1.0), (500_000, "20", 0.2)]
)
def test_work_on_a_part_of_the_device_costs_that_part_of_its_time(
    node: Node, eventually: Eventually, part_ppm: int, asked: str, cost: float
) -> None:
    """By the part that the process really has: its own percentage, where it asked for less than the slice has."""
    node.place("a", burst_ns=10**12, spatial_kind=Spatial.MPS, spatial_ppm=part_ppm)
    tenant = node.start("a", **({"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": asked} if asked else {})).started()
    for _ in range(5):
        assert tenant("launch", 10) == [0]
        assert tenant("sync") == [0]

    def accounted() -> bool:
        taken_ns = node.account(tenant)["kernel_ns"]
        return node.usage("a").gpu_ns == pytest.approx(cost * taken_ns, rel=0.1)

    eventually(accounted)


def test_a_process_that_started_before_its_slice_had_a_part_costs_all_of_the_device(node: Node, eventually: Eventually) -> None:
    """It can not move into the part; the rate still holds it to the slice's share."""
    node.place("a", burst_ns=10**12)
    tenant = node.start("a").started()
    node.change("a", generation=2, burst_ns=10**12, spatial_kind=Spatial.MPS, spatial_ppm=250_000)
    for _ in range(5):
        assert tenant("launch", 10) == [0]
        assert tenant("sync") == [0]
    eventually(lambda: node.usage("a").gpu_ns == pytest.approx(node.account(tenant)["kernel_ns"], rel=0.1))
