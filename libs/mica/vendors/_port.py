"""What mica asks of a vendor's library. Invariant: every failure of a library comes out as one ``VendorError``.

A new vendor is one file with a ``VendorDriver`` in it, a row in ``OPENERS`` and a file of the catalogue
(docs/guides/vendors.md).
"""

import logging
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from enum import IntEnum

from msgspec import Struct

from mica.events import Device, Link, Partition, Severity

log = logging.getLogger(__name__)


class VendorError(Exception):
    """A vendor's library failed; the message says which call, on what, and what the library answered."""


class VendorAbsentError(VendorError):
    """This machine has no such library, or no driver behind it."""


class PartitionInUseError(VendorError):
    """A partition or a device can not be changed while processes are on it; ``pids`` are the host's, as far as they are known."""

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


class Finding(Struct, frozen=True, kw_only=True):
    """Something that happened to a device. ``kind`` and ``code``: as in ``NodeHealthChanged``.

    ``lasting``: it stays so until somebody mends it, or the library no longer says it; else it is over as it is told. What is
    fatal and not lasting keeps the device failed until a finding of kind ``reset``, the next boot, or an operator's word.
    """

    device_id: str
    kind: str
    severity: Severity
    message: str
    code: int = 0
    lasting: bool = False


class Access(Struct, frozen=True, kw_only=True):
    """What a process needs to reach a device or a partition.

    ``visible``: variables that list devices, and this one's word in each. ``env``: other variables, the same for all devices
    of a slice. ``devices``: device nodes of the host, ``mounts``: paths of it, both needed in a container. ``cdi``: its
    qualified CDI name.
    """

    visible: Mapping[str, str] = {}
    env: Mapping[str, str] = {}
    devices: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    cdi: str = ""


NO_ACCESS = Access()
"""Nothing is known, or nothing is needed."""


class ProcessStage(IntEnum):
    """How far a process is suspended. The numbers are CUDA's."""

    RUNNING = 0
    LOCKED = 1
    """Its calls to the driver wait; nothing of it runs on a device."""
    AWAY = 2
    """What it had on devices is in the host's memory."""
    BROKEN = 3
    """It was in a state that can not be undone when something went wrong, and is of no use any more."""


class NoSuchProcessError(VendorError):
    """The driver does not know the process: it is gone, or has never used a device."""


class Checkpointer(ABC):
    """Suspends processes, and brings them back; every call is about a process by the host's pid, from outside of it.

    The order is lock, take away, bring back, unlock. Calls block for as long as the driver does: keep them off the event loop.
    All of them raise NoSuchProcessError or VendorError; the process is then at the stage at which it was, or broken.
    """

    @abstractmethod
    def stage(self, pid: int) -> ProcessStage:
        """How far the process is."""

    @abstractmethod
    def lock(self, pid: int, within_ms: int) -> None:
        """Hold its calls and let its work finish; VendorError when that takes longer, and nothing is held."""

    @abstractmethod
    def take_away(self, pid: int) -> None:
        """Copy its device memory to the host and give up the devices; of a locked process."""

    @abstractmethod
    def bring_back(self, pid: int) -> None:
        """Take the devices again and copy the memory back; VendorError where there is no room, and it stays away."""

    @abstractmethod
    def unlock(self, pid: int) -> None:
        """Let its calls go on; of a locked process."""


class VendorDriver(ABC):
    """The devices that one library reads and partitions. Calls block for as long as it does: keep them off the event loop.

    What concerns one device alone (``describe``, ``sample``, ``findings``) is called from a thread of its own, so that a
    device that hangs delays no other; a library that is not safe for that takes a lock itself.
    """

    name: str
    """The library's; a vendor's own library has the vendor's."""

    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """The library's own names of what it has, in its order; quick, and nothing is asked of a device.

        Raises:
            VendorError: the library as a whole does not answer.
        """

    @abstractmethod
    def describe(self, key: str) -> Device:
        """What the device is, what it offers, and how it is partitioned now.

        Raises:
            VendorError: it does not answer, or what it answers makes no sense.
        """

    @abstractmethod
    def sample(self, device_id: str) -> DeviceReading:
        """Counters of a device, or of a hardware partition by its own UUID.

        Raises:
            VendorError: no such device, or it does not answer.
        """

    @abstractmethod
    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        """Process id (the host's) and VRAM in bytes of each process with a context on the device or partition.

        Raises:
            VendorError: no such device, or it does not answer.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the library; calling it twice is no error."""

    def devices(self) -> tuple[Device, ...]:
        """The devices that can be read, in the library's order; one that cannot is left out with a warning, once per cause.

        Raises:
            VendorError: the library as a whole does not answer.
        """
        found: list[Device] = []
        complaints: set[str] = set()
        for key in self.keys():
            try:
                found.append(self.describe(key))
            except VendorError as error:
                complaints.add(str(error))
        for complaint in complaints - self._complaints:
            log.warning("%s; the device is left out", complaint)
        self._complaints = frozenset(complaints)
        return tuple(found)

    _complaints: frozenset[str] = frozenset()

    def links(self) -> tuple[Link, ...]:
        """How the devices reach each other without the host.

        Raises:
            VendorError: the library does not answer.
        """
        return ()

    def findings(self, device_id: str) -> tuple[Finding, ...]:
        """What happened to the device since the last call, and what is wrong with it now; never waits for something to happen.

        Raises:
            VendorError: no such device, or it does not answer.
        """
        del device_id
        return ()

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The partitions of every device that is partitioned, by device id; one without a UUID was only half made.

        A device that does not answer has what it had: silence is no reason to take a slice's partition for gone.

        Raises:
            VendorError: the library does not answer.
        """
        return {}

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Make the partition at its exact slots and everything a process needs inside; the same one with its UUID.

        A device that nobody uses is switched or laid out for it first. One of a layout that is there already is just named.

        Raises:
            PartitionInUseError: processes are where the device would have to change.
            VendorError: the device refuses; nothing is left half made.
        """
        raise VendorError(f"device {device_id}: {self.name} makes no partitions, asked for {partition.profile}")

    def destroy(self, device_id: str, partition: Partition) -> None:
        """Destroy the partition of that profile and start; one that does not exist, or that is of a layout, is no error.

        Raises:
            PartitionInUseError: processes are inside.
            VendorError: the device refuses for another reason.
        """
        del device_id, partition

    def make_whole(self, device_id: str) -> None:
        """Bring a device without partitions in use back to where it can be used whole; one that is, is no error.

        Raises:
            PartitionInUseError: processes are on it.
            VendorError: the device refuses.
        """
        del device_id

    def access(self, device_id: str, partition: Partition | None) -> Access:
        """How a process reaches the device, or the living partition of it.

        Raises:
            VendorError: no such device, or it does not answer.
        """
        raise VendorError(f"device {device_id}: {self.name} gives no access to {partition.uuid if partition else 'it'}")

    def checkpointer(self) -> Checkpointer:
        """What suspends processes that use this library's devices.

        Raises:
            VendorError: nothing does; the message says why.
        """
        raise VendorError(f"{self.name}: no driver of it suspends processes")

    def terminate(self, device_id: str, pid: int) -> None:
        """End a process on the device. One that is gone is no error.

        Raises:
            VendorError: it can not be ended.
        """
        try:
            with suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                try:
                    if any(pid == each for each, _ in self.compute_processes(device_id)):
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise VendorError(f"process {pid} on {device_id}: {error.strerror}") from None
