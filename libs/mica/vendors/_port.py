"""What mica asks of a vendor's library. Invariant: every failure of a library comes out as one ``VendorError``."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from mica.events import Device, Partition


class VendorError(Exception):
    """A vendor's library failed; the message says which call, on what, and what the library answered."""


class VendorAbsentError(VendorError):
    """This machine has no such library, or no driver behind it."""


class PartitionInUseError(VendorError):
    """A partition can not be destroyed while processes are inside; ``pids`` are the host's, as far as they are known."""

    def __init__(self, what: str, pids: frozenset[int]) -> None:
        self.pids = pids
        super().__init__(f"{what}: in use by {len(pids)} processes")


class DeviceReading(Struct, frozen=True, kw_only=True):
    """A device's counters at one moment. ``None`` where the library does not measure it."""

    vram_used_bytes: int
    vram_total_bytes: int
    utilisation_ppm: int | None = None
    power_mw: int | None = None
    temperature_c: int | None = None


class VendorDriver(Protocol):
    """The devices that one library reads. Calls block for as long as the library does: keep them off the event loop."""

    @property
    def name(self) -> str:
        """The library's; a vendor's own library has the vendor's."""

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


class PartitionDriver(Protocol):
    """Hardware partitions of one vendor's devices. Calls may block for seconds: keep them off the event loop."""

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The partitions of every device that is partitioned, by device id; one without a UUID was only half made.

        Raises:
            VendorError: the library does not answer.
        """

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Make the partition at its exact slots and everything a process needs inside; the same one with its UUID.

        Raises:
            VendorError: the device refuses; nothing is left half made.
        """

    def destroy(self, device_id: str, partition: Partition) -> None:
        """Destroy the partition of that profile and start; one that does not exist is no error.

        Raises:
            PartitionInUseError: processes are inside.
            VendorError: the device refuses for another reason.
        """

    def close(self) -> None:
        """Let go of the library; calling it twice is no error."""
