"""Lays devices out. Invariant: nothing changes on a device that a process is on, nor a memory mode while any AMD device is used.

A memory mode is the whole hive's and changes as the driver is loaded again, so that it takes all devices of the driver to be
idle; every device of the hive then has the compute mode that goes with it. Source: AMD SMI's "GPU partitioning".
"""

from collections.abc import Mapping, Sequence
from threading import RLock
from typing import Any, Final

from msgspec import Struct

from mica.events import Partition
from mica.vendors._port import PartitionInUseError, VendorError
from mica.vendors.amd._device import Facts, count_now, read_facts, read_mode
from mica.vendors.amd._library import BUSY, Session, Socket, error_code, optional
from mica.vendors.amd._modes import partition_names, partitions_of
from mica.vendors.amd._readings import processes_on

UNKNOWN: Final = 0xFFFFFFFF


def ordered(smi: Any, socket: Socket) -> tuple[Any, ...]:
    """The handles of a device's partitions in the order of their slots."""

    def number(handle: Any) -> int:
        info = optional(smi, "amdsmi_get_gpu_kfd_info", handle) or {}
        partition = info.get("current_partition_id")
        return partition if isinstance(partition, int) else UNKNOWN

    return tuple(sorted(socket.handles, key=number)) if len(socket.handles) > 1 else socket.handles


def hip_uuids(smi: Any, handles: Sequence[Any]) -> tuple[str, ...]:
    """What the runtime calls each of them, empty where amdsmi does not say."""
    return tuple(str((optional(smi, "amdsmi_get_gpu_enumeration_info", each) or {}).get("hip_uuid", "")) for each in handles)


class Known(Struct, frozen=True):
    """What a device was last seen as; each of its partitions has ``vram_bytes``."""

    device_id: str
    partitions: tuple[Partition, ...]
    vram_bytes: int


class Place(Struct, frozen=True):
    """A living partition, its device, and its memory."""

    device_id: str
    partition: Partition
    vram_bytes: int


class Layouts:
    """The partitions of this machine's devices. Safe to use from several threads."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = RLock()
        self._modes: dict[str, str] = {}
        self._known: dict[str, Known] = {}

    def settle(self) -> None:
        """See that what amdsmi found is what there is: where a device was laid out since, it is started anew.

        Raises:
            VendorError: it does not answer, or does not start.
        """
        with self._lock:
            found, odd = self._read_modes()
            if odd:
                self._session.restart()
                found, _ = self._read_modes()
            self._modes = found

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The partitions of every device that can have some; a whole one's is the device itself.

        A device that does not answer is taken to have what it had last.
        """
        smi = self._session.smi
        with self._lock:
            self.settle()
            with self._session.use("partitions") as sockets:
                for socket in sockets:
                    try:
                        facts = read_facts(smi, socket)
                    except (smi.AmdSmiException, VendorError):
                        continue
                    self._known[socket.name] = self._look(facts, socket)
                here = [self._known[socket.name] for socket in sockets if socket.name in self._known]
        return {each.device_id: each.partitions for each in here if each.partitions}

    def find(self, uuid: str) -> Place:
        """The living partition of that name. Raises VendorError."""
        self.living()
        for known in self._known.values():
            for partition in known.partitions:
                if partition.uuid == uuid:
                    return Place(known.device_id, partition, known.vram_bytes)
        raise VendorError(f"device or partition {uuid}: amdsmi lists no such one")

    def handle(self, sockets: tuple[Socket, ...], device_id: str, partition: Partition) -> Any:
        """The living partition's handle. Raises AmdSmiException, VendorError."""
        smi, socket = self._session.smi, self._session.find(sockets, device_id)
        number = partition.start // partition.size
        if read_mode(smi, socket) != partition.layout or number >= len(socket.handles):
            raise VendorError(f"partition {partition.uuid}: it is gone, device {device_id} was laid out otherwise")
        return ordered(smi, socket)[number]

    def is_stale(self, socket: Socket, mode: str) -> bool:
        """Whether amdsmi found the device before it was laid out as it is. Raises AmdSmiException."""
        before = self._modes.get(socket.name)
        if before:
            return before != mode
        return count_now(self._session.smi, socket, mode) not in (0, len(socket.handles))

    def settle_one(self, device_id: str) -> None:
        """The same as ``settle``, where no other device is asked unless this one was laid out. Raises VendorError."""
        session = self._session
        with session.use(f"device {device_id}") as sockets:
            socket = session.find(sockets, device_id)
            stale = self.is_stale(socket, read_mode(session.smi, socket))
        if stale:
            self.settle()

    def _read_modes(self) -> tuple[dict[str, str], bool]:
        """Every device's mode by its name, and whether amdsmi lists other partitions than go with them."""
        session = self._session
        with session.use("partition modes") as sockets:
            found = {socket.name: read_mode(session.smi, socket) for socket in sockets}
            odd = any(self.is_stale(socket, found[socket.name]) for socket in sockets if found[socket.name])
        return found, odd

    def lay_out(self, device_id: str, mode: str) -> tuple[Partition, ...]:
        """Bring the device into that mode; the partitions that there are then. Raises PartitionInUseError, VendorError."""
        with self._lock:
            self.settle()
            return self._lay_out(device_id, mode)

    def _lay_out(self, device_id: str, mode: str) -> tuple[Partition, ...]:
        compute, _, memory = mode.partition("/")
        facts = self._facts(device_id)
        if facts.mode == mode:
            return self.living().get(device_id, ())
        if facts.refusal:
            raise VendorError(f"device {device_id}: {facts.refusal}")
        if facts.profile(mode) is None:
            modes = ", ".join(each.name for each in facts.profiles) or "none"
            raise VendorError(f"device {device_id}: no partition mode {mode}; allowed: {modes}")
        if facts.mode.partition("/")[2] != memory:
            self._set_memory(device_id, memory)
        self._set_compute(device_id, compute)
        if (now := self._facts(device_id).mode) != mode:
            raise VendorError(f"device {device_id}: partition mode {now} after it was set, wanted {mode}")
        return self.living().get(device_id, ())

    def _set_compute(self, device_id: str, compute: str) -> None:
        session, smi = self._session, self._session.smi
        with session.use(f"device {device_id}: compute mode {compute}") as sockets:
            socket = session.find(sockets, device_id)
            if read_mode(smi, socket).partition("/")[0] == compute:
                return
            self._refuse_if_used(f"device {device_id}", (socket,))
            try:
                smi.amdsmi_set_gpu_compute_partition(socket.handles[0], smi.AmdSmiComputePartitionType[compute])
            except smi.AmdSmiException as error:
                if error_code(error) == BUSY:
                    pids = frozenset(processes_on(smi, socket.handles))
                    raise PartitionInUseError(f"device {device_id}: {' '.join(str(error).split())}", pids) from None
                raise
        session.restart()
        self._modes.clear()

    def _set_memory(self, device_id: str, memory: str) -> None:
        session, smi = self._session, self._session.smi
        with session.use(f"device {device_id}: memory mode {memory}") as sockets:
            why = f"device {device_id}: memory mode {memory} takes all AMD devices of this machine to be idle"
            self._refuse_if_used(why, sockets)
            handle = session.find(sockets, device_id).handles[0]
            before = smi.amdsmi_get_gpu_memory_partition(handle)
            smi.amdsmi_set_gpu_memory_partition(handle, smi.AmdSmiMemoryPartitionType[memory])
            if optional(smi, "amdsmi_get_gpu_memory_partition", handle) != memory:  # before ROCm 7, setting it loads the driver
                try:
                    smi.amdsmi_gpu_driver_reload()
                except smi.AmdSmiException:
                    optional(smi, "amdsmi_set_gpu_memory_partition", handle, smi.AmdSmiMemoryPartitionType[before])
                    raise
        session.restart()
        self._modes.clear()

    def _refuse_if_used(self, what: str, sockets: Sequence[Socket]) -> None:
        smi = self._session.smi
        pids = frozenset(pid for socket in sockets for pid in processes_on(smi, socket.handles))
        if pids:
            raise PartitionInUseError(what, pids)

    def _facts(self, device_id: str) -> Facts:
        with self._session.use(f"device {device_id}") as sockets:
            return read_facts(self._session.smi, self._session.find(sockets, device_id))

    def _look(self, facts: Facts, socket: Socket) -> Known:
        """The device's partitions. Raises AmdSmiException."""
        if not facts.mode or not (facts.partitioned or facts.profiles):
            return Known(facts.device_id, (), 0)
        profile = facts.current()
        names: tuple[str, ...] = (facts.device_id,)
        if facts.partitioned:
            uuids = hip_uuids(self._session.smi, ordered(self._session.smi, socket))
            names = partition_names(facts.device_id, facts.mode, uuids, profile.max_instances)
        return Known(facts.device_id, partitions_of(profile, names), profile.vram_bytes)
