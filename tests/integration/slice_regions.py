"""Slices' regions as an enforcer would make them, without one."""

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mica.region import Limits, QuotaRegion, RuntimeDir, UsageSnapshot, create_token, create_usage, read_usage


def monotonic_ns() -> int:
    """CLOCK_MONOTONIC, as the shim reads it."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class SliceRegions:
    """A runtime directory; slices are on ``device`` unless another is named, and have what is ``usual`` unless told otherwise."""

    def __init__(self, root: Path, stack: ExitStack, device: str, usual: dict[str, Any]) -> None:
        self.runtime = RuntimeDir(root)
        self.device = device
        self.quotas: dict[str, QuotaRegion] = {}
        self._stack = stack
        self._usual = {"generation": 1, "share_ppm": 1_000_000, "burst_ns": 20_000_000} | usual

    def quota(self, device: str = "") -> QuotaRegion:
        """The device's quota region, made on first use."""
        device = device or self.device
        if device not in self.quotas:
            self.runtime.ensure_device(device)
            region = self._stack.enter_context(QuotaRegion.create(self.runtime.quota_path(device), device))
            region.heartbeat(monotonic_ns())
            create_token(self.runtime.token_path(device), device)
            self.quotas[device] = region
        return self.quotas[device]

    def place(self, slice_id: str, device: str = "", **changes: Any) -> Limits:
        """Make a slice's usage region, and write its record."""
        device = device or self.device
        self.runtime.ensure_slice(slice_id)
        create_usage(self.runtime.usage_path(slice_id, device), device, slice_id, os.getuid())
        return self.change(slice_id, device, **changes)

    def change(self, slice_id: str, device: str = "", **changes: Any) -> Limits:
        """Write the slice's record again; its ceiling is its share unless it has one."""
        values = self._usual | changes
        limits = Limits(slice_id=slice_id, ceiling_ppm=values.pop("ceiling_ppm", values["share_ppm"]), **values)
        quota = self.quota(device)
        index = quota.find(slice_id)
        quota.write(quota.free_index() if index is None else index, limits)  # type: ignore[arg-type]
        return limits

    def clear(self, slice_id: str, device: str = "") -> None:
        """Take the slice's record away."""
        index = self.quota(device).find(slice_id)
        assert index is not None
        self.quota(device).clear(index)

    def usage(self, slice_id: str, device: str = "") -> UsageSnapshot:
        """What the slice has used, and what its processes hold."""
        return read_usage(self.runtime.usage_path(slice_id, device or self.device))
