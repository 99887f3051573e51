"""A program for a simulated node: prints its devices, makes a MIG instance of its first, and reads both, as JSON."""

import sys
from typing import Any

import msgspec

from mica.vendors import open_drivers
from mica.vendors.nvidia import open_nvml


def make_instance(nvml: Any, device_id: str, profile_id: int) -> str:
    """Make a GPU instance at slot 0 with one compute instance over all of it; its MIG UUID."""
    handle = nvml.nvmlDeviceGetHandleByUUID(device_id)
    instance = nvml.nvmlDeviceCreateGpuInstance(handle, profile_id)
    nvml.nvmlGpuInstanceCreateComputeInstance(instance, nvml.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE)
    uuid: str = nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 0))
    return uuid


def main() -> None:
    """Print what the adapter reads."""
    (driver,) = open_drivers()
    devices = driver.devices()
    mig = make_instance(open_nvml(), devices[0].id, devices[0].profiles[0].profile_id)
    answer = {
        "devices": devices,
        "samples": [driver.sample(device.id) for device in devices],
        "processes": [driver.compute_processes(device.id) for device in devices],
        "partition": driver.sample(mig),
        "partition_processes": driver.compute_processes(mig),
        "after": driver.devices() == devices,
    }
    driver.close()
    sys.stdout.buffer.write(msgspec.json.encode(answer))


main()
