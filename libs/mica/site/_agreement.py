"""Whether a node has what its instance type promises. Pure.

Invariant: more than was promised is no finding: a device may be listed in parts.
"""

import re
from collections.abc import Sequence

from mica.events import Device, Site, Vendor
from mica.site._instances import InstanceType, InstanceTypes


def disagreement(site: Site, devices: Sequence[Device], types: InstanceTypes) -> str:
    """What is wrong, in one line; empty when nothing is, or when nobody knows what the instance should have."""
    promised = types.find(site.cloud, site.instance_type)
    if promised is None:
        return ""
    listed = [device for device in devices if device.vendor is not Vendor.CPU]
    what = f"{site.cloud} {site.instance_type} has {_amount(promised)}"
    if len(listed) < promised.count:
        return f"{what}, {len(listed)} of {promised.count} listed"
    others = sorted({device.model for device in listed if not _is_a(promised.model, device.model)})
    return f"{what}, listed: {', '.join(others)}" if others else ""


def _amount(promised: InstanceType) -> str:
    if promised.parts > 1:
        return f"1/{promised.parts} of a {promised.model}"
    return f"{promised.count} {promised.model}"


def _is_a(key: str, name: str) -> bool:
    """Whether a library's name for a device can mean the model: its chip's name stands there as a word.

    ``A10`` is in "NVIDIA A10" and in "NVIDIA A10-4Q", not in "NVIDIA A100-SXM4-40GB".
    """
    chip = key.removeprefix("RTX-PRO-").split("-")[0]
    spaced = "[ -]?".join(re.findall(r"[A-Za-z]+|[0-9]+", chip))
    return re.search(rf"(?<![A-Za-z0-9]){spaced}(?![A-Za-z0-9])", name, re.IGNORECASE) is not None
