"""The AMD adapter. Invariant: what the port asks of amdsmi is asked in one ``Session``, never while it is started anew."""

from collections.abc import Mapping

from mica.events import Device, Link, Partition
from mica.vendors._port import Access, DeviceReading, Finding, VendorDriver, VendorError
from mica.vendors.amd._access import read_access, toolkit_name
from mica.vendors.amd._device import describe
from mica.vendors.amd._health import Health
from mica.vendors.amd._layouts import Layouts
from mica.vendors.amd._library import RESTART_S, Session
from mica.vendors.amd._links import read_links
from mica.vendors.amd._modes import WHOLE
from mica.vendors.amd._readings import processes_on, read_device, read_partition


class AmdDriver(VendorDriver):
    """The AMD devices of this machine, or of the simulated node.

    Args:
        restart_s: how long calls that are under way may keep amdsmi from being started anew.

    Raises:
        VendorAbsentError: no amdsmi package, no library behind it, no driver, or no device.
        VendorError: the library is here and does not start.
    """

    name = "amd"

    def __init__(self, *, restart_s: float = RESTART_S) -> None:
        self._session = Session(restart_s=restart_s)
        self._layouts = Layouts(self._session)
        self._health = Health(self._session)

    def keys(self) -> tuple[str, ...]:
        """Indices."""
        with self._session.use("amdsmi_get_processor_handles") as sockets:
            return tuple(str(index) for index in range(len(sockets)))

    def describe(self, key: str) -> Device:
        """The device of that index."""
        with self._session.use(f"amd device {key}") as sockets:
            socket = sockets[int(key)]
            found = describe(self._session.smi, socket, int(key))
            self._session.ids[socket.name] = found.id
            return found

    def sample(self, device_id: str) -> DeviceReading:
        """Counters of a device, or of a partition, which has memory counters only."""
        if self._is_device(device_id):
            self._layouts.settle_one(device_id)
            with self._session.use(f"device {device_id}") as sockets:
                return read_device(self._session.smi, self._session.find(sockets, device_id))
        place = self._layouts.find(device_id)
        with self._session.use(f"partition {device_id}") as sockets:
            handle = self._layouts.handle(sockets, place.device_id, place.partition)
            return read_partition(self._session.smi, handle, place.vram_bytes)

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        """Process id and VRAM of each process on the device or partition."""
        if self._is_device(device_id):
            self._layouts.settle_one(device_id)
            with self._session.use(f"device {device_id}") as sockets:
                return sorted(processes_on(self._session.smi, self._session.find(sockets, device_id).handles).items())
        place = self._layouts.find(device_id)
        with self._session.use(f"partition {device_id}") as sockets:
            handle = self._layouts.handle(sockets, place.device_id, place.partition)
            return sorted(processes_on(self._session.smi, (handle,)).items())

    def links(self) -> tuple[Link, ...]:
        """XGMI links."""
        with self._session.use("links") as sockets:
            return read_links(self._session, sockets)

    def findings(self, device_id: str) -> tuple[Finding, ...]:
        """Memory errors, heat, resets, and devices that are gone."""
        return self._health.findings(device_id)

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The partitions of every device that has modes; a whole one's is the device itself."""
        return self._layouts.living()

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Lay the device out, where it is not yet, and name the partition."""
        mode = partition.layout or partition.profile
        for each in self._layouts.lay_out(device_id, mode):
            if (each.start, each.size) == (partition.start, partition.size):
                return each
        raise VendorError(f"device {device_id}: {mode} has no partition of size {partition.size} at {partition.start}")

    def make_whole(self, device_id: str) -> None:
        """Back to SPX."""
        self._layouts.lay_out(device_id, WHOLE)

    def access(self, device_id: str, partition: Partition | None) -> Access:
        """By the runtime's UUID where it has one, and the render node."""
        self._layouts.settle_one(device_id)
        smi = self._session.smi
        with self._session.use(f"device {device_id}") as sockets:
            socket = self._session.find(sockets, device_id)
            if partition is None or partition.uuid == device_id:
                return read_access(smi, socket.handles[0], socket.handles[:1], toolkit_name(sockets, socket.name))
            return read_access(smi, self._layouts.handle(sockets, device_id, partition), socket.handles, "")

    def close(self) -> None:
        """Shut amdsmi down."""
        self._health.close()
        self._session.close()

    def _is_device(self, uuid: str) -> bool:
        """Whether it is a device's id; else it may be a partition's."""
        with self._session.use(f"device {uuid}") as sockets:
            try:
                return bool(self._session.find(sockets, uuid))
            except VendorError:
                return False
