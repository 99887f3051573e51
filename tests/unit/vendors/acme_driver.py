"""A vendor that mica has never heard of, as another package brings it: a class over ``VendorDriver``, and a catalogue file.

Its cards have four quarters, which are made one by one; the driver keeps them in memory.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from mica.events import Device, Partition, Runtime, Vendor
from mica.hardware import Catalogue
from mica.vendors import Access, DeviceReading, PartitionInUseError, VendorDriver, VendorError

CATALOGUE = b"""
vendor = "other"
[grids.quarters]
memory_slots = 4
compute_slices = 4
profiles = [
  { kind = "q", index = 0, id = 1, size = 1, compute_slices = 1, max_instances = 4, starts = [0, 1, 2, 3] },
  { kind = "h", index = 1, id = 2, size = 2, compute_slices = 2, max_instances = 2, starts = [0, 2] },
]
[models.Anvil]
name = "Acme Anvil"
pci_device_id = 0x0A11
vram_mib = 65536
multiprocessors = 64
clock_mhz = 1500
memory_gb_per_s = 1000
power_limit_w = 300
grid = "quarters"
instances = [
  { kind = "q", name = "quarter", memory_mib = 16384, multiprocessors = 16 },
  { kind = "h", name = "half", memory_mib = 32768, multiprocessors = 32 },
]
"""
ANVIL = Catalogue.parse(CATALOGUE).model("Anvil")


class AcmeDriver(VendorDriver):
    """Two cards. ``busy`` holds the partitions with a process inside."""

    name = "acme"

    def __init__(self) -> None:
        self.made: dict[str, list[Partition]] = {"ACME-0": [], "ACME-1": []}
        self.busy: dict[str, int] = {}

    def keys(self) -> tuple[str, ...]:
        return tuple(self.made)

    def describe(self, key: str) -> Device:
        return Device(
            id=key, index=int(key[-1]), vendor=Vendor.OTHER, model=ANVIL.name, vram_bytes=ANVIL.vram_bytes,
            multiprocessors=ANVIL.multiprocessors, compute_slices=ANVIL.compute_slices, profiles=ANVIL.partition_profiles(),
            partitioned=bool(self.made[key]), switchable=True, runtimes=(Runtime.OTHER,),
        )  # fmt: skip

    def sample(self, device_id: str) -> DeviceReading:
        return DeviceReading(vram_used_bytes=0, vram_total_bytes=ANVIL.vram_bytes)

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        return [(self.busy[device_id], 0)] if device_id in self.busy else []

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        return {key: tuple(made) for key, made in self.made.items() if made}

    def create(self, device_id: str, partition: Partition) -> Partition:
        taken = {slot for each in self.made[device_id] for slot in range(each.start, each.start + each.size)}
        if taken & set(range(partition.start, partition.start + partition.size)):
            raise VendorError(f"device {device_id}: slot {partition.start} is taken")
        made = replace(partition, uuid=f"{device_id}/{partition.start}")
        self.made[device_id].append(made)
        return made

    def destroy(self, device_id: str, partition: Partition) -> None:
        for made in [each for each in self.made[device_id] if each.start == partition.start]:
            if made.uuid in self.busy:
                raise PartitionInUseError(made.uuid, frozenset({self.busy[made.uuid]}))
            self.made[device_id].remove(made)

    def access(self, device_id: str, partition: Partition | None) -> Access:
        return Access(visible={"ACME_VISIBLE_DEVICES": partition.uuid if partition else device_id}, devices=("/dev/acme0",))

    def close(self) -> None:
        pass
