"""How a process reaches a device or a MIG instance: variables, device nodes, CDI names.

Invariant: an instance's process gets the nodes of that instance and no other's. Sources: NVIDIA's container toolkit and CDI
specifications; the MIG user guide, "Device nodes and capabilities" (numbers of nodes are those of the device's minor number).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mica.events import Partition
from mica.vendors._port import Access

MIG_MINORS: Final = Path("/proc/driver/nvidia-caps/mig-minors")
SHARED_NODES: Final = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
VARIABLES: Final = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def by_uuid(uuid: str, nodes: tuple[str, ...] = ()) -> Access:
    """Access to what has that UUID."""
    return Access(visible=dict.fromkeys(VARIABLES, uuid), devices=nodes, cdi=f"nvidia.com/gpu={uuid}")


def device_nodes(nvml: Any, device_id: str, partition: Partition | None, minors: Path = MIG_MINORS) -> tuple[str, ...]:
    """The nodes of the device, and those of the instance's capabilities where they can be known. Raises NVMLError."""
    minor = nvml.nvmlDeviceGetMinorNumber(nvml.nvmlDeviceGetHandleByUUID(device_id))
    nodes = (f"/dev/nvidia{minor}", *SHARED_NODES)
    if partition is None:
        return nodes
    instance = nvml.nvmlDeviceGetHandleByUUID(partition.uuid)
    gpu = f"gpu{minor}/gi{nvml.nvmlDeviceGetGpuInstanceId(instance)}"
    wanted = (f"{gpu}/access", f"{gpu}/ci{nvml.nvmlDeviceGetComputeInstanceId(instance)}/access")
    numbers = read_minors(minors)
    return (*nodes, *(f"/dev/nvidia-caps/nvidia-cap{numbers[name]}" for name in wanted if name in numbers))


def read_minors(path: Path) -> Mapping[str, int]:
    """The numbers of the capabilities' nodes; empty where the driver does not tell."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}
