"""The shipped fakes: a node with its regions, partitions and processes in memory, for unit and property tests.

Invariant: they refuse what the real ones refuse. ``before`` is called with the name of every call that changes something,
before its effect; a test that raises there has killed the enforcer at that point.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from mica.bus import Bus, Clock
from mica.enforcer.errors import CannotApplyError, PartitionBusyError
from mica.enforcer.places import UNUSED, Holder, Place, Reading, Work
from mica.enforcer.ports import Found, Identity
from mica.enforcer.steps import same_slots
from mica.enforcer.tenancy import Libraries
from mica.enforcer.world import World
from mica.events import Partition
from mica.observability import PassingTracer
from mica.region import RECORDS_MAX, Limits, RuntimeDir
from mica.vendors import Access, Checkpointer, NoSuchProcessError, ProcessStage, VendorError

Hook = Callable[[str], None]


def _nothing(_: str) -> None:
    """No hook."""


class MemoryRegions:
    """Regions without files. What tenants do is done to ``slots``: VRAM by place and holder."""

    def __init__(self) -> None:
        self.records: dict[Place, Limits] = {}
        self.slots: dict[Place, dict[Holder, int]] = {}
        self.gpu_ns: dict[Place, int] = {}
        self.waiting_ns: dict[Place, int] = {}
        self.at_work: dict[Place, dict[Holder, Work]] = {}
        self.documents: dict[str, bytes] = {}
        self.reclaimed: list[tuple[Place, Holder, int]] = []
        self.heartbeat_ns = 0
        self.before: Hook = _nothing

    def adopt(self) -> Found:
        """What is there."""
        return Found(dict(self.records), frozenset(self.slots))

    def make_usage(self, place: Place, uid: int | None) -> Reading:  # noqa: ARG002 - nobody owns anything here
        """Make the usage region."""
        self.before("make_usage")
        self.slots.setdefault(place, {})
        return self.usage(place)

    def write(self, place: Place, limits: Limits) -> None:
        """Write the record."""
        self.before("write")
        if place not in self.records and sum(other.device_id == place.device_id for other in self.records) >= RECORDS_MAX:
            raise CannotApplyError(f"device {place.device_id}: all {RECORDS_MAX} records are taken")
        self.records[place] = limits

    def free(self, place: Place) -> None:
        """Free the record."""
        self.before("free")
        self.records.pop(place, None)

    def remove_usage(self, place: Place) -> None:
        """Remove the usage region."""
        self.before("remove_usage")
        self.slots.pop(place, None)

    def usage(self, place: Place) -> Reading:
        """What the slots hold."""
        slots = self.slots.get(place)
        if slots is None:
            return UNUSED
        return Reading(sum(slots.values()), self.gpu_ns.get(place, 0), tuple(slots), self.waiting_ns.get(place, 0))

    def charges(self, place: Place) -> dict[Holder, int]:
        """What the slots say."""
        return dict(self.slots.get(place, {}))

    def work(self, place: Place) -> dict[Holder, Work]:
        """What a test says that the processes have on the device."""
        return {holder: work for holder, work in self.at_work.get(place, {}).items() if holder in self.slots.get(place, {})}

    def reclaim(self, place: Place, slot: int, owner: int) -> bool:
        """Free a slot."""
        self.before("reclaim")
        vram_bytes = self.slots.get(place, {}).pop(Holder(slot, owner), None)
        if vram_bytes is None:
            return False
        self.reclaimed.append((place, Holder(slot, owner), vram_bytes))
        return True

    def heartbeat(self, now_ns: int) -> None:
        """Note the time."""
        self.heartbeat_ns = now_ns

    def write_attach(self, slice_id: str, document: bytes) -> None:
        """Keep the document."""
        self.before("write_attach")
        self.documents[slice_id] = document

    def remove_slice(self, slice_id: str) -> None:
        """Drop the document."""
        self.before("remove_slice")
        if not any(place.slice_id == slice_id for place in self.slots):
            self.documents.pop(slice_id, None)

    def slices(self) -> frozenset[str]:
        """The slices with a document or a usage region."""
        return frozenset(self.documents) | {place.slice_id for place in self.slots}


class MemoryPartitions:
    """A device that makes partitions of any profile, as long as no slot is used twice."""

    def __init__(self) -> None:
        self.on: dict[str, list[Partition]] = {}
        self.pids: dict[str, frozenset[int]] = {}
        self.refuse = ""
        self.partitioned: set[str] = set()
        self.before: Hook = _nothing
        self._made = 0

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """What exists."""
        return {device_id: tuple(partitions) for device_id, partitions in self.on.items()}

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Make it in two steps, unless a slot is taken or the test said to refuse."""
        self.before("create")
        here = self.on.setdefault(device_id, [])
        if self.refuse:
            raise CannotApplyError(self.refuse)
        if any(other.layout != partition.layout for other in here):
            raise CannotApplyError(f"device {device_id}: laid out as {here[0].layout or 'one by one'}, asked {partition.layout}")
        self.partitioned.add(device_id)
        for other in here:
            if partition.start < other.start + other.size and other.start < partition.start + partition.size:
                raise CannotApplyError(f"device {device_id}: slot {partition.start} is taken by {other.profile} at {other.start}")
        here.append(partition)
        self.before("create_compute")
        self._made += 1
        here[-1] = replace(partition, uuid=f"MIG-{self._made}")
        return here[-1]

    def destroy(self, device_id: str, partition: Partition) -> None:
        """Destroy it, unless processes are inside."""
        self.before("destroy")
        for made in [made for made in self.on.get(device_id, []) if same_slots(made, partition)]:
            if self.pids.get(made.uuid):
                raise PartitionBusyError(self.pids[made.uuid])
            self.on[device_id].remove(made)

    def make_whole(self, device_id: str) -> None:
        """Make it whole, unless partitions are left."""
        self.before("make_whole")
        if self.on.get(device_id):
            raise CannotApplyError(f"device {device_id}: {len(self.on[device_id])} partitions are left")
        self.partitioned.discard(device_id)

    def access(self, device_id: str, partition: Partition | None) -> Access:
        """By name."""
        return Access(visible={"CUDA_VISIBLE_DEVICES": partition.uuid if partition is not None else device_id})


class MemoryOccupants:
    """What a test says is on the devices: VRAM by device and pid."""

    def __init__(self) -> None:
        self.found: dict[str, dict[int, int]] = {}

    def on(self, device_id: str) -> Mapping[int, int]:
        """Who is on the device."""
        return self.found.get(device_id, {})


class MemoryCheckpointer(Checkpointer):
    """A driver that knows the processes of ``stages``. ``before`` is called with the name and pid of every step.

    ``room`` says whether a process may come back; ``slow`` and ``broken`` are the pids whose work never ends, and that can not be
    taken away.
    """

    def __init__(self) -> None:
        self.stages: dict[int, ProcessStage] = {}
        self.slow: set[int] = set()
        self.unportable: set[int] = set()
        self.room: Callable[[int], bool] = lambda _: True
        self.steps: list[tuple[str, int]] = []
        self.before: Callable[[str, int], None] = lambda *_: None

    def stage(self, pid: int) -> ProcessStage:
        """How far it is."""
        if pid not in self.stages:
            raise NoSuchProcessError(f"process {pid}: unknown")
        return self.stages[pid]

    def lock(self, pid: int, within_ms: int) -> None:
        """Lock it, unless its work never ends."""
        self._step("lock", pid, ProcessStage.RUNNING)
        if pid in self.slow:
            raise VendorError(f"process {pid}: its work is not over in {within_ms} ms")
        self.stages[pid] = ProcessStage.LOCKED

    def take_away(self, pid: int) -> None:
        """Take it away, or break it."""
        self._step("take_away", pid, ProcessStage.LOCKED)
        if pid in self.unportable:
            self.stages[pid] = ProcessStage.BROKEN
            raise VendorError(f"process {pid}: has managed memory")
        self.stages[pid] = ProcessStage.AWAY

    def bring_back(self, pid: int) -> None:
        """Bring it back if there is room."""
        self._step("bring_back", pid, ProcessStage.AWAY)
        if not self.room(pid):
            raise VendorError(f"process {pid}: out of memory")
        self.stages[pid] = ProcessStage.LOCKED

    def unlock(self, pid: int) -> None:
        """Let it go on."""
        self._step("unlock", pid, ProcessStage.LOCKED)
        self.stages[pid] = ProcessStage.RUNNING

    def _step(self, name: str, pid: int, stage: ProcessStage) -> None:
        self.before(name, pid)
        self.steps.append((name, pid))
        if self.stage(pid) is not stage:
            raise VendorError(f"{name} of process {pid}: it is {self.stages[pid].name}")


class MemoryCheckpoints:
    """One driver for all devices, unless ``refusal`` says why there is none."""

    def __init__(self) -> None:
        self.driver = MemoryCheckpointer()
        self.refusal = ""

    def on(self, device_id: str) -> MemoryCheckpointer:
        """The driver."""
        if self.refusal:
            raise CannotApplyError(f"device {device_id}: {self.refusal}")
        return self.driver


class MemoryProcess:
    """A process that lives until the test ends it, or until it is killed."""

    def __init__(self, pid: int, owner: int) -> None:
        self.pid = pid
        self.owner = owner
        self.alive = True
        self.ends_on: Final = {9}
        self.signals: list[int] = []
        self.out_of_reach = False
        self._callbacks: list[Callable[[], None]] = []

    def on_exit(self, callback: Callable[[], None]) -> None:
        """Call back when it ends."""
        self._callbacks.append(callback)

    def signal(self, number: int) -> bool:
        """Note the signal; one in ``ends_on`` ends the process."""
        if not self.alive or self.out_of_reach:
            return False
        self.signals.append(number)
        if number in self.ends_on:
            self.exit()
        return True

    def exit(self) -> None:
        """End."""
        self.alive = False
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def close(self) -> None:
        """No callback comes any more."""
        self._callbacks.clear()


class MemoryProcesses:
    """The processes that a test has started."""

    def __init__(self) -> None:
        self.running: dict[int, MemoryProcess] = {}
        self.strangers: dict[int, Identity] = {}

    def start(self, pid: int, owner: int) -> MemoryProcess:
        """Start one; ``owner`` is its owner word."""
        process = self.running[pid] = MemoryProcess(pid, owner)
        return process

    def open_owner(self, place: Place, owner: int, hint: int) -> MemoryProcess | None:  # noqa: ARG002 - owners are unique here
        """The living process with that owner word."""
        return next((process for process in self.running.values() if process.alive and process.owner == owner), None)

    def identify(self, pid: int) -> Identity | None:
        """Who a test says that it is; without that, a process that it has started."""
        known = self.strangers.get(pid)
        process = self.running.get(pid)
        return known or (Identity(process.owner) if process is not None and process.alive else None)

    def open_pid(self, pid: int) -> MemoryProcess | None:
        """The living process with that pid."""
        process = self.running.get(pid)
        return process if process is not None and process.alive else None


class MemoryNode:
    """A node of fakes, which outlives the enforcers that a test starts and kills on it."""

    def __init__(self, bus: Bus, clock: Clock, name: str = "n1") -> None:
        self.regions = MemoryRegions()
        self.partitions = MemoryPartitions()
        self.processes = MemoryProcesses()
        self.occupants = MemoryOccupants()
        self.checkpoints = MemoryCheckpoints()
        self.world = World(
            bus=bus,
            regions=self.regions,
            partitions=self.partitions,
            processes=self.processes,
            occupants=self.occupants,
            checkpoints=self.checkpoints,
            clock=clock,
            tracer=PassingTracer(),
            runtime=RuntimeDir(Path("/run/mica")),
            libraries=Libraries(
                shims=(Path("/lib/shim/libcuda.so.1"), Path("/lib/shim/libnvidia-ml.so.1")),
                opencl_layer=Path("/lib/shim/libmica-opencl.so"),
            ),
            node=name,
            boot_id="boot-1",
        )

    def crash_at(self, hook: Hook) -> None:
        """Call ``hook`` before every effect on the node."""
        self.regions.before = self.partitions.before = hook
