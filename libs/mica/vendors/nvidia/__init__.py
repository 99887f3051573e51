"""NVIDIA devices through NVML, the system's or the simulated one. Invariant: nothing outside this package speaks NVML."""

from mica.vendors.nvidia._driver import NvidiaDriver
from mica.vendors.nvidia._library import close_nvml, nvml_call, open_nvml, simulated

__all__ = ["NvidiaDriver", "close_nvml", "nvml_call", "open_nvml", "simulated"]
