"""What the enforcer asks of its node. Invariant: a call that returned has taken effect; one that raised may have in part."""

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from mica.enforcer.places import Holder, Place, Reading, Work
from mica.events import Partition
from mica.region import Limits
from mica.vendors import Access, Checkpointer


class Found(Struct, frozen=True):
    """What the regions held when they were opened: live records, and usage regions (with or without one)."""

    records: Mapping[Place, Limits]
    usages: frozenset[Place]


class Regions(Protocol):
    """The shared memory of this node. All calls are short and do not block."""

    def adopt(self) -> Found:
        """Open what is on disk. Half-written records are freed, files of another boot or of no use are replaced.

        Raises:
            EnforcerError: the runtime directory cannot be used at all.
        """

    def make_usage(self, place: Place, uid: int | None) -> Reading:
        """Make the usage region, owned by ``uid`` (None: the enforcer's own). What exists is kept, and read.

        Raises:
            CannotApplyError: the file cannot be made or given to that user.
        """

    def write(self, place: Place, limits: Limits) -> None:
        """Write the slice's record, in a region that is made when it is missing; readers see all of it or none.

        Raises:
            CannotApplyError: every record of the device is taken.
        """

    def free(self, place: Place) -> None:
        """Free the slice's record. A slice without one is no error."""

    def remove_usage(self, place: Place) -> None:
        """Remove the usage region. One that does not exist is no error."""

    def usage(self, place: Place) -> Reading:
        """What the slice's processes hold now; nothing when the file is missing or damaged."""

    def charges(self, place: Place) -> Mapping[Holder, int]:
        """The device memory that each process of the slice has charged, in bytes; nothing when the file is missing or damaged."""

    def work(self, place: Place) -> Mapping[Holder, Work]:
        """What each process of the slice has on the device; nothing when the file is missing or damaged."""

    def reclaim(self, place: Place, slot: int, owner: int) -> bool:
        """Free a dead owner's slot, once. False when it is not held by that owner any more."""

    def heartbeat(self, now_ns: int) -> None:
        """Stamp every quota region with CLOCK_MONOTONIC ``now_ns``."""

    def write_attach(self, slice_id: str, document: bytes) -> None:
        """Replace the slice's ``attach.json`` whole.

        Raises:
            CannotApplyError: the file cannot be written.
        """

    def remove_slice(self, slice_id: str) -> None:
        """Remove ``attach.json`` and the slice's directory, when no usage region is left in it."""

    def slices(self) -> frozenset[str]:
        """The slices that have a directory."""


class Partitions(Protocol):
    """The hardware partitions of this node. Calls may block for seconds: they run outside the event loop."""

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The partitions of every device that has some, with their UUIDs."""

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Make the instance at its exact slots; the same partition with its UUID.

        Raises:
            CannotApplyError: the device refuses.
        """

    def destroy(self, device_id: str, partition: Partition) -> None:
        """Destroy the instance; one that does not exist, or that is of a layout, is no error.

        Raises:
            PartitionBusyError: processes are inside.
            CannotApplyError: the device refuses for another reason.
        """

    def make_whole(self, device_id: str) -> None:
        """Bring a device without partitions in use back to where it is used whole; one that is, is no error.

        Raises:
            PartitionBusyError: processes are on it.
            CannotApplyError: the device refuses.
        """

    def access(self, device_id: str, partition: Partition | None) -> Access:
        """How a process reaches the device, or the living partition of it.

        Raises:
            CannotApplyError: the device does not answer.
        """


class Checkpoints(Protocol):
    """What suspends the processes on this node's devices."""

    def on(self, device_id: str) -> Checkpointer:
        """What suspends processes that use the device. May block.

        Raises:
            CannotApplyError: nothing does; the message says why.
        """


class Occupants(Protocol):
    """Who is on a device, as the vendor's library sees it. Calls may block: they run outside the event loop."""

    def on(self, device_id: str) -> Mapping[int, int]:
        """VRAM in bytes by the host's pid; nothing where the library does not say."""


class Process(Protocol):
    """A living process, held by a descriptor that no other process can take over."""

    @property
    def pid(self) -> int:
        """The host's process id."""

    def on_exit(self, callback: Callable[[], None]) -> None:
        """Call back once, from the event loop, when the process is gone."""

    def signal(self, number: int) -> bool:
        """Send a signal; whether it was taken. A process that is gone, or out of our reach, is no error."""

    def close(self) -> None:
        """Let go of the descriptor; no callback comes after that."""


class Identity(Struct, frozen=True):
    """Who a process is: when it started (clock ticks since boot), and its ancestors' pids, nearest first.

    ``of_node``: it is one of the node's own, the enforcer's ancestors and the vendors' daemons among them.
    """

    started: int
    ancestors: tuple[int, ...] = ()
    of_node: bool = False


class Processes(Protocol):
    """The processes of this node."""

    def identify(self, pid: int) -> Identity | None:
        """Who has the host's ``pid`` now, or None when nobody has."""

    def open_owner(self, place: Place, owner: int, hint: int) -> Process | None:
        """The process behind an owner word: ``hint`` (a host pid, or 0) if it is, else found by a scan. None: it is gone."""

    def open_pid(self, pid: int) -> Process | None:
        """The process with the host's ``pid``, or None when it is gone."""
