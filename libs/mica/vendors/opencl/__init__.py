"""OpenCL devices. Invariant: the same device of the same node has the same id, in discovery and in every tenant's process."""

from mica.vendors.opencl._driver import SWITCH, OpenClDriver
from mica.vendors.opencl._identity import device_id

__all__ = ["SWITCH", "OpenClDriver", "device_id"]
