"""What is observed is sampled, published and summed up, whatever part of the world is broken."""

import os
from pathlib import Path

import msgspec
import pytest

from mica.bus import ManualClock, MemoryBus, ServiceError
from mica.events import (
    Departure,
    Device,
    DeviceSampled,
    Ledger,
    LedgerEntry,
    Mode,
    Observed,
    ObservedSlice,
    ObservedState,
    Partition,
    SliceSampled,
    Tier,
    Usage,
    UsageLedger,
    Vendor,
)
from mica.region import RuntimeDir, create_token, create_usage
from mica.region._binding import ffi
from mica.telemetry.__main__ import sample_period_s
from mica.telemetry.handlers import Sampler
from mica.telemetry.sources import REOPEN_READS, VRAM_MAX_BYTES, Sources
from mica.telemetry.targets import targets, tenants
from mica.vendors import DeviceReading, VendorDriver, VendorError

GPU, OTHER = "GPU-1", "GPU-2"
MIG = "MIG-77"
SECOND = 1_000_000_000


class FakeVendor:
    """Two devices and one MIG instance."""

    name = "nvidia"

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.partition_used = 3 << 30

    def devices(self) -> tuple[Device, ...]:
        return tuple(
            Device(id=d, index=i, vendor=Vendor.NVIDIA, model="H100", vram_bytes=80 << 30) for i, d in enumerate((GPU, OTHER))
        )

    def sample(self, device_id: str) -> DeviceReading:
        if device_id in self.failing:
            raise VendorError(f"device {device_id}: GPU is lost")
        if device_id == MIG:
            return DeviceReading(vram_used_bytes=self.partition_used, vram_total_bytes=10 << 30)
        return DeviceReading(vram_used_bytes=5 << 30, vram_total_bytes=80 << 30, utilisation_ppm=370_000, power_mw=55_000)

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        return [(7, self.partition_used)]

    def close(self) -> None:
        return


class World:
    """A node whose observed and ledger documents a test edits, with real usage regions."""

    def __init__(self, root: Path) -> None:
        self.runtime = RuntimeDir(root)
        self.bus = MemoryBus()
        self.clock = ManualClock()
        self.vendor = FakeVendor()
        self.opened = 0
        self.ledger = Ledger(node="n1")
        self.observed = Observed(node="n1", boot_id="b")
        self.sources = Sources(self.runtime, self._open)
        self.sampler = Sampler(self.bus, "n1", self.sources, self.clock)

    def _open(self) -> tuple[VendorDriver, ...]:
        self.opened += 1
        return (self.vendor,)

    async def restart(self) -> None:
        self.sampler = Sampler(self.bus, "n1", self.sources, self.clock)
        await self.sampler.restore()
        self.tell()

    def tell(self) -> None:
        self.sampler.on_ledger(self.ledger)
        self.sampler.on_observed(self.observed)

    def place(self, slice_id: str, device: str = GPU, mode: Mode = Mode.FCSP, partition: Partition | None = None) -> None:
        """Make a slice live, its region included."""
        entry = LedgerEntry(
            id=slice_id, tenant="acme", generation=1, tier=Tier.GUARANTEED, mode=mode, vram_bytes=8 << 30, share_ppm=250_000
        )
        self.ledger.devices.setdefault(device, {})[slice_id] = entry
        self.observed.devices.setdefault(device, {})[slice_id] = ObservedSlice(
            generation=1,
            state=ObservedState.LIVE,
            mode=mode,
            vram_bytes=8 << 30,
            share_ppm=250_000,
            partition=partition,
        )
        if mode is not Mode.HARDWARE:
            self.runtime.ensure_slice(slice_id)
            create_usage(self.path(slice_id, device), device, slice_id, os.getuid())
        self.tell()

    def remove(self, slice_id: str) -> None:
        """Release a slice: out of the ledger, then out of what is observed."""
        for slices in (*self.ledger.devices.values(), *self.observed.devices.values()):
            slices.pop(slice_id, None)
        self.tell()

    def path(self, slice_id: str, device: str = GPU) -> Path:
        return self.runtime.usage_path(slice_id, device)

    def count(self, slice_id: str, **words: int) -> None:
        """Write words of a usage region, as a tenant's process does."""
        with self.path(slice_id).open("r+b") as file:
            for name, value in words.items():
                file.seek(ffi.offsetof("struct mica_usage_region", name))
                file.write(value.to_bytes(8, "little"))

    async def tick(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        await self.sampler.on_tick()

    def samples(self) -> list[SliceSampled]:
        return [event for event in self.bus.published("telemetry.slice.*") if isinstance(event, SliceSampled)]

    async def usage(self) -> dict[str, Usage]:
        entry = await self.bus.state.get("usage.n1", UsageLedger)
        return entry.value.slices if entry else {}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_software_slice(world: World) -> None:
    """A slice's sample holds its region's counters and its limits."""
    world.place("s1")
    world.count("s1", gpu_ns=9, throttled_ns=4, launches=3, refusals=2, vram_peak_bytes=1)
    await world.tick()
    (sample,) = world.samples()
    assert (sample.id, sample.tenant, sample.node, sample.device_id) == ("s1", "acme", "n1", GPU)
    assert (sample.gpu_ns, sample.throttled_ns, sample.launches, sample.refusals, sample.vram_peak_bytes) == (9, 4, 3, 2, 1)
    assert (sample.vram_limit_bytes, sample.share_ppm, sample.processes) == (8 << 30, 250_000, 0)
    assert sample.source == "usage_region"


async def test_a_hardware_slice(world: World) -> None:
    """A hardware slice is measured by the vendor: its partition's memory, its processes, its peak since it was first seen."""
    world.place("s1", mode=Mode.HARDWARE, partition=Partition(profile="1g.10gb", profile_id=19, start=0, size=1, uuid=MIG))
    await world.tick()
    world.vendor.partition_used = 1 << 30
    await world.tick()
    first, second = world.samples()
    assert (first.vram_used_bytes, first.vram_peak_bytes, first.processes, first.source) == (3 << 30, 3 << 30, 1, "vendor")
    assert (second.vram_used_bytes, second.vram_peak_bytes, second.gpu_ns) == (1 << 30, 3 << 30, 0)


async def test_devices(world: World) -> None:
    """The counters of a device are published once a sample while a slice is on it; other devices rest."""
    world.place("s1")
    world.place("s2")
    await world.tick()
    (sample,) = world.bus.published("telemetry.device.*")
    assert isinstance(sample, DeviceSampled)
    assert (sample.device_id, sample.vram_used_bytes, sample.utilisation_ppm) == (GPU, 5 << 30, 370_000)


async def test_a_time_sliced_device_tells_what_its_switches_cost(world: World) -> None:
    """As its slices' shims have seen it; a device without windows says nothing, nor does a region that is damaged."""
    world.place("s1", mode=Mode.TIMESLICE)
    world.runtime.ensure_device(GPU)
    create_token(world.runtime.token_path(GPU), GPU)
    with world.runtime.token_path(GPU).open("r+b") as file:
        for name, value in {"switches": 7, "switch_ns": 150_000, "late_ns": (1 << 64) - 1}.items():
            file.seek(ffi.offsetof("struct mica_token_region", name))
            file.write(value.to_bytes(8, "little"))
    await world.tick()
    with world.runtime.token_path(GPU).open("r+b") as file:
        file.truncate(100)
    await world.tick()
    samples = [each for each in world.bus.published("telemetry.device.*") if isinstance(each, DeviceSampled)]
    assert [(each.switches, each.switch_ns, each.switch_late_ns) for each in samples] == [(7, 150_000, (1 << 63) - 1), (0, 0, 0)]


async def test_an_idle_node(world: World) -> None:
    """Without slices nothing is opened, read or published."""
    world.tell()
    assert not world.sampler.busy
    assert world.opened == 0


async def test_rest_after_the_last_slice(world: World) -> None:
    """When the last slice has gone its usage is written at once, and sampling rests."""
    world.place("s1")
    assert world.sampler.busy
    await world.tick()
    world.remove("s1")
    await world.tick()
    assert "s1" in await world.usage()
    assert not world.sampler.busy


async def test_the_last_moment_counts(world: World) -> None:
    """What a slice used between its last sample and its release is charged while its region is still there."""
    world.place("s1")
    world.count("s1", gpu_ns=SECOND)
    await world.tick()
    world.count("s1", gpu_ns=3 * SECOND)
    world.remove("s1")
    await world.tick()
    assert (await world.usage())["s1"].gpu_ns == 3 * SECOND


async def test_a_region_that_is_gone_with_its_slice(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A region that the enforcer removed before the last sample is no complaint."""
    world.place("s1")
    await world.tick()
    world.path("s1").unlink()
    world.remove("s1")
    await world.tick()
    assert caplog.records == []


async def test_a_truncated_region(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A tenant that truncates its file is not sampled, which is said once; the others are."""
    world.place("s1")
    world.place("s2")
    os.truncate(world.path("s1"), 100)
    for _ in range(3):
        await world.tick()
    assert [sample.id for sample in world.samples()] == ["s2"] * 3
    (record,) = caplog.records
    assert record.getMessage().startswith("slice s1: ")
    os.truncate(world.path("s2"), 0)
    await world.tick()
    assert len(caplog.records) == 2


async def test_nonsense_in_a_region(world: World) -> None:
    """Whatever words a tenant writes, its samples can be encoded and the others' are published."""
    world.place("s1")
    world.place("s2")
    largest = (1 << 64) - 1
    world.count("s1", gpu_ns=largest, throttled_ns=largest, launches=largest, refusals=largest, vram_peak_bytes=largest)
    await world.tick(20)
    assert [sample.id for sample in world.samples()] == ["s1", "s2"]
    assert world.samples()[0].vram_peak_bytes == VRAM_MAX_BYTES
    assert (await world.usage())["s1"].gpu_ns < 1 << 63


async def test_the_ledger_is_written_every_ten_seconds(world: World) -> None:
    """Usage is stored when ten seconds have passed, not at every sample."""
    world.place("s1")
    for _ in range(9):
        await world.tick()
    assert await world.usage() == {}
    await world.tick()
    first = await world.bus.state.get("usage.n1", UsageLedger)
    assert first is not None
    await world.tick()
    assert (await world.bus.state.get("usage.n1", UsageLedger)) == first


async def test_restart(world: World) -> None:
    """A restarted telemetry goes on from the stored usage and counts nothing twice."""
    world.place("s1")
    world.count("s1", gpu_ns=5 * SECOND)
    await world.tick(10)
    await world.restart()
    world.count("s1", gpu_ns=7 * SECOND)
    await world.tick(10)
    assert (await world.usage())["s1"].gpu_ns == 7 * SECOND


@pytest.mark.parametrize("failure", ["before", "after"])
async def test_a_lost_write(world: World, failure: str) -> None:
    """A ledger write that is lost, before or after its effect, is made good by the next."""
    world.place("s1")
    world.count("s1", gpu_ns=SECOND)
    await world.tick(10)
    world.count("s1", gpu_ns=2 * SECOND)
    world.bus.fail_next("usage.n1", failure)  # type: ignore[arg-type]
    await world.tick(10)
    world.count("s1", gpu_ns=3 * SECOND)
    for _ in range(2):
        await world.tick(10)
    assert (await world.usage())["s1"].gpu_ns == 3 * SECOND


async def test_a_bus_that_is_away(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Samples that cannot be published are lost with one line per outage; usage is not."""
    world.place("s1")
    for _ in range(2):
        world.bus.fail_next("telemetry.slice.s1")
    world.count("s1", gpu_ns=SECOND)
    for _ in range(3):
        await world.tick()
    assert len(caplog.records) == 1
    assert len(world.samples()) == 1
    await world.sampler.flush()
    assert (await world.usage())["s1"].gpu_ns == SECOND


async def test_a_device_that_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A device that stops answering is said once; its slices' regions are still read, and its library is opened anew in time."""
    world.place("s1")
    world.vendor.failing.add(GPU)
    for _ in range(3):
        await world.tick()
    assert len(world.samples()) == 3
    assert len(caplog.records) <= 2
    world.vendor.failing.clear()
    for _ in range(REOPEN_READS):
        await world.tick()
    assert world.opened == 2
    assert world.bus.published("telemetry.device.*")


async def test_a_device_of_two_libraries_is_read_by_the_first(world: World) -> None:
    """The vendor's own library comes first, and measures more."""
    second = FakeVendor()
    second.failing.add(GPU)
    world.sources = Sources(world.runtime, lambda: (world.vendor, second))
    world.sampler = Sampler(world.bus, "n1", world.sources, world.clock)
    world.place("s1")
    await world.tick()
    (sample,) = world.bus.published("telemetry.device.*")
    assert sample.power_mw == 55_000


async def test_tenants_of_departing_slices(world: World) -> None:
    """A slice on its way out is still charged to its tenant."""
    world.place("s1")
    world.ledger.devices[GPU].clear()
    world.ledger = msgspec.structs.replace(world.ledger, departures={"s1": Departure(tenant="acme", generation=2)})
    world.tell()
    await world.tick()
    assert [sample.tenant for sample in world.samples()] == ["acme"]


def test_targets(world: World) -> None:
    """Failed slices, and slices whose tenant is not known, are no targets."""
    world.place("s1")
    world.place("s2")
    world.place("s3", device=OTHER)
    known = tenants(world.ledger)
    del known["s2"]
    failed = msgspec.structs.replace(world.observed.devices[OTHER]["s3"], state=ObservedState.FAILED)
    world.observed.devices[OTHER]["s3"] = failed
    assert [target.slice_id for target in targets(world.observed, known)] == ["s1"]


@pytest.mark.parametrize("text", ["0", "-1", "fast", "nan", "inf", "0.001"])
def test_bad_periods(text: str) -> None:
    """A sampling period that is none is one clear line."""
    with pytest.raises(ServiceError, match=f"MICA_SAMPLE_S: got {text}, allowed: seconds, at least 0.01"):
        sample_period_s({"MICA_SAMPLE_S": text})


def test_periods() -> None:
    """One second, unless the environment says otherwise."""
    assert sample_period_s({}) == 1.0
    assert sample_period_s({"MICA_SAMPLE_S": "0.25"}) == 0.25
