"""Tiles and virtual functions as partitions.

Invariant: tiles are always there, and nothing is switched for them; virtual functions are made and removed together, while nobody
is on the device.
"""

import threading
from contextlib import suppress

from mica.events import Partition
from mica.vendors._port import PartitionInUseError, VendorError
from mica.vendors.intel._functions import Functions
from mica.vendors.intel._places import Places
from mica.vendors.intel._profiles import TILE, TILE_ID, TILES, WHOLE, layout_of, number_of


class Partitions:
    """The partitions of this machine's devices."""

    def __init__(self, functions: Functions, places: Places) -> None:
        self._functions = functions
        self._places = places
        self._lock = threading.Lock()

    def living(self) -> dict[str, tuple[Partition, ...]]:
        """The virtual functions of each device that has some, and the tiles of each that has none. Raises VendorError."""
        found: dict[str, tuple[Partition, ...]] = {}
        for device_id, address in self._places.known():
            partitions = self._functions_of(address) or self._tiles_of(device_id, address)
            if partitions:
                found[device_id] = partitions
        return found

    def name(self, device_id: str, address: str, partition: Partition) -> Partition:
        """The whole device, or a tile: they are there once no virtual functions are. Raises VendorError."""
        self.clear(device_id, address)
        if partition.layout == WHOLE:
            profile, profile_id, size = partition.profile, partition.profile_id, partition.size
            return Partition(profile=profile, profile_id=profile_id, start=0, size=size, uuid=device_id, layout=WHOLE)
        return self._one(device_id, self._tiles_of(device_id, address), partition)

    def lay_out(self, device_id: str, address: str, partition: Partition, vram_bytes: int) -> Partition:
        """A virtual function, one of as many as its layout says, with ``vram_bytes`` each. Raises VendorError."""
        number = number_of(partition.layout)
        with self._lock:
            if len(self._functions.addresses(address)) != number:
                self._make(device_id, address, number, vram_bytes)
        return self._one(device_id, self._functions_of(address), partition)

    def clear(self, device_id: str, address: str) -> None:
        """Remove all virtual functions. Raises PartitionInUseError, VendorError."""
        with self._lock:
            self._clear(device_id, address)

    def _one(self, device_id: str, there: tuple[Partition, ...], wanted: Partition) -> Partition:
        for each in there:
            if each.start == wanted.start and each.layout == wanted.layout:
                return each
        raise VendorError(f"device {device_id}: no {wanted.profile} at {wanted.start}; there are {len(there)} partitions")

    def _functions_of(self, address: str) -> tuple[Partition, ...]:
        there = self._functions.addresses(address)
        layout = layout_of(len(there))
        return tuple(
            Partition(profile=layout, profile_id=len(there), start=start, size=1, uuid=each, layout=layout)
            for start, each in enumerate(there)
        )

    def _tiles_of(self, device_id: str, address: str) -> tuple[Partition, ...]:
        tiles = self._places.identify(address).tiles
        return tuple(
            Partition(profile=TILE, profile_id=TILE_ID, start=tile, size=1, uuid=f"{device_id}.{tile}", layout=TILES)
            for tile in range(tiles if tiles > 1 else 0)
        )

    def _make(self, device_id: str, address: str, number: int, vram_bytes: int) -> None:
        what = f"device {device_id}: make {number} virtual functions"
        refusal = self._functions.refusal(address)
        if refusal:
            raise VendorError(f"{what}: {refusal}")
        self._clear(device_id, address)
        pids = frozenset(pid for pid, _ in self._places.processes(address))
        if pids:
            raise PartitionInUseError(what, pids)
        try:
            self._functions.make(address, number, vram_bytes)
        except VendorError:
            self._abandon(address)
            raise
        there = self._settled(address)
        if len(there) != number:
            self._abandon(address)
            raise VendorError(f"{what}: there were {len(there)} then")
        self._functions.bind(there)

    def _clear(self, device_id: str, address: str) -> None:
        there = self._settled(address)
        if not there:
            return
        what = f"device {device_id}: remove {len(there)} virtual functions"
        pids = frozenset(pid for each in there for pid, _ in self._places.processes(each))
        if pids or any(self._functions.is_set_aside(each) for each in there):
            raise PartitionInUseError(what, pids)
        self._functions.clear(address)
        if self._settled(address):
            raise VendorError(f"{what}: they are still there")

    def _abandon(self, address: str) -> None:
        if self._settled(address):
            with suppress(VendorError):
                self._functions.clear(address)

    def _settled(self, address: str) -> tuple[str, ...]:
        """The functions that are there, once sysman has looked as well."""
        self._places.handles()
        return self._functions.addresses(address)
