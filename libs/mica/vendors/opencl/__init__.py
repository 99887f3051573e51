"""OpenCL devices. Invariant: the same device of the same node has the same id, in discovery and in every tenant's process."""

from mica.vendors.opencl._driver import SWITCH, OpenClDriver, wants_processors
from mica.vendors.opencl._identity import device_id, uuid_id
from mica.vendors.opencl._loader import drivers_here

__all__ = ["SWITCH", "OpenClDriver", "device_id", "drivers_here", "uuid_id", "wants_processors"]
