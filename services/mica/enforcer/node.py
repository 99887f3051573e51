"""What the node holds, and the steps that bring it to the ledger.

Owns the in-memory picture of regions and partitions. Invariant: the picture changes only after a port call took effect, so
it never claims more than is there. Region steps run at once; partition steps are queued as jobs, because they may take
seconds.
"""

import logging
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from mica.enforcer.drains import is_known
from mica.enforcer.drift import drift, is_fixed, orphan_at, owners_of
from mica.enforcer.errors import CannotApplyError, PartitionBusyError
from mica.enforcer.jobs import Job, Made, Outcome
from mica.enforcer.limits import BORROWERS, fenced, limits_of, restrained, tightens
from mica.enforcer.places import UNUSED, Failure, Held, Place, is_orphan
from mica.enforcer.placing import NO_PART, Part
from mica.enforcer.ports import Found, Partitions, Regions
from mica.enforcer.steps import (
    DestroyPartition,
    FreeRecord,
    MakePartition,
    MakeUsage,
    MakeWhole,
    RemoveUsage,
    Step,
    Wish,
    WriteRecord,
    next_step,
    same_slots,
)
from mica.enforcer.suspensions import Suspensions
from mica.events import Control, Ledger, LedgerEntry, Mode, Observed, Partition, Tier
from mica.region import Limits
from mica.vendors import NO_ACCESS, Access

STEPS_MAX: Final = 8
"""More steps in a row than any place needs; more would mean that a step does not do what it says."""

_NOTHING: Final = Held()

log = logging.getLogger(__name__)


class Node:
    """The regions and partitions of one node."""

    def __init__(self, regions: Regions, partitions: Partitions) -> None:
        self._regions = regions
        self._partitions = partitions
        self.held: dict[Place, Held] = {}
        self.failed: dict[Place, Failure] = {}
        self.jobs: dict[Place, Job] = {}
        self.restraints: dict[Place, Control] = {}
        """What slices may do beside what the ledger says, because a process of theirs overruns its time."""
        self.borrowers: tuple[Tier, ...] = BORROWERS
        self.parts: dict[Place, Part] = {}
        self.divided: set[str] = set()
        self.stuck: set[Place] = set()
        self.fence = False
        self.fenced: set[Place] = set()
        """Where the lease ran out: a slice that the ledger no longer knows there may be elsewhere, and never runs here again."""
        self.suspensions = Suspensions()
        self.carved: set[str] = set()
        """The devices that are partitioned, as far as is known."""
        self.access: dict[Place, Access] = {}
        self.reach: dict[str, Access] = {}
        """How processes reach the living partitions, and the devices that are used whole."""
        self.jobs_done = 0
        self._settled: dict[str, dict[str, LedgerEntry]] = {}
        self._touched: set[Place] = set()

    def adopt(self, found: Found, living: Mapping[str, Iterable[Partition]], known: tuple[Observed, Ledger]) -> None:
        """Take over what is there after a restart.

        A partition belongs to the slice that was last observed with it, else to the one for which the ledger wants it, else to
        nobody; so does one that was only half made.
        """
        for place in {*found.records, *found.usages}:
            self.held[place] = Held(
                limits=found.records.get(place), has_usage=place in found.usages, reading=self._regions.usage(place)
            )
        self.suspensions.adopt(found.records, known[0])
        owners = list(owners_of(*known))
        for device_id, partitions in living.items():
            for partition in partitions:
                theirs = (place for place, its in owners if place.device_id == device_id and same_slots(its, partition))
                orphan = orphan_at(device_id, partition)
                place = next(theirs, orphan) if partition.uuid else orphan
                if not (is_orphan(place) and is_fixed(device_id, partition)):
                    self.held[place] = replace(self.held.get(place, _NOTHING), partition=partition)
        wanted = {Place(device_id, slice_id) for device_id, slices in known[1].devices.items() for slice_id in slices}
        stopped = {place for place, its in found.records.items() if its.control in (Control.PAUSE, Control.KILL)}
        self.fenced = stopped - wanted
        seen = {Place(device, id_) for device, slices in known[0].devices.items() for id_ in slices}
        self._touched = seen.union(self.held)

    def apply(self, ledger: Ledger, known_devices: Iterable[str], parts: Mapping[Place, Part] | None = None) -> None:
        """Take every step that can be taken now. What leaves goes first, so that what comes finds room.

        ``parts``: what of its device a slice has to itself; a slice that is not in it has none.
        """
        wanted = ledger.devices
        self._take_parts(parts or {})
        for place in [place for place in self.held if place.slice_id not in wanted.get(place.device_id, ())]:
            self._settled.get(place.device_id, {}).pop(place.slice_id, None)
            if place in self.fenced and is_known(ledger, place.slice_id):
                self.fenced.discard(place)
            self._advance(place, None)
        devices = frozenset(known_devices)
        for device_id, entries in wanted.items():
            settled = self._settled.setdefault(device_id, {})
            for slice_id, entry in entries.items():
                if settled.get(slice_id) == entry:
                    continue
                place = Place(device_id, slice_id)
                if device_id not in devices and place not in self.held:
                    self.fail(place, entry.generation, f"device {device_id} is not in this node's inventory")
                elif self._advance(place, entry):
                    settled[slice_id] = entry
        for place in [place for place in self.failed if place.slice_id not in wanted.get(place.device_id, ())]:
            del self.failed[place]
            self._touched.add(place)

    def _take_parts(self, parts: Mapping[Place, Part]) -> None:
        """Note the parts, and whose changed: their records, and what their next process is told, are written anew."""
        if parts == self.parts:
            return
        for place in {*parts, *self.parts}:
            if parts.get(place) != self.parts.get(place):
                self._settled.get(place.device_id, {}).pop(place.slice_id, None)
                self.divided.add(place.slice_id)
        self.parts = dict(parts)

    def limits_at(self, place: Place) -> Limits | None:
        """The record of a place, if it has one."""
        held = self.held.get(place)
        return held.limits if held is not None else None

    def take_divided(self) -> set[str]:
        """The slices whose part of a device has changed since the last call."""
        divided, self.divided = self.divided, set()
        return divided

    def fail(self, place: Place, generation: int, message: str) -> None:
        """The place cannot be given what that generation asks."""
        self.failed[place] = Failure(generation, message)
        self._touched.add(place)

    def set_fence(self, fence: bool) -> None:  # noqa: FBT001 - there is nothing else to say about a fence
        """Let the next ``apply`` write every record anew, fenced or not."""
        self.fence = fence
        self.fenced |= self.held.keys() if fence else set()
        self._settled.clear()

    def take_touched(self) -> set[Place]:
        """The places of which something may have changed since the last call."""
        touched, self._touched = self._touched.union(self.jobs, self.suspensions.take_news()), set()
        return touched

    def holdings(self) -> dict[Place, Held]:
        """What is there or about to be: a partition that is being made takes its slots already."""
        if not self.jobs:
            return self.held
        making = {place: job.step.partition for place, job in self.jobs.items() if isinstance(job.step, MakePartition)}
        return self.held | {place: replace(self.held.get(place, _NOTHING), partition=its) for place, its in making.items()}

    def restrain(self, place: Place, entry: LedgerEntry, control: Control) -> None:
        """Allow a slice no more than ``control``; ``run`` takes it back."""
        if control is self.restraints.get(place, Control.RUN):
            return
        self.restraints[place] = control
        if control is Control.RUN:
            del self.restraints[place]
        self._advance(place, entry)

    def set_borrowers(self, tiers: tuple[Tier, ...]) -> None:
        """Let the next ``apply`` write every record anew, with these tiers as those that may use idle windows."""
        if tiers != self.borrowers:
            self.borrowers = tiers
            self._settled.clear()

    def in_force(self, place: Place, entry: LedgerEntry) -> bool:
        """Whether the place gives what the entry asks, and holds no more than that."""
        held = self.held.get(place)
        if held is None or held.limits is None or held.draining or held.limits.generation != entry.generation:
            return False
        if entry.mode is Mode.HARDWARE and held.partition is None:
            return False
        return self.suspensions.in_force(place, entry, held) and not self.over(place)

    def over(self, place: Place) -> bool:
        """Whether processes still hold more than the limit in force, as after a shrink."""
        held = self.held.get(place)
        return held is not None and held.limits is not None and held.reading.vram_bytes > held.limits.vram_limit_bytes

    def refresh(self, place: Place) -> Held | None:
        """Look at the usage region again; what the place holds now."""
        held = self.held.get(place)
        if held is None or not held.has_usage:
            return held
        reading = self._regions.usage(place)
        if reading != held.reading:
            held = self.held[place] = replace(held, reading=reading)
            self._touched.add(place)
        return held

    def guest_came(self, place: Place, pid: int) -> None:
        """A process is inside a partition."""
        held = self.held.get(place)
        if held is not None:
            self.held[place] = replace(held, guests=held.guests | {pid})

    def guest_left(self, place: Place, pid: int) -> None:
        """A process that was inside a partition is gone."""
        held = self.held.get(place)
        if held is not None and pid in held.guests:
            self.held[place] = replace(held, guests=held.guests - {pid})

    def run_job(self, place: Place, job: Job) -> Outcome:
        """Do one job; runs outside the event loop and touches nothing but the port."""
        try:
            match job.step:
                case MakePartition(partition=partition):
                    return self._make(place.device_id, partition)
                case DestroyPartition(partition=partition):
                    self._partitions.destroy(place.device_id, partition)
                case MakeWhole():
                    self._partitions.make_whole(place.device_id)
        except (CannotApplyError, PartitionBusyError) as error:
            return error
        return None

    def _make(self, device_id: str, partition: Partition) -> Made:
        """A partition that nobody can reach is of no use to anybody."""
        made = self._partitions.create(device_id, partition)
        try:
            return Made(made, self._partitions.access(device_id, made))
        except CannotApplyError:
            with suppress(CannotApplyError, PartitionBusyError):
                self._partitions.destroy(device_id, made)
            raise

    def finish_job(self, place: Place, outcome: Outcome) -> None:
        """Note what became of a job."""
        job = self.jobs.pop(place)
        generation = job.generation
        self.jobs_done += 1
        self._touched.add(place)
        held = self.held.get(place, _NOTHING)
        if isinstance(outcome, PartitionBusyError) and isinstance(job.step, DestroyPartition):
            self.held[place] = replace(held, guests=outcome.pids)
            self.stuck.add(place)
        elif isinstance(outcome, PartitionBusyError):
            strangers = ", ".join(map(str, sorted(outcome.pids)))
            self.fail(place, generation, f"device {place.device_id}: processes of no slice are on it ({strangers})")
            self.stuck.add(place)
        elif isinstance(outcome, CannotApplyError):
            self.fail(place, generation, str(outcome))
            self.stuck.add(place)
        elif isinstance(job.step, MakeWhole):
            self._recarve(place.device_id, carved=False)
        elif isinstance(outcome, Made):
            self._recarve(place.device_id, carved=True)
            self.access[place] = outcome.access
            self.divided.add(place.slice_id)
            self._keep(place, replace(held, partition=outcome.partition))
        else:
            self.access.pop(place, None)
            self._keep(place, replace(held, partition=None))

    def _recarve(self, device_id: str, *, carved: bool) -> None:
        """It is partitioned now, or whole again: others of its vendor may be numbered anew, so that all access is asked for."""
        if (device_id in self.carved) is carved:
            return
        self.carved ^= {device_id}
        self.reach.clear()
        self.access.clear()
        self.divided |= {place.slice_id for place, held in self.held.items() if held.partition is not None}

    def note_carved(self, carved: AbstractSet[str]) -> None:
        """Which devices are partitioned, as the inventory has it; what depends on that is looked at again."""
        for device_id in self.carved ^ carved:
            self._settled.pop(device_id, None)
        self.carved = set(carved)

    def reconcile(self, living: Mapping[str, Iterable[Partition]]) -> None:
        """Take note of what became of the partitions without us.

        A slice's partition that was made anew is adopted; one that is gone is made again; one that nobody wants is an orphan's.
        Only to be called while there is no job, with a list that was read while there was none.
        """
        found = drift(self.held, living)
        for place, partition in found.changed.items():
            log.warning("%s: its partition is %s", place, "gone" if partition is None else f"now {partition.uuid}")
            held = self.held[place]
            self._settled.get(place.device_id, {}).pop(place.slice_id, None)
            self.access.pop(place, None)
            self.divided.add(place.slice_id)
            self._keep(place, replace(held, partition=partition, guests=held.guests if partition is not None else frozenset()))
        for place, partition in found.orphans.items():
            log.warning("device %s: %s at slot %d is nobody's", place.device_id, partition.profile, partition.start)
            self._keep(place, Held(partition=partition))

    def access_at(self, place: Place) -> Access:
        """How a process reaches what the place gives."""
        return self.access.get(place) or self.reach.get(place.device_id, NO_ACCESS)

    def unreached(self) -> dict[Place, Partition]:
        """The slices' living partitions of which nobody has asked yet how a process reaches them."""
        return {
            place: held.partition
            for place, held in self.held.items()
            if held.partition is not None and held.partition.uuid and place not in self.access and not is_orphan(place)
        }

    def _advance(self, place: Place, entry: LedgerEntry | None) -> bool:
        """Step until nothing is left to do here, which is True, or something must be waited for."""
        held = self.held.get(place, _NOTHING)
        if entry is not None and self._has_failed(place, entry):
            if held.limits is not None:
                return False
            entry = None
        if self.suspensions.holds_back(place, entry, held):
            return False
        target = self._target(place, entry) if entry is not None else None
        fence = self.fence or place in self.fenced
        for _ in range(STEPS_MAX):
            step = next_step(place, Wish(entry, target, self._must_be_whole(place)), held, fence=fence)
            if step is None:
                return entry is not None and held.limits == target
            if place in self.jobs:
                return False
            if isinstance(step, MakePartition | DestroyPartition | MakeWhole):
                if place not in self.stuck and not (isinstance(step, MakeWhole) and self._has_partitions(place.device_id)):
                    self.jobs[place] = Job(step, entry.generation if entry is not None else 0)
                return False
            try:
                held = self._take(place, step, held)
            except CannotApplyError as error:
                self.fail(place, entry.generation if entry is not None else 0, str(error))
                return False
            self._keep(place, held)
        raise AssertionError(f"{place}: no end of steps, last {step}")

    def _target(self, place: Place, entry: LedgerEntry) -> Limits:
        """The record that an entry asks for; what stood still because the lease had run out goes on by it."""
        if not self.fence:
            self.fenced.discard(place)
        asked = limits_of(place.slice_id, entry, self.parts.get(place, NO_PART), borrowers=self.borrowers)
        limits = restrained(asked, self.restraints.get(place, Control.RUN))
        return replace(limits, control=fenced(limits.control, entry.tier)) if self.fence else limits

    def _must_be_whole(self, place: Place) -> bool:
        """Whether the device is partitioned, and nobody is on it yet who would have found it so."""
        held = self.held.get(place, _NOTHING)
        return place.device_id in self.carved and held.reading.empty

    def _has_partitions(self, device_id: str) -> bool:
        """Whether some partition of the device is still there: who wants it whole waits for its end."""
        return any(held.partition is not None for place, held in self.held.items() if place.device_id == device_id)

    def _has_failed(self, place: Place, entry: LedgerEntry) -> bool:
        failure = self.failed.get(place)
        return failure is not None and failure.generation == entry.generation

    def _take(self, place: Place, step: Step, held: Held) -> Held:
        match step:
            case MakeUsage(uid=uid):
                return replace(held, has_usage=True, reading=self._regions.make_usage(place, uid))
            case WriteRecord(limits=limits):
                self._regions.write(place, limits)
                reading = self._regions.usage(place) if held.has_usage and tightens(held.limits, limits) else held.reading
                return replace(held, limits=limits, reading=reading)
            case FreeRecord():
                self._regions.free(place)
                return replace(held, limits=None)
            case RemoveUsage():
                self._regions.remove_usage(place)
                return replace(held, has_usage=False, reading=UNUSED)
            case _:
                raise AssertionError(step)

    def _keep(self, place: Place, held: Held) -> None:
        self._touched.add(place)
        if held.gone:
            self.held.pop(place, None)
            self.restraints.pop(place, None)
            self.fenced.discard(place)
            self.suspensions.forget(place)
        else:
            self.held[place] = held
