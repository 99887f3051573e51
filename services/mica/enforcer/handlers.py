"""What the enforcer does about each thing that happens on its node.

Owns the order of effects. Invariant: every handler leaves the node in a state from which ``settle`` reaches the ledger,
whatever was interrupted.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from typing import Final

from mica.bus import Change
from mica.enforcer.attachments import NO_SLOT, Attachments
from mica.enforcer.drains import Drain, due_signal, grace_of, is_replaced
from mica.enforcer.errors import CannotApplyError, PartitionBusyError
from mica.enforcer.node import Node
from mica.enforcer.places import Holder, Place, is_orphan
from mica.enforcer.placing import Part, part_in
from mica.enforcer.policy import Policy
from mica.enforcer.ports import Process
from mica.enforcer.shrinks import Shrinks
from mica.enforcer.spatial import divisible, parts, whole
from mica.enforcer.steps import DestroyPartition
from mica.enforcer.suspender import Suspender
from mica.enforcer.turns import Turns
from mica.enforcer.voice import Voice
from mica.enforcer.watch import Watch
from mica.enforcer.world import World
from mica.events import Control, Device, Inventory, Ledger, NodePolicy, Observed, Partition, PoolPolicy
from mica.region import AttachMessage
from mica.vendors import NO_ACCESS, Access

SWEPT_PER_BEAT: Final = 16
"""How many usage regions without a known process are looked at per heartbeat, in turn."""

log = logging.getLogger(__name__)


class Enforcer:
    """One node's enforcer, between its events and its devices."""

    def __init__(self, world: World, voice: Voice, node: Node, ledger: Ledger) -> None:
        self._world = world
        self._voice = voice
        self.node = node
        self.ledger = ledger
        self.devices: dict[str, Device] = {}
        self.attachments = Attachments(world.processes, world.regions, self._on_exit)
        self._drains: dict[Place, Drain] = {}
        self._shrinks = Shrinks()
        self._stopped: set[Place] = set()
        self._sweep_from = 0
        self.policy = Policy(world.node)
        self._watch = Watch(world, voice, self.attachments)
        self._turns = Turns(world, voice, node, self.attachments)
        self._suspender = Suspender(world, node, self.attachments, self._sweep_place)
        self.due = asyncio.Event()
        self.jobs_due = asyncio.Event()
        self.errands_due = asyncio.Event()
        self.telling_due = asyncio.Event()
        self.due.set()

    async def settle(self) -> None:
        """Bring the node to the ledger as far as it can be now, and begin to say so; ``tell`` goes on from there.

        Raises:
            BusError: the bus does not answer; to be called again.
        """
        self.due.clear()
        if self._voice.unsure:
            await self._read_ledger()
            await self._voice.recall(self.ledger)
        if self._lacks_devices():
            await self.read_inventory()
        if self._lacks_access():
            await self.learn_access()
        self._settle_now()

    def _lacks_devices(self) -> bool:
        return not self.ledger.devices.keys() <= self.devices.keys()

    def _lacks_access(self) -> bool:
        return not self.ledger.devices.keys() & self.devices.keys() <= self.node.reach.keys() or bool(self.node.unreached())

    async def learn_access(self) -> None:
        """Ask the libraries how processes reach the devices and the partitions of which that is not known."""
        ask = self._world.partitions.access
        for device_id in self.devices.keys() - self.node.reach.keys():
            self.node.reach[device_id] = await asyncio.to_thread(_access_or_none, ask, device_id, None)
        for place, partition in self.node.unreached().items():
            self.node.access[place] = await asyncio.to_thread(_access_or_none, ask, place.device_id, partition)

    def _settle_now(self) -> None:
        self.node.set_borrowers(self.policy.rules.borrowers)
        self.node.apply(self.ledger, self.devices, self._parts())
        self._press(self._world.clock.monotonic_ns())
        self._ask(self._world.clock.monotonic_ns())
        if self.node.jobs:
            self.jobs_due.set()
        if self._suspender.due(self.ledger):
            self.errands_due.set()
        self._voice.speak(self.ledger, self.node, self.devices)
        self.telling_due.set()

    def _parts(self) -> dict[Place, Part]:
        """Which slice has a part of its device to itself; most nodes have no device where any could."""
        found: dict[Place, Part] = {}
        for device_id, entries in self.ledger.devices.items():
            device = self.devices.get(device_id)
            if device is not None and divisible(device):
                held = {at.slice_id: part_in(its.limits) for at, its in self.node.held.items() if at.device_id == device_id}
                running = {at.slice_id for at in self.attachments.places() if at.device_id == device_id}
                awake = {id_: entry for id_, entry in entries.items() if not entry.suspended}
                chosen = parts(device, self.policy.rules, awake, held, running)
                found |= {Place(device_id, id_): part for id_, part in chosen.items()}
        return whole(found, self.ledger.devices) if found else found

    async def tell(self) -> None:
        """Wait until all that was said has arrived, and ``observed`` with it; a lease that ran out is then in force again.

        Raises:
            BusError: the bus did not take all of it; what was applied stands, and after settling again the rest is told.
        """
        self.telling_due.clear()
        await self._voice.flush()
        if self.node.fence:
            await self._lift_fence()

    async def do_jobs(self) -> None:
        """Make and destroy the partitions that are due, one after the other, outside the event loop."""
        self.jobs_due.clear()
        while self.node.jobs:
            place, job = next(iter(self.node.jobs.items()))
            outcome = await asyncio.to_thread(self.node.run_job, place, job)
            self.node.finish_job(place, outcome)
            if isinstance(outcome, PartitionBusyError) and isinstance(job.step, DestroyPartition):
                self._watch_guests(place, outcome.pids)
            self.due.set()

    async def do_errands(self) -> None:
        """Take slices off their devices, or bring them back, outside the event loop."""
        self.errands_due.clear()
        while errands := self._suspender.due(self.ledger):
            await self._suspender.run(errands)
            self.due.set()

    async def look_at_partitions(self) -> None:
        """See what became of the hardware partitions without us, and repair it."""
        if self.node.jobs or not any(device.profiles for device in self.devices.values()):
            return
        before = self.node.jobs_done
        living = await asyncio.to_thread(self._world.partitions.living)
        if not self.node.jobs and self.node.jobs_done == before:
            self.node.reconcile(living)
            self.due.set()

    def on_ledger(self, changes: Iterable[Change[Ledger]]) -> None:
        """The ledger changed, perhaps several times: only the newest counts, and an older one than is known does not.

        It is applied at once; where that takes an answer from the bus first, ``settle`` is due.
        """
        newest = max((change.value for change in changes if change.value is not None), key=_generation, default=None)
        if newest is None or newest.generation < self.ledger.generation:
            return
        self.ledger = newest
        if self.due.is_set() or self._voice.unsure or self._lacks_devices() or self._lacks_access():
            self.due.set()
        else:
            self._settle_now()

    def on_inventory(self, inventory: Inventory) -> None:
        """The node's devices were read anew."""
        self._take_inventory(inventory)
        self.due.set()

    def on_policies(self, changes: Iterable[Change[PoolPolicy]] | Iterable[Change[NodePolicy]]) -> None:
        """Operators have decided anew; what follows from it is applied."""
        if self.policy.take(changes):
            self.due.set()

    def _take_inventory(self, inventory: Inventory) -> None:
        self.devices = {device.id: device for device in inventory.devices}
        self.policy.pool = inventory.pool
        self.node.note_carved({device.id for device in inventory.devices if device.partitioned})

    async def read_inventory(self) -> None:
        """Learn the node's devices anew."""
        entry = await self._world.bus.state.get(f"inventory.{self._world.node}", Inventory)
        if entry is not None:
            self._take_inventory(entry.value)

    async def read_policies(self) -> None:
        """Learn the policies before anything is applied."""
        await self.policy.read(self._world.bus.policy)

    def on_attach(self, message: AttachMessage, pid: int) -> None:
        """A process says that it is inside a slice; ``pid`` is what the kernel says about the sender, 0 when unknown."""
        place = Place(message.device_id, message.slice_id)
        held = self.node.refresh(place)
        if message.slot is None and held is not None and held.partition is not None:
            process = self.attachments.admit(place, pid)
            if process is not None:
                self.node.guest_came(place, process.pid)
                self._attached(place, process, NO_SLOT)
        elif message.slot is not None and held is not None and (message.slot, message.owner) in held.reading.holders:
            process = self.attachments.attach(place, Holder(message.slot, message.owner), pid)
            if process is not None:
                self._attached(place, process, message.slot)
        else:
            log.warning("process %d is not inside slice %s on %s, as it says", pid, message.slice_id, message.device_id)

    def on_beat(self) -> None:
        """Once a second: show that the enforcer lives, look for what nobody told, and end what has to end."""
        now_ns = self._world.clock.monotonic_ns()
        self._world.regions.heartbeat(now_ns)
        self.node.stuck.clear()
        if self.node.suspensions.postponed:
            self.node.suspensions.postponed.clear()
            self.due.set()
        self._sweep()
        self._press(now_ns)
        self.look_at_turns(timeslice=False)
        if self._voice.lease_over and not self.node.fence:
            log.warning("the lease of node %s has run out: its slices stand still until the bus is back", self._world.node)
            self.node.set_fence(True)
            self.node.apply(self.ledger, self.devices, self._parts())
            self._press(now_ns)
        if self._ask(now_ns) or self._voice.stale or self._drains or self.node.jobs:
            self.due.set()

    async def look_for_intruders(self) -> None:
        """On the devices where software slices live, find and handle those who use them around the slices."""
        devices = {place.device_id for place, held in self.node.held.items() if held.has_usage}
        if await self._watch.look(devices, self.policy.rules.intruders):
            self.due.set()

    def look_at_turns(self, *, timeslice: bool = True) -> bool:
        """Judge whose work stays too long on the time-sliced devices, or on the others; whether any process is on them."""
        before = dict(self.node.restraints)
        at_work = self._turns.look(self.ledger, self.policy.rules.overruns, timeslice=timeslice)
        if self._voice.has_news or self.node.restraints != before:
            self.due.set()
        return at_work

    def adopt_processes(self) -> None:
        """After a restart: find the processes that hold slots, and free the slots of those that ended meanwhile."""
        for place, held in list(self.node.held.items()):
            self._sweep_place(place)
            if held.partition is not None and not is_orphan(place):
                self._watch_guests(place, held.guests)

    def close(self) -> None:
        """Fall silent and let go of the processes; the node stays as it is."""
        self._voice.close()
        self.attachments.close()

    def _attached(self, place: Place, process: Process, slot: int) -> None:
        self._voice.attached(place, process.pid, slot, self.ledger)
        self.due.set()

    def _on_exit(self, place: Place, pid: int) -> None:
        self.node.guest_left(place, pid)
        self.node.refresh(place)
        self.due.set()

    def _watch_guests(self, place: Place, pids: Iterable[int]) -> None:
        known = self.attachments.guests(place)
        for pid in pids:
            if pid not in known and self.attachments.admit(place, pid) is None:
                self.node.guest_left(place, pid)

    def _sweep(self) -> None:
        """Look at the usage regions in use, and at some of the others in turn."""
        busy = {*self.attachments.places(), *self._drains, *filter(self.node.over, self.node.held)}
        quiet = [place for place, held in self.node.held.items() if held.has_usage and place not in busy]
        if quiet:
            self._sweep_from %= len(quiet)
            turn = list(islice(cycle(quiet), self._sweep_from, self._sweep_from + min(SWEPT_PER_BEAT, len(quiet))))
            self._sweep_from += len(turn)
            busy.update(turn)
        for place in busy:
            self._sweep_place(place)

    def _sweep_place(self, place: Place) -> None:
        if self.node.over(place):
            self.due.set()
        told = self._voice.vram_used_bytes(place)
        held = self.node.refresh(place)
        if held is None or not held.reading.holders:
            return
        for holder, process in self.attachments.sweep(place, held.reading):
            self._attached(place, process, holder.slot)
        after = self.node.refresh(place)
        if after != held or (held.reading.vram_bytes != told and place not in self.node.suspensions.away):
            self.due.set()

    def _press(self, now_ns: int) -> None:
        """Signal the processes of what must go, and those that no shim holds to their control word."""
        leaving = [at for at, its in self.node.held.items() if its.draining or is_replaced(its, self.ledger, at)]
        drains = {place: self._drains.get(place, Drain(now_ns)) for place in leaving}
        for place, drain in drains.items():
            number = due_signal(drain, grace_of(self.ledger, place), now_ns)
            if number and self.attachments.signal(place, number):
                drains[place] = Drain(drain.since_ns, number)
        self._drains = drains
        for place, held in self.node.held.items():
            if held.guests and held.limits is not None:
                self._press_guests(place, held.limits.control)

    def _ask(self, now_ns: int) -> bool:
        """Tell whose processes hold more than they are to have, and end those that may be; whether there is anything to tell."""
        tells = False
        for over in self._shrinks.look(self.ledger, self.node.held, now_ns):
            if over.tell:
                self._voice.asked(over)
                tells = True
            if over.signal:
                log.warning("slice %s ignored a shrink: signal %d", over.place.slice_id, over.signal)
                self.attachments.signal(over.place, over.signal)
        return tells

    def _press_guests(self, place: Place, control: Control) -> None:
        if control is Control.KILL:
            self.attachments.signal(place, signal.SIGKILL)
        elif control is Control.PAUSE and place not in self._stopped:
            self._stopped.add(place)
            self.attachments.signal(place, signal.SIGSTOP)
        elif control is not Control.PAUSE and place in self._stopped:
            self._stopped.discard(place)
            self.attachments.signal(place, signal.SIGCONT)

    async def _lift_fence(self) -> None:
        """The lease holds again; let go on what the ledger, read anew, still wants here."""
        await self._read_ledger()
        self.node.set_fence(False)
        self.due.set()

    async def _read_ledger(self) -> None:
        """The newest: what was taken out of it while the bus was away may have been answered otherwise, and is not told ready."""
        entry = await self._world.bus.state.get(f"ledger.{self._world.node}", Ledger)
        if entry is not None:
            self.ledger = entry.value


def _access_or_none(ask: Callable[[str, Partition | None], Access], device_id: str, partition: Partition | None) -> Access:
    """What is not known of one device keeps no slice of another waiting."""
    try:
        return ask(device_id, partition)
    except CannotApplyError as error:
        log.warning("%s", error)
        return NO_ACCESS


def _generation(ledger: Ledger) -> int:
    return ledger.generation


async def take_over(world: World) -> Enforcer:
    """Take the node over from whoever enforced it before: read the bus, the regions and the partitions, and change nothing yet.

    Raises:
        EnforcerError: the runtime directory cannot be used.
        BusError: the bus does not answer.
    """
    state = world.bus.state
    seen, wanted = await state.get(f"observed.{world.node}", Observed), await state.get(f"ledger.{world.node}", Ledger)
    observed = seen.value if seen is not None else Observed(node=world.node, boot_id=world.boot_id)
    ledger = wanted.value if wanted is not None else Ledger(node=world.node)
    node = Node(world.regions, world.partitions)
    found = world.regions.adopt()
    node.adopt(found, await asyncio.to_thread(world.partitions.living), (observed, ledger))
    voice = Voice(world, observed)
    await voice.recall(ledger)
    enforcer = Enforcer(world, voice, node, ledger)
    await enforcer.read_inventory()
    await enforcer.read_policies()
    enforcer.adopt_processes()
    return enforcer
