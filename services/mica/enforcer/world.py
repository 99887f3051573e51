"""Everything outside that the enforcer works with. Invariant: nothing else reaches a clock, a file, a device or the bus."""

from collections.abc import Callable

from msgspec import Struct

from mica.bus import Bus, Clock
from mica.enforcer.locality import cpus_of
from mica.enforcer.ports import Checkpoints, Occupants, Partitions, Processes, Regions
from mica.enforcer.tenancy import Libraries
from mica.observability import Tracer
from mica.region import RuntimeDir


class World(Struct, frozen=True, kw_only=True):
    """The ports, and which node this is."""

    bus: Bus
    regions: Regions
    partitions: Partitions
    processes: Processes
    occupants: Occupants
    checkpoints: Checkpoints
    clock: Clock
    tracer: Tracer
    runtime: RuntimeDir
    libraries: Libraries
    node: str
    boot_id: str
    cpus_of: Callable[[int], str] = cpus_of
    """The processors of a NUMA node, as a list; empty where they are not known."""
