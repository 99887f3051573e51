"""The watch over whose work stays on a device: what ``overruns`` decides, done.

Owns where each process stands. Invariant: a process is ended through its descriptor, and only while its slot says that its work
is still there; what restrains a slice is taken back when its last such process has gone or climbed down.
"""

import logging
import signal
from typing import Final

from msgspec import Struct

from mica.enforcer.attachments import NO_SLOT, Attachments
from mica.enforcer.limits import quantum_ns
from mica.enforcer.node import Node
from mica.enforcer.overruns import Climb, Progress, Who, advance, longest, progress, strictest, terms_of
from mica.enforcer.places import Place
from mica.enforcer.voice import Voice
from mica.enforcer.world import World
from mica.events import Control, Ledger, LedgerEntry, Mode, Overruns, OverrunStep, SliceOverran

LOOK_S: Final = 0.1
"""How often time-sliced devices are looked at while processes are on them; the others are at every heartbeat."""

log = logging.getLogger(__name__)


class Judged(Struct, frozen=True):
    """A process, where it stood and where it stands, and what its work has taken of what it may (ns)."""

    who: Who
    before: Climb
    after: Climb
    ran_ns: int
    allowed_ns: int


class Turns:
    """One node's watch."""

    def __init__(self, world: World, voice: Voice, node: Node, attachments: Attachments) -> None:
        self._world = world
        self._voice = voice
        self._node = node
        self._attachments = attachments
        self._progress: dict[Who, Progress] = {}
        self._longest: dict[str, tuple[Who, int]] = {}
        self._climbs: dict[Who, Climb] = {}

    def look(self, ledger: Ledger, policy: Overruns, *, timeslice: bool) -> bool:
        """Judge the processes of one kind of device, and do what follows; whether there were any."""
        entries = {
            place: entry
            for place in self._attachments.places()
            for entry in [ledger.devices.get(place.device_id, {}).get(place.slice_id)]
            if entry is not None and entry.mode is not Mode.HARDWARE and (entry.mode is Mode.TIMESLICE) is timeslice
            if not self._is_away(place, entry)
        }
        now_ns = self._world.clock.monotonic_ns()
        found = self._found(entries, now_ns)
        for device_id in {place.device_id for place in entries}:
            self._name_longest(device_id, found, now_ns)
        for who in found:
            judged = self._judge(who, entries[who.place], policy, now_ns)
            if judged.after.step is not judged.before.step:
                self._tell(judged, entries[who.place])
            if judged.after.step is OverrunStep.TERMINATED and judged.after.over:
                self._attachments.signal_one(who.place, who.holder, signal.SIGKILL)
        self._restrain(entries, found, ledger)
        return bool(entries)

    def _is_away(self, place: Place, entry: LedgerEntry) -> bool:
        """Whether the slice is suspended, or on its way there or back: its processes can't say then that their work has ended."""
        limits = self._node.limits_at(place)
        away = entry.suspended or (limits is not None and limits.control is Control.SUSPEND)
        if away:
            for who in [who for who in self._progress if who.place == place]:
                del self._progress[who]
        return away

    def _found(self, entries: dict[Place, LedgerEntry], now_ns: int) -> dict[Who, Progress]:
        """What every process has on its device; what is known of those that are gone is forgotten."""
        known = {Who(place, holder) for place in self._attachments.places() for holder in self._attachments.holders(place)}
        for gone in [who for who in {*self._progress, *self._climbs} if who not in known]:
            self._progress.pop(gone, None)
            self._climbs.pop(gone, None)
        found = {
            Who(place, holder): progress(work, self._progress.get(Who(place, holder)), now_ns)
            for place in entries
            for holder, work in self._world.regions.work(place).items()
            if Who(place, holder) in known and holder.slot != NO_SLOT
        }
        self._progress |= found
        return found

    def _name_longest(self, device_id: str, found: dict[Who, Progress], now_ns: int) -> None:
        here = {who: its for who, its in found.items() if who.place.device_id == device_id}
        first = longest(here, self._longest.get(device_id), now_ns)
        if first is None:
            self._longest.pop(device_id, None)
        else:
            self._longest[device_id] = first

    def _judge(self, who: Who, entry: LedgerEntry, policy: Overruns, now_ns: int) -> Judged:
        first, since_ns = self._longest.get(who.place.device_id, (None, 0))
        ran_ns = now_ns - since_ns if first == who else 0
        terms = terms_of(entry, quantum_ns(entry), policy)
        before = self._climbs.get(who, Climb())
        after = self._climbs[who] = advance(before, ran_ns, terms, now_ns)
        return Judged(who, before, after, ran_ns, terms.allowed_ns)

    def _restrain(self, entries: dict[Place, LedgerEntry], found: dict[Who, Progress], ledger: Ledger) -> None:
        steps: dict[Place, list[OverrunStep]] = {}
        for who in found:
            steps.setdefault(who.place, []).append(self._climbs[who].step)
        for place, its in steps.items():
            self._node.restrain(place, entries[place], strictest(its))
        deserted = self._node.restraints.keys() - set(self._attachments.places())
        for place in deserted:
            entry = ledger.devices.get(place.device_id, {}).get(place.slice_id)
            if entry is not None:
                self._node.restrain(place, entry, Control.RUN)

    def _tell(self, judged: Judged, entry: LedgerEntry) -> None:
        place, step = judged.who.place, judged.after.step
        pid = self._attachments.pid_of(place, judged.who.holder)
        said = (
            f"its work has been on the device for {judged.ran_ns / 1e9:.2f} s, allowed are {judged.allowed_ns / 1e9:.3f} s"
            if judged.after.over
            else f"it has kept to its time of {judged.allowed_ns / 1e9:.3f} s"
        )
        log.warning("process %d of slice %s on %s: %s; %s", pid, place.slice_id, place.device_id, step, said)
        window = entry.window
        fact = SliceOverran(
            at=self._world.clock.unix_ns(),
            id=place.slice_id,
            tenant=entry.tenant,
            generation=entry.generation,
            node=self._world.node,
            device_id=place.device_id,
            pid=pid,
            step=step,
            before=judged.before.step,
            ran_ns=judged.ran_ns,
            allowed_ns=judged.allowed_ns,
            tier=entry.tier,
            message=f"process {pid} is {step}: {said}"
            if step is not OverrunStep.NONE
            else f"process {pid} is free again: {said}",
            window_offset_ns=window.offset_ns if window is not None else 0,
            window_length_ns=window.length_ns if window is not None else 0,
            window_period_ns=window.period_ns if window is not None else 0,
        )
        self._voice.overran(fact, entry.traceparent)
