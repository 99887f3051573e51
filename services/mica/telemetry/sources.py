"""Reads usage regions and vendor counters. Invariant: what cannot be read is said once, and everything else is still read.

Calls block; the service makes them off the event loop.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from msgspec import Struct

from mica.events import Mode
from mica.region import RegionError, RuntimeDir, TokenSnapshot, read_token, read_usage
from mica.telemetry.targets import Target
from mica.vendors import DeviceReading, Patience, VendorDriver, VendorError, open_drivers

USAGE_REGION: Final = "usage_region"
VENDOR: Final = "vendor"
VRAM_MAX_BYTES: Final = 1 << 50
COUNTER_MAX: Final = (1 << 63) - 1
REOPEN_READS: Final = 30
"""After a vendor's library failed it is opened anew once in so many readings."""

log = logging.getLogger(__name__)


class SliceReading(Struct, frozen=True, kw_only=True):
    """What one slice was doing on one device. ``source`` says who measured it."""

    target: Target
    vram_used_bytes: int
    vram_peak_bytes: int
    gpu_ns: int = 0
    throttled_ns: int = 0
    launches: int = 0
    refusals: int = 0
    processes: int = 0
    source: str = USAGE_REGION
    copied_bytes: int = 0
    inflight: int = 0


class Sampled(Struct, frozen=True, kw_only=True):
    """One reading of everything."""

    slices: tuple[SliceReading, ...]
    devices: tuple[tuple[str, DeviceReading], ...]
    tokens: Mapping[str, TokenSnapshot] = {}


class Sources:
    """The regions of a runtime directory and the vendors of this machine, which are opened when first needed."""

    def __init__(self, runtime: RuntimeDir, open_all: Callable[[], tuple[VendorDriver, ...]] = open_drivers) -> None:
        self._runtime = runtime
        self._open_all = open_all
        self._drivers: tuple[VendorDriver, ...] = ()
        self._owners: dict[str, VendorDriver] = {}
        self._reads_to_reopen = 0
        self._peaks: dict[tuple[str, str], int] = {}
        self._complaints: set[str] = set()
        self._patience = Patience()

    def read(self, targets: tuple[Target, ...], leaving: tuple[Target, ...] = ()) -> Sampled:
        """Every target that can be read, and the counters of their devices; of those leaving, whatever is still there."""
        complaints: set[str] = set()
        devices = dict.fromkeys(target.device_id for target in targets)
        self._find_owners(devices)
        found = [*(self._slice(target, complaints) for target in targets), *(self._slice(target, set()) for target in leaving)]
        counters = [(device_id, self._device(device_id, complaints)) for device_id in devices]
        for complaint in complaints - self._complaints:
            log.warning("%s; it is not sampled until that is mended", complaint)
        self._complaints = complaints
        present = {(target.slice_id, target.device_id) for target in targets}
        self._peaks = {key: peak for key, peak in self._peaks.items() if key in present}
        return Sampled(
            slices=tuple(reading for reading in found if reading is not None),
            devices=tuple((device_id, reading) for device_id, reading in counters if reading is not None),
            tokens=self._tokens(targets),
        )

    def _tokens(self, targets: tuple[Target, ...]) -> dict[str, TokenSnapshot]:
        """What slices that share a device by windows know of it; a region that can't be read has nothing to tell."""
        found = {}
        for device_id in {target.device_id for target in targets if target.mode is Mode.TIMESLICE}:
            with suppress(RegionError):
                found[device_id] = read_token(self._runtime.token_path(device_id))
        return found

    def close(self) -> None:
        """Let go of the vendors' libraries."""
        for driver in self._drivers:
            driver.close()
        self._drivers, self._owners = (), {}

    def _slice(self, target: Target, complaints: set[str]) -> SliceReading | None:
        try:
            return self._partition(target) if target.mode is Mode.HARDWARE else self._region(target)
        except (RegionError, VendorError) as error:
            complaints.add(f"slice {target.slice_id}: {error}")
            return None

    def _region(self, target: Target) -> SliceReading:
        usage = read_usage(self._runtime.usage_path(target.slice_id, target.device_id))
        # The tenant can write any 64-bit word there: what goes further is bounded.
        return SliceReading(
            target=target,
            vram_used_bytes=min(usage.vram_bytes, VRAM_MAX_BYTES),
            vram_peak_bytes=min(usage.vram_peak_bytes, VRAM_MAX_BYTES),
            gpu_ns=min(usage.gpu_ns, COUNTER_MAX),
            throttled_ns=min(usage.throttled_ns, COUNTER_MAX),
            launches=min(usage.launches, COUNTER_MAX),
            refusals=min(usage.refusals, COUNTER_MAX),
            processes=len(usage.processes),
            copied_bytes=min(usage.copied_bytes, COUNTER_MAX),
            inflight=min(sum(process.inflight for process in usage.processes), COUNTER_MAX),
        )

    def _partition(self, target: Target) -> SliceReading | None:
        """A hardware slice: its partition's memory. No vendor counts a partition's busy time in nanoseconds, so none is given."""
        if not target.partition_uuid:
            return None
        driver = self._owners.get(target.device_id)
        if driver is None:
            raise VendorError(f"device {target.device_id}: no vendor's library lists it")
        used, processes = self._patience.call(
            f"partition {target.partition_uuid}", partial(_measure, driver, target.partition_uuid)
        )
        key = (target.slice_id, target.device_id)
        self._peaks[key] = max(used, self._peaks.get(key, 0))
        return SliceReading(
            target=target,
            vram_used_bytes=used,
            vram_peak_bytes=self._peaks[key],
            processes=processes,
            source=VENDOR,
        )

    def _device(self, device_id: str, complaints: set[str]) -> DeviceReading | None:
        driver = self._owners.get(device_id)
        if driver is None:
            return None
        try:
            return self._patience.call(f"device {device_id}", partial(driver.sample, device_id))
        except VendorError as error:
            complaints.add(str(error))
            self._owners.pop(device_id)
            return None

    def _find_owners(self, devices: Iterable[str]) -> None:
        """Open the libraries for devices that none is known to own; not at every reading, since that may cost much.

        The first library that lists a device owns it.
        """
        if all(device_id in self._owners for device_id in devices):
            return
        if self._reads_to_reopen:
            self._reads_to_reopen -= 1
            return
        self._reads_to_reopen = REOPEN_READS
        self.close()
        self._drivers = self._open_all()
        for driver in self._drivers:
            try:
                listed = self._patience.call(f"{driver.name}'s devices", driver.devices)
                self._owners = {device.id: driver for device in listed} | self._owners
            except VendorError as error:
                log.warning("%s lists no devices: %s", driver.name, error)


def _measure(driver: VendorDriver, partition_uuid: str) -> tuple[int, int]:
    """Memory in use (bytes) and processes of a partition."""
    return driver.sample(partition_uuid).vram_used_bytes, len(driver.compute_processes(partition_uuid))
