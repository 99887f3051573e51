"""What a node holds: the words of the enforcer's domain.

Owns the types that the pure modules and the ports share. Invariant: values only; nothing here touches the world.
"""

from typing import Final, NamedTuple

from msgspec import Struct

from mica.events import Partition, Window
from mica.region import Limits, SliceState


class Place(NamedTuple):
    """One slice on one device."""

    device_id: str
    slice_id: str


class Holder(NamedTuple):
    """A held process slot: its index and its owner word."""

    slot: int
    owner: int


class Reading(Struct, frozen=True):
    """One look at a usage region: memory held now, device time so far, who holds slots, and when one last waited to launch."""

    vram_bytes: int = 0
    gpu_ns: int = 0
    holders: tuple[Holder, ...] = ()
    waiting_ns: int = 0

    @property
    def empty(self) -> bool:
        """Whether no process and no byte is left."""
        return not self.holders and not self.vram_bytes


UNUSED: Final = Reading()


class Work(Struct, frozen=True):
    """What a process has on a device: launches so far, and those not known to be finished.

    ``stuck_ns``: when work was submitted that should have ended long ago and has not (monotonic; 0: none).
    """

    launches: int = 0
    inflight: int = 0
    stuck_ns: int = 0


class Failure(Struct, frozen=True):
    """Why a place could not be given what generation ``generation`` asks."""

    generation: int
    message: str


class Held(Struct, frozen=True, kw_only=True):
    """What is really there for one place.

    ``limits`` is the record, ``has_usage`` whether the usage region exists, ``partition`` the living hardware
    instance, ``reading`` the last look at the usage region, ``guests`` the processes of a partition.
    """

    limits: Limits | None = None
    has_usage: bool = False
    partition: Partition | None = None
    reading: Reading = UNUSED
    guests: frozenset[int] = frozenset()

    @property
    def vacant(self) -> bool:
        """Whether no process and no byte is left."""
        return self.reading.empty and not self.guests

    @property
    def draining(self) -> bool:
        """Whether the record lets nothing new in."""
        return self.limits is not None and self.limits.state is SliceState.DRAINING

    @property
    def gone(self) -> bool:
        """Whether nothing at all is there."""
        return self.limits is None and not self.has_usage and self.partition is None


def window_of(limits: Limits) -> Window | None:
    """The time slice in a record, if it has one."""
    if limits.window_period_ns == 0:
        return None
    return Window(offset_ns=limits.window_offset_ns, length_ns=limits.window_length_ns, period_ns=limits.window_period_ns)


def is_orphan(place: Place) -> bool:
    """Whether the place stands for a partition that belongs to no slice. No slice id contains a colon."""
    return place.slice_id.startswith(":")
