"""Functions asked for by name: the shim's own where it enforces, the driver's everywhere else."""

import pytest
from shim_node import Node

PER_THREAD = 2


def test_what_is_enforced_is_the_shims(node: Node) -> None:
    """An enforced function's answer is the shim's own, of the version and default stream that were asked for."""
    tenant = node.start(None)
    shim = node.environment(None)["LD_PRELOAD"].split(":")[0]
    for name, version, flags, symbol in (
        ("cuMemAlloc", 12000, 0, "cuMemAlloc_v2"),
        ("cuMemFree", 12000, 0, "cuMemFree_v2"),
        ("cuMemGetInfo", 12000, 0, "cuMemGetInfo_v2"),
        ("cuMemAllocAsync", 12000, 0, "cuMemAllocAsync"),
        ("cuMemAllocAsync", 12000, PER_THREAD, "cuMemAllocAsync_ptsz"),
        ("cuLaunchKernel", 12000, 0, "cuLaunchKernel"),
        ("cuLaunchKernel", 12000, PER_THREAD, "cuLaunchKernel_ptsz"),
        ("cuLaunchKernelEx", 12000, PER_THREAD, "cuLaunchKernelEx_ptsz"),
        ("cuDeviceTotalMem", 12000, PER_THREAD, "cuDeviceTotalMem_v2"),
        ("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2"),
        ("cuInit", 2000, 0, "cuInit"),
    ):
        assert tenant("proc", name, version, flags) == [0, 0, [shim, symbol]], (name, version, flags)


@pytest.mark.parametrize(
    ("name", "flags", "symbol"),
    [("cuStreamQuery", PER_THREAD, "cuStreamQuery_ptsz"), ("cuCtxGetCurrent", 0, "cuCtxGetCurrent")],
)
def test_what_is_not_enforced_is_the_drivers(node: Node, name: str, flags: int, symbol: str) -> None:
    """A function that the shim does not enforce costs nothing: the driver's own answer is handed on."""
    tenant = node.start(None)
    result, _, found = tenant("proc", name, 12000, flags)
    assert (result, found) == (0, [node.environment(None)["MICA_CUDA_DRIVER"], symbol])


@pytest.mark.parametrize("name", ["cuNothingOfTheKind", ""])
def test_what_the_driver_does_not_know_stays_unknown(node: Node, name: str) -> None:
    """An unknown name, and the empty one, get the same answer as without the shim."""
    with_shim = node.start(None)
    without = node.start(None, LD_PRELOAD="")
    answer = with_shim("proc", name, 12000, 0)
    expected = without("proc", name, 12000, 0)
    assert answer == expected
    assert answer[2] is None


def test_a_version_before_the_function_gets_the_drivers_answer(node: Node) -> None:
    """The version that a program asks with reaches the driver."""
    answers = [
        node.start(None, LD_PRELOAD=preload)("proc", "cuLaunchKernelEx", 11000, 0)[:2]
        for preload in ("", node.environment(None)["LD_PRELOAD"])
    ]
    assert answers[0] == answers[1]
