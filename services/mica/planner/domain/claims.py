"""What the slices of one device claim of it.

Owns the two-sided truth. Invariant: a slice is charged at the largest of what the ledger gives it, what it was given before and
has not confirmed to have left, what is observed, and what a decision under way has reserved; the sums always agree with the
claims.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from enum import IntEnum

from mica.events import Device, LedgerEntry, Mode, ObservedSlice, Partition, Placement, Window
from mica.planner.domain.host_claims import HostClaims
from mica.planner.domain.partitions import Geometry, geometry_of

Source = LedgerEntry | ObservedSlice | Placement


class Side(IntEnum):
    """Where a claim comes from."""

    LEDGER = 0
    HELD = 1
    OBSERVED = 2
    RESERVED = 3


class Claim:
    """What one slice claims of one device, from all sides."""

    __slots__ = ("share_ppm", "sides", "vram_bytes")

    def __init__(self) -> None:
        self.sides: list[Source | None] = [None, None, None, None]
        self.vram_bytes = 0
        self.share_ppm = 0

    def put(self, side: Side, source: Source | None) -> bool:
        """Replace one side; whether anything is left."""
        self.sides[side] = source
        self.vram_bytes = self.share_ppm = 0
        left = False
        for each in self.sides:
            if each is not None:
                left = True
                self.vram_bytes = max(self.vram_bytes, each.vram_bytes)
                self.share_ppm = max(self.share_ppm, each.share_ppm)
        observed = self.sides[Side.OBSERVED]
        if isinstance(observed, ObservedSlice):
            self.vram_bytes = max(self.vram_bytes, observed.vram_used_bytes)
        return left

    @property
    def mode(self) -> Mode:
        """The mode of any side: they agree, since a device is carved in one mode at a time."""
        for side in self.sides:
            if side is not None:
                return side.mode
        raise AssertionError("a claim that nobody makes")

    @property
    def partitions(self) -> Iterator[Partition]:
        """The slots that it covers; two while it moves."""
        return (side.partition for side in self.sides if side is not None and side.partition is not None)

    @property
    def windows(self) -> Iterator[Window]:
        """The windows that it covers; two while one replaces the other."""
        return (side.window for side in self.sides if side is not None and side.window is not None)


class DeviceClaims:
    """One device and who claims what of it. ``device`` is None when the inventory no longer has it."""

    __slots__ = ("_geometry", "_host", "claims", "device", "share_ppm", "vram_bytes")

    def __init__(self, device: Device | None = None, host: HostClaims | None = None) -> None:
        self.device = device
        self._host = host if host is not None else HostClaims()
        self.claims: dict[str, Claim] = {}
        self._geometry: tuple[Device, Geometry] | None = None
        self.vram_bytes = 0
        self.share_ppm = 0

    def put(self, slice_id: str, side: Side, source: Source | None) -> None:
        """Replace one side of one slice's claim; None takes it away."""
        claim = self.claims.get(slice_id)
        if claim is None:
            if source is None:
                return
            claim = self.claims[slice_id] = Claim()
        vram_bytes, share_ppm = claim.vram_bytes, claim.share_ppm
        self._host.put(slice_id, side, claim.sides[side], source)
        if not claim.put(side, source):
            del self.claims[slice_id]
        self.vram_bytes += claim.vram_bytes - vram_bytes
        self.share_ppm += claim.share_ppm - share_ppm

    def without(self, gone: AbstractSet[str], host: HostClaims) -> "DeviceClaims":
        """The same device as it would be if those slices were not there, on a node of which ``host`` is claimed."""
        left = DeviceClaims(self.device, host)
        left._geometry = self._geometry
        for id_, claim in self.claims.items():
            if id_ not in gone:
                for side in Side:
                    left.put(id_, side, claim.sides[side])
        return left

    def geometry(self, device: Device) -> Geometry:
        """What the device's profiles allow; worked out again when the inventory has changed."""
        if self._geometry is None or self._geometry[0] is not device:
            self._geometry = (device, geometry_of(device))
        return self._geometry[1]

    def entries(self) -> Iterator[tuple[str, LedgerEntry]]:
        """What the ledger gives, as it is or is about to be written, by slice."""
        for id_, claim in self.claims.items():
            entry = claim.sides[Side.LEDGER]
            if isinstance(entry, LedgerEntry):
                yield id_, entry

    def others(self, slice_id: str) -> Iterator[Claim]:
        """The claims of everybody else."""
        return (claim for id_, claim in self.claims.items() if id_ != slice_id)

    def used(self, slice_id: str) -> tuple[int, int]:
        """VRAM (bytes) and compute (ppm) that everybody else claims."""
        own = self.claims.get(slice_id)
        if own is None:
            return self.vram_bytes, self.share_ppm
        return self.vram_bytes - own.vram_bytes, self.share_ppm - own.share_ppm

    def mode(self, slice_id: str) -> Mode | None:
        """How the device is carved for everybody else; None when it is empty."""
        for id_, claim in self.claims.items():
            if id_ != slice_id:
                return claim.mode
        return None
