"""Qualcomm Cloud AI 100, through ``qaic-util`` and ``qaic-device-partition`` alone.

A device is an SoC. Its partitions are groups of NSPs with a part of its memory: derived devices, each of which is there only
while the process that made it lives.
"""

from mica.vendors.qualcomm._driver import QualcommDriver

__all__ = ["QualcommDriver"]
