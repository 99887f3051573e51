"""The node's devices: the ``Partitions`` and ``Occupants`` ports over the vendors' libraries.

Invariant: a refusal of the library fails one slice.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from mica.enforcer.errors import CannotApplyError, PartitionBusyError
from mica.events import Partition
from mica.vendors import Access, Checkpointer, PartitionInUseError, Patience, VendorDriver, VendorError

LISTING_S: Final = 20.0
"""How long a library may take to list its partitions."""

log = logging.getLogger(__name__)


class VendorPartitions:
    """The partitions of all vendors' devices. A device belongs to the first library that lists it."""

    def __init__(self, drivers: Sequence[VendorDriver], patience: Patience | None = None) -> None:
        self._drivers = drivers
        self._patience = patience or Patience(LISTING_S)
        self._owners: dict[str, VendorDriver] = {}
        self._last: dict[str, Mapping[str, tuple[Partition, ...]]] = {}
        self._silent: set[str] = set()

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The partitions that exist. A library that does not answer is taken to have what it had: nothing goes by its silence."""
        found: dict[str, tuple[Partition, ...]] = {}
        for driver in self._drivers:
            try:
                self._last[driver.name] = self._patience.call(f"{driver.name}'s partitions", driver.living)
                self._silent.discard(driver.name)
            except VendorError as error:
                if driver.name not in self._silent:
                    log.warning("%s: its partitions can not be read: %s", driver.name, error)
                self._silent.add(driver.name)
            found = {**self._last.get(driver.name, {}), **found}
        return found

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Make the partition; see the port."""
        with refusing():
            return self._owner(device_id).create(device_id, partition)

    def destroy(self, device_id: str, partition: Partition) -> None:
        """Destroy the partition; see the port."""
        with refusing():
            driver = self._owner(device_id)
            if partition.layout:
                _see_that_nobody_is_in(driver, partition.uuid or device_id)
            driver.destroy(device_id, partition)

    def make_whole(self, device_id: str) -> None:
        """Bring the device back to where it can be used whole; see the port."""
        with refusing():
            self._owner(device_id).make_whole(device_id)

    def access(self, device_id: str, partition: Partition | None) -> Access:
        """How a process reaches it; see the port."""
        with refusing():
            return self._owner(device_id).access(device_id, partition)

    def _owner(self, device_id: str) -> VendorDriver:
        if device_id not in self._owners:
            for driver in self._drivers:
                with suppress(VendorError):
                    for device in driver.devices():
                        self._owners.setdefault(device.id, driver)
        if device_id not in self._owners:
            raise VendorError(f"device {device_id}: no library of this node lists it")
        return self._owners[device_id]


def _see_that_nobody_is_in(driver: VendorDriver, uuid: str) -> None:
    """One of a layout stays when its slice goes, so that no library refuses to take it from whoever is inside.

    Raises:
        PartitionBusyError: somebody is. Where the library can't tell, nobody is known to be.
    """
    with suppress(VendorError):
        pids = frozenset(pid for pid, _ in driver.compute_processes(uuid))
        if pids:
            raise PartitionBusyError(pids)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what a library says inside the block into what the enforcer does about it."""
    try:
        yield
    except PartitionInUseError as error:
        raise PartitionBusyError(error.pids) from None
    except VendorError as error:
        raise CannotApplyError(str(error)) from None


class VendorCheckpoints:
    """What each vendor's library has for it."""

    def __init__(self, drivers: Sequence[VendorDriver]) -> None:
        self._drivers = drivers
        self._known: dict[str, Checkpointer] = {}

    def on(self, device_id: str) -> Checkpointer:
        """What suspends processes there; see the port."""
        if device_id not in self._known:
            with refusing():
                owners = (driver for driver in self._drivers if any(device.id == device_id for device in driver.devices()))
                owner = next(owners, None)
                if owner is None:
                    raise VendorError(f"device {device_id}: no library of this node lists it")
                self._known[device_id] = owner.checkpointer()
        return self._known[device_id]


class VendorOccupants:
    """The processes on any vendor's devices."""

    def __init__(self, drivers: Sequence[VendorDriver], patience: Patience | None = None) -> None:
        self._drivers = drivers
        self._patience = patience or Patience()

    def on(self, device_id: str) -> Mapping[int, int]:
        """Who is on the device; see the port."""
        for driver in self._drivers:
            try:
                return dict(self._patience.call(f"{driver.name}: {device_id}", partial(driver.compute_processes, device_id)))
            except VendorError:
                continue
        return {}
