"""By what names mica knows devices, tiles and virtual functions, and where sysman has them.

A whole device has its UUID (its PCI address without one), a tile ``<device>.<tile>``, a virtual function its PCI address.
Invariant: what a device is, is asked once, unless it is described anew: a device that hangs delays only who asks for it.
"""

from collections.abc import Iterator
from contextlib import suppress

from mica.vendors._port import VendorError
from mica.vendors.intel._functions import Functions, is_address
from mica.vendors.intel._library import Handle, Sysman
from mica.vendors.intel._reading import Identity, identity, pci_address, processes


class Places:
    """The devices that sysman shows. Used from many threads: its notes are replaced item by item."""

    def __init__(self, sysman: Sysman, functions: Functions) -> None:
        self._sysman = sysman
        self._functions = functions
        self._identities: dict[str, Identity] = {}

    def handles(self) -> dict[str, int]:
        """All devices, by PCI address; one without an address by its number, to be asked again. Raises VendorError."""
        found: dict[str, int] = {}
        for driver in self._sysman.drivers:
            for handle in self._sysman.enumerate("zesDeviceGet", Handle(driver)):
                try:
                    found[pci_address(self._sysman, handle)] = handle
                except VendorError:
                    found[f"#{len(found)}"] = handle
        return found

    def handle(self, key: str) -> int:
        """Of the device at that PCI address. Raises VendorError."""
        try:
            return self.handles()[key]
        except KeyError:
            raise VendorError(f"{key}: sysman shows no such device") from None

    def keys(self) -> tuple[str, ...]:
        """PCI addresses; virtual functions of other devices are left out. Raises VendorError."""
        return tuple(key for key in self.handles() if not self._functions.is_function(key))

    def identify(self, address: str, *, anew: bool = False) -> Identity:
        """What the device is. Raises VendorError."""
        if anew or address not in self._identities:
            handle = self.handle(address)
            if not is_address(address):
                pci_address(self._sysman, handle)
            self._identities[address] = identity(self._sysman, handle)
        return self._identities[address]

    def known(self) -> Iterator[tuple[str, str]]:
        """Id and PCI address of every device that can be told. Raises VendorError."""
        for key in self.keys():
            with suppress(VendorError):
                yield self.identify(key).uuid or key, key

    def locate(self, name: str) -> tuple[str, int | None]:
        """PCI address and tile of what is called so. Raises VendorError."""
        if is_address(name):
            return name, None
        known = {what.uuid: address for address, what in self._identities.copy().items()}
        device_id, _, tile = name.rpartition(".")
        if name not in known and device_id not in known:
            known = dict(self.known())
        if name in known:
            return known[name], None
        if device_id in known and tile.isdecimal():
            return known[device_id], int(tile)
        raise VendorError(f"device {name}: sysman lists no such device")

    def processes(self, address: str) -> list[tuple[int, int]]:
        """On that function alone; none where the host's driver is not bound to it. Raises VendorError."""
        handle = self.handles().get(address)
        return processes(self._sysman, handle) if handle is not None else []
