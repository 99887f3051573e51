"""Intel devices through Level Zero's sysman, ``xpu-smi`` and sysfs. Invariant: nothing outside this package speaks sysman."""

from mica.vendors.intel._driver import IntelDriver

__all__ = ["IntelDriver"]
