"""What mica asks of a vendor's library. Invariant: every failure of a library comes out as one ``VendorError``."""

from typing import Protocol

from msgspec import Struct

from mica.events import Device, Vendor


class VendorError(Exception):
    """A vendor's library failed; the message says which call, on what, and what the library answered."""


class VendorAbsentError(VendorError):
    """This machine has no such library, or no driver behind it."""


class DeviceReading(Struct, frozen=True, kw_only=True):
    """A device's counters at one moment. ``None`` where the library does not measure it."""

    vram_used_bytes: int
    vram_total_bytes: int
    utilisation_ppm: int | None = None
    power_mw: int | None = None
    temperature_c: int | None = None


class VendorDriver(Protocol):
    """One vendor's devices. Calls block for as long as the library does: keep them off the event loop."""

    @property
    def vendor(self) -> Vendor: ...

    def devices(self) -> tuple[Device, ...]:
        """The devices that can be read, in the library's order; one that cannot is left out with a warning.

        Raises:
            VendorError: the library as a whole does not answer.
        """

    def sample(self, device_id: str) -> DeviceReading:
        """Counters of a device, or of a hardware partition by its own UUID.

        Raises:
            VendorError: no such device, or it does not answer.
        """

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        """Process id (the host's) and VRAM in bytes of each process with a context on the device or partition.

        Raises:
            VendorError: no such device, or it does not answer.
        """

    def close(self) -> None:
        """Let go of the library; calling it twice is no error."""
