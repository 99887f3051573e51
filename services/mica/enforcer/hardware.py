"""The node's devices: the ``Partitions`` and ``Occupants`` ports over the vendors' libraries.

Invariant: a refusal of the library fails one slice.
"""

from collections.abc import Mapping, Sequence

from mica.enforcer.errors import CannotApplyError, PartitionBusyError
from mica.events import Partition
from mica.vendors import PartitionDriver, PartitionInUseError, VendorDriver, VendorError


class VendorPartitions:
    """The partitions of one vendor's devices; a node without such a vendor has none."""

    def __init__(self, driver: PartitionDriver | None) -> None:
        self._driver = driver

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The partitions that exist."""
        return self._driver.living() if self._driver is not None else {}

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Make the partition; see the port."""
        if self._driver is None:
            raise CannotApplyError(f"device {device_id}: this node has no library that makes partitions")
        try:
            return self._driver.create(device_id, partition)
        except VendorError as error:
            raise CannotApplyError(str(error)) from None

    def destroy(self, device_id: str, partition: Partition) -> None:
        """Destroy the partition; see the port."""
        if self._driver is None:
            return
        try:
            self._driver.destroy(device_id, partition)
        except PartitionInUseError as error:
            raise PartitionBusyError(error.pids) from None
        except VendorError as error:
            raise CannotApplyError(str(error)) from None


class VendorOccupants:
    """The processes on any vendor's devices."""

    def __init__(self, drivers: Sequence[VendorDriver]) -> None:
        self._drivers = drivers

    def on(self, device_id: str) -> Mapping[int, int]:
        """Who is on the device; see the port."""
        for driver in self._drivers:
            try:
                return dict(driver.compute_processes(device_id))
            except VendorError:
                continue
        return {}
