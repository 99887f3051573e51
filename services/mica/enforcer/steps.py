"""How one place gets from what is there to what the ledger says.

Everything that decides a step stands in ``next_step``; it is called again after every step until nothing is left to do.
Invariants: the limits of a slice become live only after everything they rest on exists, and nothing a process still holds
is taken away. A crash between any two steps leaves a place from which the same function goes on.
"""

from msgspec import Struct

from mica.enforcer.limits import draining
from mica.enforcer.places import Held, Place
from mica.events import LedgerEntry, Mode, Partition
from mica.region import Limits


class MakeUsage(Struct, frozen=True):
    """Make the usage region for this user."""

    uid: int | None


class WriteRecord(Struct, frozen=True):
    """Put these limits in force."""

    limits: Limits


class FreeRecord(Struct, frozen=True):
    """Take the record back."""


class RemoveUsage(Struct, frozen=True):
    """Remove the usage region."""


class MakePartition(Struct, frozen=True):
    """Make the hardware instance."""

    partition: Partition


class DestroyPartition(Struct, frozen=True):
    """Destroy the hardware instance."""

    partition: Partition


class MakeWhole(Struct, frozen=True):
    """Bring the device back to where it is used whole: no partition of it is left."""


DeviceStep = MakePartition | DestroyPartition | MakeWhole
"""What may take seconds."""
Step = MakeUsage | WriteRecord | FreeRecord | RemoveUsage | DeviceStep


class Wish(Struct, frozen=True):
    """What the ledger wants (None: nothing), its limits, and whether the device has to be made whole for it first."""

    entry: LedgerEntry | None
    target: Limits | None
    carved: bool = False


def next_step(place: Place, wish: Wish, held: Held, *, fence: bool = False) -> Step | None:
    """The next step for ``place``, or None when it is as it should be or must wait for its processes."""
    entry, target = wish.entry, wish.target
    if entry is None or target is None:
        return _towards_nothing(place, held, fence=fence)
    if entry.mode is Mode.HARDWARE and entry.partition is not None:
        if held.partition is None:
            return MakePartition(entry.partition)
        if not same_slots(held.partition, entry.partition):
            return DestroyPartition(held.partition) if held.vacant else None
    elif wish.carved:
        return MakeWhole()
    elif not held.has_usage:
        return MakeUsage(entry.uid)
    return WriteRecord(target) if held.limits != target else None


def _towards_nothing(place: Place, held: Held, *, fence: bool) -> Step | None:
    if held.limits is not None or (held.has_usage and not held.vacant):
        drained = draining(place.slice_id, held, fence=fence)
        if held.limits != drained:
            return WriteRecord(drained)
    if not held.vacant:
        return None
    if held.partition is not None:
        return DestroyPartition(held.partition)
    if held.limits is not None:
        return FreeRecord()
    return RemoveUsage() if held.has_usage else None


def same_slots(one: Partition, other: Partition) -> bool:
    """Whether two partitions are the same instance of the same profile; ids and UUIDs aside."""
    return (one.profile_id, one.start, one.size) == (other.profile_id, other.start, other.size)
