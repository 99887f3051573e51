"""The node's regions as files: the ``Regions`` port over ``mica.region``.

Owns which record of a device belongs to which slice. Invariant: a file that a tenant may have mapped is never replaced,
unless it is of another boot or damaged beyond use.
"""

import logging
import os
import shutil
from contextlib import suppress
from heapq import heapify, heappop, heappush

from mica.bus import Clock
from mica.enforcer.errors import CannotApplyError, EnforcerError
from mica.enforcer.places import UNUSED, Holder, Place, Reading, Work
from mica.enforcer.ports import Found
from mica.region import (
    RECORDS_MAX,
    Defect,
    Limits,
    QuotaRegion,
    RegionDefectError,
    RegionError,
    RuntimeDir,
    create_token,
    create_usage,
    read_usage,
    reclaim_slot,
)

log = logging.getLogger(__name__)


class _Device:
    """One device's quota region, and which of its records are whose."""

    def __init__(self, quota: QuotaRegion) -> None:
        self.quota = quota
        self.index_of: dict[str, int] = {}
        self.free = list(range(RECORDS_MAX))

    def adopt(self) -> dict[str, Limits]:
        """Read what is live, after freeing what a dead writer left half done and what no build of today wrote."""
        repaired = self.quota.repair()
        if repaired:
            log.warning("%s: freed %d records inside which a writer died", self.quota.path, repaired)
        records: dict[str, Limits] = {}
        for index in range(RECORDS_MAX):
            limits = self._read(index)
            if limits is not None and limits.slice_id not in records:
                records[limits.slice_id] = limits
                self.index_of[limits.slice_id] = index
            elif limits is not None:
                self.quota.clear(index)
        self.free = sorted(set(range(RECORDS_MAX)) - set(self.index_of.values()))
        heapify(self.free)
        return records

    def _read(self, index: int) -> Limits | None:
        try:
            return self.quota.read(index)
        except RegionError as error:
            log.warning("freed a record: %s", error)
            self.quota.clear(index)
            return None


class RegionFiles:
    """The regions below a runtime directory."""

    def __init__(self, runtime: RuntimeDir, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._devices: dict[str, _Device] = {}
        self._usage_names: dict[Place, str] = {}

    def adopt(self) -> Found:
        """Open what is there; see the port."""
        try:
            records = {
                Place(device_id, slice_id): limits
                for device_id in self._runtime.devices()
                for slice_id, limits in self._open(device_id).adopt().items()
            }
            return Found(records, self._adopt_usages())
        except (RegionError, OSError) as error:
            raise EnforcerError(f"runtime directory {self._runtime.root}: {error}") from None

    def make_usage(self, place: Place, uid: int | None) -> Reading:
        """Make the usage region; see the port."""
        name = self._usage_name(place)
        owner = os.getuid() if uid is None else uid
        try:
            self._runtime.ensure_slice(place.slice_id)
            made = create_usage(name, place.device_id, place.slice_id, owner)
        except (RegionError, OSError) as error:
            _remove(name)
            raise CannotApplyError(f"usage region of slice {place.slice_id} for user {owner}: {error}") from None
        return UNUSED if made else self.usage(place)

    def write(self, place: Place, limits: Limits) -> None:
        """Write the record; see the port."""
        device = self._device(place.device_id)
        index = device.index_of.get(place.slice_id)
        if index is None:
            if not device.free:
                raise CannotApplyError(f"device {place.device_id}: all {RECORDS_MAX} records are taken")
            index = device.free[0]
        try:
            device.quota.write(index, limits)
        except RegionError as error:
            raise CannotApplyError(str(error)) from None
        if place.slice_id not in device.index_of:
            device.index_of[place.slice_id] = heappop(device.free)

    def free(self, place: Place) -> None:
        """Free the record; see the port."""
        device = self._devices.get(place.device_id)
        index = device.index_of.get(place.slice_id) if device is not None else None
        if device is not None and index is not None:
            device.quota.clear(index)
            del device.index_of[place.slice_id]
            heappush(device.free, index)

    def remove_usage(self, place: Place) -> None:
        """Remove the usage region; see the port."""
        name = self._usage_name(place)
        del self._usage_names[place]
        _remove(name)

    def usage(self, place: Place) -> Reading:
        """What the slice's processes hold; see the port."""
        try:
            found = read_usage(self._usage_name(place))
        except RegionError:
            return UNUSED
        holders = tuple(Holder(slot.slot, slot.owner) for slot in found.processes)
        waiting_ns = max((slot.waiting_ns for slot in found.processes), default=0)
        return Reading(found.vram_bytes, found.gpu_ns, holders, waiting_ns)

    def charges(self, place: Place) -> dict[Holder, int]:
        """What each process has charged; see the port."""
        try:
            found = read_usage(self._usage_name(place))
        except RegionError:
            return {}
        return {Holder(slot.slot, slot.owner): slot.vram_bytes for slot in found.processes}

    def work(self, place: Place) -> dict[Holder, Work]:
        """What each process has on the device; see the port."""
        try:
            found = read_usage(self._usage_name(place))
        except RegionError:
            return {}
        return {Holder(slot.slot, slot.owner): Work(slot.launches, slot.inflight, slot.stuck_ns) for slot in found.processes}

    def reclaim(self, place: Place, slot: int, owner: int) -> bool:
        """Free a dead owner's slot; see the port."""
        try:
            return reclaim_slot(self._usage_name(place), slot, owner)
        except RegionError as error:
            log.warning("slot %d of slice %s on %s: %s", slot, place.slice_id, place.device_id, error)
            return False

    def heartbeat(self, now_ns: int) -> None:
        """Stamp every quota region."""
        for device in self._devices.values():
            device.quota.heartbeat(now_ns)

    def write_attach(self, slice_id: str, document: bytes) -> None:
        """Replace ``attach.json``; see the port."""
        path = self._runtime.attach_name(slice_id)
        fresh = f"{path}.new"
        try:
            try:
                _write(fresh, document)
            except FileNotFoundError:
                self._runtime.ensure_slice(slice_id)
                _write(fresh, document)
            os.rename(fresh, path)
        except OSError as error:
            raise CannotApplyError(f"attach file of slice {slice_id}: {error}") from None

    def remove_slice(self, slice_id: str) -> None:
        """Remove the slice's directory; see the port."""
        directory = self._runtime.slice_name(slice_id)
        try:
            names = os.listdir(directory)
            if any(name.endswith(".usage") for name in names):
                return
            for name in names:
                os.unlink(f"{directory}/{name}")
            os.rmdir(directory)
        except OSError:
            shutil.rmtree(directory, ignore_errors=True)

    def slices(self) -> frozenset[str]:
        """The slices that have a directory."""
        return frozenset(self._runtime.slices())

    def close(self) -> None:
        """Unmap everything; the files stay."""
        for device in self._devices.values():
            device.quota.close()
        self._devices.clear()

    def _usage_name(self, place: Place) -> str:
        name = self._usage_names.get(place)
        if name is None:
            name = self._usage_names[place] = self._runtime.usage_name(place.slice_id, place.device_id)
        return name

    def _device(self, device_id: str) -> _Device:
        device = self._devices.get(device_id)
        try:
            return device if device is not None else self._open(device_id)
        except (RegionError, OSError) as error:
            raise CannotApplyError(f"regions of device {device_id}: {error}") from None

    def _open(self, device_id: str) -> _Device:
        """Map the device's quota region, made anew when it is missing or useless, with a token region beside it.

        It carries a heartbeat from the start: a shim takes a region without one for abandoned.
        """
        self._runtime.ensure_device(device_id)
        path = self._runtime.quota_path(device_id)
        try:
            quota = QuotaRegion.create(path, device_id)
        except RegionDefectError as error:
            if error.defect is Defect.FUTURE:
                raise
            log.warning("made anew: %s", error)
            path.unlink()
            self._runtime.token_path(device_id).unlink(missing_ok=True)
            quota = QuotaRegion.create(path, device_id)
        quota.heartbeat(self._clock.monotonic_ns())
        create_token(self._runtime.token_path(device_id), device_id)
        device = self._devices[device_id] = _Device(quota)
        return device

    def _adopt_usages(self) -> frozenset[Place]:
        found = set()
        for slice_id, device_id, path in self._runtime.usages():
            try:
                read_usage(path)
                found.add(Place(device_id, slice_id))
            except RegionError as error:
                log.warning("removed: %s", error)
                with suppress(OSError):
                    path.unlink()
        return frozenset(found)


def _remove(name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name)


def _write(path: str, data: bytes) -> None:
    """Fill a new file with a few hundred bytes; anybody may read it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
