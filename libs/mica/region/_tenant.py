"""A usage region as one of the slice's own processes uses it: through a mapping, like the shims.

For tests, benches and drivers written in Python; services read with ``read_usage``. Invariant: what this object reserved
and did not refund is given back when it closes.
"""

import errno
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mica.region._binding import ffi, lib, require
from mica.region._errors import RegionError
from mica.region._limits import Limits, encode_limits


class TenantRegion:
    """A mapped usage region and one slot of it, held by this process."""

    def __init__(self, path: Path) -> None:
        """Map the region and take a slot.

        Raises:
            RegionError: there is no sound usage region at ``path``, or all its slots are held.
        """
        where = ffi.new("void **")
        require(lib.mica_region_map(bytes(path), lib.MICA_REGION_USAGE, True, where), path, lib.MICA_REGION_USAGE)  # noqa: FBT003 - C
        self._region: Any = ffi.cast("struct mica_usage_region *", where[0])
        self.owner: int = lib.mica_owner_self()
        self.slot: int = lib.mica_slot_claim(self._region, self.owner)
        if self.slot < 0:
            self._unmap()
            raise RegionError(f"{path}: all {lib.MICA_PROCESSES_MAX} slots are held, no process can attach")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the slot and unmap; a second call does nothing."""
        if self._region != ffi.NULL:
            lib.mica_slot_release(self._region, self.slot, self.owner)
            self._unmap()

    def reserve(self, vram_bytes: int, limit_bytes: int) -> bool:
        """Charge ``vram_bytes``; False when the slice would then hold more than ``limit_bytes``.

        Raises:
            RegionError: the amount is absurd.
        """
        charge = ffi.new("struct mica_charge *")
        code = lib.mica_charge_make(self._region, self.slot, lib.MICA_MEMORY_VRAM, vram_bytes, limit_bytes, charge)
        if code not in (0, -errno.ENOMEM):
            raise RegionError(f"reserve {vram_bytes} bytes: allowed are 0 to {lib.MICA_MEMORY_BYTES_MAX} in one process")
        return bool(code == 0)

    def refund(self, vram_bytes: int) -> None:
        """Give ``vram_bytes`` back."""
        charge = ffi.new("struct mica_charge *", {"bytes": vram_bytes, "kind": lib.MICA_MEMORY_VRAM})
        lib.mica_charge_refund(self._region, self.slot, charge)

    def used_bytes(self) -> int:
        """Device memory that the slice's processes hold together."""
        return int(lib.mica_charge_sum(self._region, lib.MICA_MEMORY_VRAM))

    def admit(self, limits: Limits, cost_ns: int, now_ns: int) -> int:
        """Charge a launch and return 0, or return the nanoseconds to wait before asking again."""
        return int(lib.mica_rate_admit(self._region, encode_limits(limits), cost_ns, now_ns))

    def correct(self, limits: Limits, charged_ns: int, actual_ns: int) -> None:
        """Correct a launch's charge to what it took, and count that as used."""
        lib.mica_rate_correct(self._region, encode_limits(limits), charged_ns, actual_ns)

    def _unmap(self) -> None:
        region, self._region = self._region, ffi.NULL
        lib.mica_region_unmap(region, lib.MICA_REGION_USAGE)
