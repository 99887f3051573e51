"""AMD devices through amdsmi. Invariant: nothing outside this package speaks amdsmi."""

from mica.vendors.amd._driver import AmdDriver

__all__ = ["AmdDriver"]
