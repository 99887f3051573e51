"""The modes that a description alone gives are those that the planner would offer."""

from itertools import product

import pytest

from mica.events import Device, Mode, Runtime, Vendor
from mica.hardware import Catalogue, Model
from mica.planner.domain.modes import offered_modes
from mica.vendors import device_modes

NATIVE = {
    Vendor.NVIDIA: Runtime.CUDA, Vendor.AMD: Runtime.HIP, Vendor.INTEL: Runtime.LEVEL_ZERO, Vendor.HUAWEI: Runtime.CANN,
    Vendor.QUALCOMM: Runtime.QAIC, Vendor.CPU: Runtime.OPENCL,
}  # fmt: skip


def descriptions(model: Model) -> list[Device]:
    """The model in every state that its library may find it in, with every set of runtimes."""
    native = NATIVE[model.vendor]
    return [
        Device(
            id=model.key, index=0, vendor=model.vendor, model=model.name, vram_bytes=model.vram_bytes,
            compute_capability=model.capability, partitioned=partitioned, switchable=switchable,
            profiles=model.partition_profiles() if listed else (), runtimes=runtimes,
        )
        for partitioned, switchable, listed in product((True, False), repeat=3)
        for runtimes in ((), (native,), (native, Runtime.OPENCL), (Runtime.OPENCL,))
    ]  # fmt: skip


@pytest.mark.parametrize("model", Catalogue.load().models.values(), ids=lambda model: model.key)
def test_the_planner_agrees(model: Model) -> None:
    """For every model: a device offers what it offers to some runtime that it has."""
    for device in descriptions(model):
        offered: set[Mode] = set()
        for runtime in device.runtimes or tuple(each for each in Runtime if each is not Runtime.NATIVE):
            modes = offered_modes(device, runtime)
            offered |= set(modes) if isinstance(modes, tuple) else set()
        assert device_modes(device) == tuple(mode for mode in Mode if mode in offered), device
