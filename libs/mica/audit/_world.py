"""Everything that is looked at, read at nearly the same moment. Invariant: plain values; checking them touches nothing."""

from collections.abc import Mapping

from msgspec import Struct, field

from mica.bus import Heard
from mica.events import (
    Inventory,
    Ledger,
    LedgerEntry,
    Observed,
    ObservedSlice,
    Partition,
    SliceRecord,
    TenantHoldings,
    TenantPolicy,
)
from mica.region import Limits, UsageSnapshot


class Documents(Struct, frozen=True, kw_only=True):
    """The state bucket and the policies, by node, slice or tenant."""

    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    records: Mapping[str, SliceRecord] = field(default_factory=dict)
    tenants: Mapping[str, TenantHoldings] = field(default_factory=dict)
    ledgers: Mapping[str, Ledger] = field(default_factory=dict)
    observed: Mapping[str, Observed] = field(default_factory=dict)
    policies: Mapping[str, TenantPolicy] = field(default_factory=dict)

    def entries(self, node: str) -> dict[tuple[str, str], LedgerEntry]:
        """What the node's ledger says, by device and slice."""
        ledger = self.ledgers.get(node)
        return {(d, s): entry for d, slices in (ledger.devices if ledger else {}).items() for s, entry in slices.items()}

    def seen(self, node: str) -> dict[tuple[str, str], ObservedSlice]:
        """What the node's enforcer sees, by device and slice."""
        observed = self.observed.get(node)
        return {(d, s): item for d, slices in (observed.devices if observed else {}).items() for s, item in slices.items()}


class Slot(Struct, frozen=True, kw_only=True):
    """A held process slot. ``pid`` is the owner's as we see it, None when there is no such process."""

    slot: int
    pid: int | None
    vram_bytes: int


class UsageFile(Struct, frozen=True, kw_only=True):
    """A usage region and the processes behind its slots."""

    snapshot: UsageSnapshot
    slots: tuple[Slot, ...]


class AttachFile(Struct, frozen=True):
    """What ``attach.json`` says of itself."""

    id: str
    node: str
    mode: str
    devices: tuple[str, ...]


class Regions(Struct, frozen=True, kw_only=True):
    """A node's runtime directory. ``broken`` names files that could not be read, with the reason."""

    node: str
    quotas: Mapping[str, Mapping[int, Limits]] = field(default_factory=dict)
    usages: Mapping[tuple[str, str], UsageFile] = field(default_factory=dict)
    attaches: Mapping[str, AttachFile] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


class DriverProcess(Struct, frozen=True, kw_only=True):
    """What the driver itself has booked for one process on one device or partition.

    ``requested_bytes`` is None where the driver doesn't tell what was asked for, only what is spent.
    """

    pid: int
    uuid: str
    device_id: str
    spent_bytes: int
    requested_bytes: int | None = None


class Driver(Struct, frozen=True, kw_only=True):
    """A node's drivers' own books: usable bytes, processes and partitions that exist, by device."""

    node: str
    source: str
    usable_bytes: Mapping[str, int] = field(default_factory=dict)
    processes: tuple[DriverProcess, ...] = ()
    partitions: Mapping[str, tuple[Partition, ...]] = field(default_factory=dict)


class World(Struct, frozen=True, kw_only=True):
    """One reading. ``regions`` and ``driver`` are None where this machine is not a node of the fleet."""

    documents: Documents = Documents()
    facts: tuple[Heard, ...] = ()
    regions: Regions | None = None
    driver: Driver | None = None
    now_ns: int = 0
