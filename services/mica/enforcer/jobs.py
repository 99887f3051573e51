"""Steps that may take seconds, and what becomes of them. Invariant: values only."""

from msgspec import Struct

from mica.enforcer.errors import CannotApplyError, PartitionBusyError
from mica.enforcer.steps import DeviceStep
from mica.events import Partition
from mica.vendors import Access


class Job(Struct, frozen=True):
    """A step that may take seconds, and the generation for which it is taken."""

    step: DeviceStep
    generation: int


class Made(Struct, frozen=True):
    """A living partition, and how a process reaches it."""

    partition: Partition
    access: Access


Outcome = Made | CannotApplyError | PartitionBusyError | None
