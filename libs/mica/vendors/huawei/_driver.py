"""Ascend chips behind the port. Invariant: a chip is known by its die, a vNPU by its chip and number, whatever is restarted.

A chip without vNPUs is one partition of itself, ``whole``, as a layout that is there by itself: no shim enforces CANN, so that
partitions are all that mica gives of a chip.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Final

from mica.events import Device, Link, LinkKind, Partition, PartitionProfile
from mica.vendors._port import Access, DeviceReading, Finding, PartitionInUseError, VendorDriver, VendorError
from mica.vendors.huawei import _nodes, _vnpus
from mica.vendors.huawei._abi import HCCS, Code
from mica.vendors.huawei._description import Describer, Known
from mica.vendors.huawei._findings import findings
from mica.vendors.huawei._library import DcmiError, open_dcmi, simulated
from mica.vendors.huawei._numbers import numbers_for, partitions, vnpu_of, vnpu_uuid
from mica.vendors.huawei._reading import counters, vnpu_counters
from mica.vendors.huawei._templates import WHOLE, WHOLE_ID

MOUNTS: Final = (
    "/usr/local/dcmi",
    "/usr/local/bin/npu-smi",
    "/usr/local/sbin/npu-smi",
    "/usr/local/Ascend/driver/lib64",
    "/usr/local/Ascend/driver/version.info",
    "/etc/ascend_install.info",
)
"""What Ascend Docker Runtime gives every container."""
CDI_KIND: Final = "ascend.com/npu"


class HuaweiDriver(VendorDriver):
    """The Ascend chips of this machine, or of the simulated node.

    Raises:
        VendorAbsentError: no libdcmi, or no chip behind it.
        VendorError: libdcmi is here and does not start.
    """

    name = "huawei"

    def __init__(self) -> None:
        self._dcmi = open_dcmi()
        self._describer = Describer(self._dcmi)
        self._known: dict[str, Known] = {}
        self._last: dict[str, tuple[Partition, ...]] = {}

    def keys(self) -> tuple[str, ...]:
        """Card and chip, such as 0.0."""
        return tuple(chip.key for chip in self._dcmi.chips())

    def describe(self, key: str) -> Device:
        """The chip of that key."""
        for index, chip in enumerate(self._dcmi.chips()):
            if chip.key == key:
                known = self._describer.describe(chip, index)
                self._known[known.device.id] = known
                return known.device
        raise VendorError(f"chip {key}: libdcmi lists no such chip")

    def sample(self, device_id: str) -> DeviceReading:
        """Counters of a chip, or of a vNPU: its memory and its cores."""
        vnpu = vnpu_of(device_id)
        known = self._find(vnpu[0] if vnpu else device_id)
        return vnpu_counters(self._dcmi, known.chip, vnpu[1]) if vnpu else counters(self._dcmi, known.chip)

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        """Of a chip, all on its vNPUs included; of a vNPU, those that have its device node open."""
        vnpu = vnpu_of(device_id)
        listed = self._dcmi.processes(self._find(vnpu[0] if vnpu else device_id).chip)
        if vnpu is None:
            return listed
        inside = _nodes.holders(_nodes.vnpu_node(vnpu[1]), (pid for pid, _ in listed))
        return [each for each in listed if each[0] in inside]

    def findings(self, device_id: str) -> tuple[Finding, ...]:
        """Error codes, events, and a chip that fell off the bus."""
        return findings(self._dcmi, self._find(device_id).chip, device_id)

    def links(self) -> tuple[Link, ...]:
        """Chips that reach each other by HCCS; DCMI says no speeds, the catalogue does."""
        found = []
        for one, other in combinations(self._all(), 2):
            try:
                kind = self._dcmi.number("dcmi_get_topo_info_by_device_id", one.chip, other.chip.card, other.chip.device)
            except DcmiError:
                continue
            if kind in HCCS:
                speed = one.model.link_bytes_per_s if one.model is not None else 0
                found.append(Link(a=one.device.id, b=other.device.id, kind=LinkKind.HCCS, bytes_per_s=speed))
        return tuple(found)

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The vNPUs of every chip, by their numbers; or the whole chip.

        One that does not answer has what it had: a chip off the bus is a finding, and no reason to take its slices for gone.
        """
        for known in self._all():
            with suppress(VendorError):
                self._last[known.device.id] = self._living_on(known)
        return dict(self._last)

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Make a vNPU, or leave nothing on the chip but the whole of it."""
        known = self._find(device_id)
        if partition.layout == WHOLE:
            self.make_whole(device_id)
            return _whole(known)
        profile = known.profiles.get(partition.profile)
        if profile is None or profile.layout or partition.start not in profile.starts:
            allowed = ", ".join(f"{each.name} at {each.starts}" for each in known.device.profiles)
            raise VendorError(f"device {device_id}: no {partition.profile} at slot {partition.start}; allowed: {allowed}")
        existing = _vnpus.listed(self._dcmi, known.chip)
        for each in self._partitions(known, existing):
            if (each.profile, each.start) == (profile.name, partition.start):
                return each
            if not each.layout and each.start < partition.start + profile.size and partition.start < each.start + each.size:
                raise VendorError(f"device {device_id}: {profile.name} at slot {partition.start}: {each.uuid} is there")
        self._refuse_if_whole_in_use(known, existing)
        number = self._make(known, profile, partition.start, frozenset(each.number for each in existing))
        return Partition(
            profile=profile.name,
            profile_id=profile.profile_id,
            start=partition.start,
            size=profile.size,
            uuid=vnpu_uuid(device_id, number),
        )

    def destroy(self, device_id: str, partition: Partition) -> None:
        """Destroy a vNPU; the whole chip stays."""
        if partition.layout:
            return
        known = self._find(device_id)
        for each in self._living_on(known):
            if (each.profile_id, each.start, each.layout) == (partition.profile_id, partition.start, ""):
                self._destroy(known, each)

    def make_whole(self, device_id: str) -> None:
        """Destroy the chip's vNPUs, if none is in use."""
        known = self._find(device_id)
        idle = [each for each in self._living_on(known) if not each.layout]
        for each in idle:
            self._refuse_if_in_use(known, each)
        for each in idle:
            self._destroy(known, each)

    def access(self, device_id: str, partition: Partition | None) -> Access:
        """By number: the chip's own, or that of a vNPU, which containers see as a chip of that number.

        ASCEND_VNPU_SPECS is not set: it has the container runtime make a vNPU of its own.
        """
        known = self._find(device_id)
        vnpu = vnpu_of(partition.uuid) if partition is not None else None
        number = vnpu[1] if vnpu else known.physical
        node = _nodes.vnpu_node(number) if vnpu else _nodes.chip_node(number)
        visible = {"ASCEND_VISIBLE_DEVICES": str(number)} | ({} if vnpu else {"ASCEND_RT_VISIBLE_DEVICES": str(known.logic)})
        return Access(
            visible=visible,
            env={"ASCEND_RUNTIME_OPTIONS": "VIRTUAL"} if vnpu else {},
            devices=tuple(str(each) for each in (node, *_nodes.shared_nodes())),
            mounts=tuple(each for each in MOUNTS if simulated() or Path(each).exists()),
            cdi=f"{CDI_KIND}={number}",
        )

    def close(self) -> None:
        """DCMI has nothing to close."""

    def _all(self) -> Iterator[Known]:
        """The chips that answer, in the library's order."""
        for index, chip in enumerate(self._dcmi.chips()):
            try:
                known = next((each for each in tuple(self._known.values()) if each.chip == chip), None)
                yield known or self._remember(self._describer.describe(chip, index))
            except VendorError:
                continue

    def _remember(self, known: Known) -> Known:
        self._known[known.device.id] = known
        return known

    def _find(self, device_id: str) -> Known:
        known = self._known.get(device_id) or next((each for each in self._all() if each.device.id == device_id), None)
        if known is None:
            raise VendorError(f"device {device_id}: libdcmi lists no such chip")
        return known

    def _living_on(self, known: Known) -> tuple[Partition, ...]:
        return self._partitions(known, _vnpus.listed(self._dcmi, known.chip))

    def _partitions(self, known: Known, vnpus: tuple[_vnpus.Vnpu, ...]) -> tuple[Partition, ...]:
        numbered = ((each.number, each.template) for each in vnpus)
        profiles = {name: each for name, each in known.profiles.items() if not each.layout}
        found = partitions(known.device.id, known.physical, numbered, profiles)
        return found if found or WHOLE not in known.profiles else (_whole(known),)

    def _make(self, known: Known, profile: PartitionProfile, start: int, taken: frozenset[int]) -> int:
        """The number of the vNPU that is made; the first that is free of those that stand for the slot."""
        what = f"device {known.device.id}: {profile.name} at slot {start}"
        number = next((each for each in numbers_for(profile, start, known.physical) if each not in taken), None)
        if number is None:
            raise VendorError(f"{what}: all its numbers are taken")
        try:
            _vnpus.create(self._dcmi, known.chip, profile.name, number)
        except DcmiError as error:
            if error.code == Code.OCCUPIED:
                self._refuse_if_whole_in_use(known, _vnpus.listed(self._dcmi, known.chip))
            raise VendorError(f"{what}: {error}") from None
        return number

    def _destroy(self, known: Known, partition: Partition) -> None:
        self._refuse_if_in_use(known, partition)
        vnpu = vnpu_of(partition.uuid)
        if vnpu is None:
            return
        try:
            _vnpus.destroy(self._dcmi, known.chip, vnpu[1])
        except DcmiError as error:
            if error.code == Code.OCCUPIED:
                raise PartitionInUseError(f"vNPU {partition.uuid}", frozenset()) from None
            raise

    def _refuse_if_in_use(self, known: Known, partition: Partition) -> None:
        pids = frozenset(pid for pid, _ in self.compute_processes(partition.uuid))
        names = {vnpu_uuid(known.device.id, each.number) for each in _vnpus.listed(self._dcmi, known.chip) if each.used}
        if pids or partition.uuid in names:
            raise PartitionInUseError(f"vNPU {partition.uuid}", pids)

    def _refuse_if_whole_in_use(self, known: Known, vnpus: tuple[_vnpus.Vnpu, ...]) -> None:
        pids = frozenset(pid for pid, _ in self._dcmi.processes(known.chip))
        if pids and not vnpus:
            raise PartitionInUseError(f"device {known.device.id}, which is used whole", pids)


def _whole(known: Known) -> Partition:
    profile = known.profiles.get(WHOLE)
    size = profile.size if profile is not None else known.device.compute_slices
    return Partition(profile=WHOLE, profile_id=WHOLE_ID, start=0, size=size, uuid=known.device.id, layout=WHOLE)
