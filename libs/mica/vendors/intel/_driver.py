"""Reads and partitions Intel devices. Invariant: what sysman does not answer is left at its honest default, never made up."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from mica.events import Device, Link, Partition, Runtime, Vendor
from mica.hardware import Catalogue
from mica.vendors._port import Access, DeviceReading, Finding, VendorDriver, VendorError
from mica.vendors.intel._access import access_to
from mica.vendors.intel._findings import errors, heard, register, states
from mica.vendors.intel._functions import Functions
from mica.vendors.intel._library import Sysman, simulated
from mica.vendors.intel._links import links
from mica.vendors.intel._meters import Meters
from mica.vendors.intel._partitions import Partitions
from mica.vendors.intel._places import Places
from mica.vendors.intel._profiles import SLICES, Offer, number_of, oddities, partition_profiles
from mica.vendors.intel._reading import Identity, memory, temperature_c

RUNTIMES: Final = (Runtime.LEVEL_ZERO,)


class IntelDriver(VendorDriver):
    """The Intel devices of this machine, or of the simulated node.

    Raises:
        VendorAbsentError: no Level Zero here, or no driver behind it.
        VendorError: it is here and does not start.
    """

    name = "intel"

    def __init__(self, library: Any = None, functions: Functions | None = None) -> None:
        self._sysman = Sysman(library)
        self._functions = functions or Functions()
        self._places = Places(self._sysman, self._functions)
        self._partitions = Partitions(self._functions, self._places)
        self._meters = Meters()
        self._listening: set[str] = set()

    def keys(self) -> tuple[str, ...]:
        """PCI addresses."""
        return self._places.keys()

    def describe(self, key: str) -> Device:
        """The device at that PCI address."""
        what = self._places.identify(key, anew=True)
        handle = self._places.handle(key)
        if key not in self._listening and register(self._sysman, handle):
            self._listening.add(key)
        vram_bytes = memory(self._sysman, handle).total
        if not vram_bytes:
            raise VendorError(f"device {what.uuid or key}: it says nothing of its memory")
        return self._read(key, what, vram_bytes)

    def sample(self, device_id: str) -> DeviceReading:
        """Counters of a device, a tile (memory only) or a virtual function to which the host's driver is bound."""
        address, tile = self._places.locate(device_id)
        handle = self._places.handle(address)
        space = memory(self._sysman, handle, tile)
        if tile is not None:
            return DeviceReading(vram_used_bytes=space.used, vram_total_bytes=space.total)
        heat = temperature_c(self._sysman, handle)
        return DeviceReading(
            vram_used_bytes=space.used,
            vram_total_bytes=space.total,
            utilisation_ppm=self._meters.utilisation_ppm(self._sysman, address, handle),
            power_mw=self._meters.power_mw(self._sysman, address, handle),
            temperature_c=None if heat is None else heat[0],
        )

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        """Who is on the device and its virtual functions, or on one of these."""
        address, tile = self._places.locate(device_id)
        if tile is not None:
            raise VendorError(f"{device_id}: sysman does not tell on which tile a process is")
        found: dict[int, int] = {}
        for place in (address, *self._functions.addresses(address)):
            for pid, used in self._places.processes(place):
                found[pid] = found.get(pid, 0) + used
        return list(found.items())

    def links(self) -> tuple[Link, ...]:
        """Xe Link."""
        handles = self._places.handles()
        known = {device_id: handles[address] for device_id, address in self._places.known() if address in handles}
        return links(self._sysman, known)

    def findings(self, device_id: str) -> tuple[Finding, ...]:
        """Sysman's events, what is wrong with the device now, and errors that are new."""
        address, _ = self._places.locate(device_id)
        handle = self._places.handle(address)
        events = tuple(heard(self._sysman, handle, device_id)) if address in self._listening else ()
        new = errors(self._sysman, self._meters, (address, handle), device_id)
        return (*events, *states(self._sysman, handle, device_id), *new)

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The virtual functions of each device that has some, and the tiles of each that has none."""
        return self._partitions.living()

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Name a tile or the whole device, or make the virtual functions that the layout asks for."""
        address, _ = self._places.locate(device_id)
        if not number_of(partition.layout):
            return self._partitions.name(device_id, address, partition)
        offered = {each.layout: each.vram_bytes for each in self.describe(address).profiles}
        if partition.layout not in offered:
            refusal = self._functions.refusal(address) or f"offered are {', '.join(offered)}"
            raise VendorError(f"device {device_id}: no layout {partition.layout}: {refusal}")
        return self._partitions.lay_out(device_id, address, partition, offered[partition.layout])

    def make_whole(self, device_id: str) -> None:
        """Remove its virtual functions."""
        address, _ = self._places.locate(device_id)
        self._partitions.clear(device_id, address)

    def access(self, device_id: str, partition: Partition | None) -> Access:
        """By its place among the devices; a virtual function that is set aside for a virtual machine by its VFIO nodes."""
        address, tile = self._places.locate(partition.uuid if partition is not None else device_id)
        own = self._functions.vfio_nodes(address)
        if own:
            return Access(devices=own)
        there = [each for each in self._places.handles() if not each.startswith("#")]
        if address not in there:
            raise VendorError(f"device {device_id}: {address} can not be reached, the host's driver is not bound to it")
        device = self._functions.pci_device_id(address)
        return access_to(address, there, self._functions.nodes(address), pci_device_id=device, tile=tile)

    def close(self) -> None:
        """Nothing is held: sysman has no end."""

    def _read(self, address: str, what: Identity, vram_bytes: int) -> Device:
        most, refusal = self._functions.most(address), self._functions.refusal(address)
        living = len(self._functions.addresses(address))
        model = Catalogue.load().by_pci(Vendor.INTEL, what.pci_device_id, vram_bytes)
        cores = what.cores or (model.multiprocessors if model is not None else 0)
        able = 0 if refusal else most
        offer = Offer(vram_bytes=vram_bytes, cores=cores, tiles=what.tiles, functions=able, living=living, model=model)
        expected = most or (model is not None and any(number_of(each.layout) for each in model.profiles))
        return Device(
            id=what.uuid or address,
            index=self._index(address),
            vendor=Vendor.INTEL,
            model=what.model or (model.name if model is not None else f"Intel {what.pci_device_id:#06x}"),
            vram_bytes=vram_bytes,
            multiprocessors=cores,
            partitioned=living > 0,
            profiles=partition_profiles(offer),
            compute_slices=SLICES,
            runtimes=RUNTIMES,
            pci_bus_id=address,
            numa_node=self._functions.numa_node(address),
            simulated=simulated(),
            switchable=not (living and refusal),
            hardware_refusal=f"no virtual functions: {refusal}" if refusal and expected else "",
            warnings=oddities(offer, most, what.pci_device_id),
        )

    def _index(self, address: str) -> int:
        with suppress(ValueError):
            return self.keys().index(address)
        return 0
