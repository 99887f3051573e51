"""One device's regions, as an enforcer would write them, for benchmarks that need no enforcer.

Invariant: a record is in force when ``grant`` returns.
"""

import os
import time
from typing import Any

from mica.events import PPM
from mica.region import Limits, QuotaRegion, RuntimeDir, create_token, create_usage

QUANTUM_NS = 2_000_000
BURST_NS = 10_000_000
"""As the enforcer gives them."""


def monotonic_ns() -> int:
    """CLOCK_MONOTONIC, which shims and books count by."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Regions:
    """The slices of one device."""

    def __init__(self, runtime: RuntimeDir, device_id: str) -> None:
        self.runtime = runtime
        self.device_id = device_id
        runtime.ensure_device(device_id)
        self._quota = QuotaRegion.create(runtime.quota_path(device_id), device_id)
        create_token(runtime.token_path(device_id), device_id)
        self._generation = 0
        self.beat()

    def close(self) -> None:
        """Unmap them."""
        self._quota.close()

    def beat(self) -> None:
        """An enforcer's heartbeat."""
        self._quota.heartbeat(monotonic_ns())

    def grant(self, slice_id: str, share_pct: float, **changes: Any) -> int:
        """Write the slice's record, in a usage region that is made when it is new; the moment when it was in force (ns)."""
        self._generation += 1
        share_ppm = round(share_pct / 100 * PPM)
        values = {"vram_limit_bytes": 1 << 30, "burst_ns": BURST_NS, "quantum_ns": QUANTUM_NS, "ceiling_ppm": share_ppm} | changes
        limits = Limits(slice_id=slice_id, generation=self._generation, share_ppm=share_ppm, **values)
        index = self._quota.find(slice_id)
        if index is None:
            self.runtime.ensure_slice(slice_id)
            create_usage(self.runtime.usage_path(slice_id, self.device_id), self.device_id, slice_id, os.getuid())
            index = self._quota.free_index()
        assert index is not None
        self.beat()
        self._quota.write(index, limits)
        return monotonic_ns()

    def take_back(self, slice_id: str) -> None:
        """Free the slice's record and remove its usage region; nobody may be attached."""
        index = self._quota.find(slice_id)
        if index is not None:
            self._quota.clear(index)
            self.runtime.usage_path(slice_id, self.device_id).unlink()
