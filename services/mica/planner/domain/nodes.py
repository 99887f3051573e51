"""A node as the planner knows it: inventory, ledger and what is observed.

Invariant: after every ``take_*`` the claims of a node's devices are those of its documents, whatever was there before.
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mica.events import (
    Inventory,
    Ledger,
    LedgerEntry,
    Mode,
    Observed,
    ObservedSlice,
    ObservedState,
    Placement,
    Reach,
    Tier,
)
from mica.planner.domain.claims import DeviceClaims, Side
from mica.planner.domain.host_claims import HostClaims
from mica.planner.domain.partitions import shared_profiles
from mica.topology import Connections, TopologyError, from_inventory

S = TypeVar("S", LedgerEntry, ObservedSlice)
ALIKE_MAX: Final = 1_024
_ALIKE: Final[dict[tuple[object, ...], tuple[list[str], Connections]]] = {}
"""By what inventories say but for ids: the ids of the first of its kind, and how it is connected."""

Touched = Callable[[str, str | None], None]
"""Hears of a node, and of the device on it, or None for all of it, on which what is free may have changed."""


Changed = Callable[[str], None]
"""Hears of a node whose inventory or ledger is another document than before."""


def _unheard(_node: str, _device_id: str | None = None) -> None:
    """Nobody hears it."""


class Replica(Struct, frozen=True):
    """A member, on one device, of a group whose slices are to be apart; ``within`` what, and whether that is a must."""

    slice_id: str
    node: str
    device_id: str
    within: Reach
    strict: bool


Groups = dict[tuple[str, str], list[Replica]]
"""By tenant and group."""


class NodeState:
    """One node."""

    def __init__(
        self, name: str, touched: Touched = _unheard, changed: Changed = _unheard, regrouped: Changed = _unheard
    ) -> None:
        """``touched`` hears of every change of what is free, ``changed`` of every other inventory and ledger.

        ``regrouped`` hears of it when the ledger has other members of groups than before.
        """
        self.name = name
        self._touched = touched
        self._changed = changed
        self._regrouped = regrouped
        self.closed: set[str] = set()
        """The devices that are not offered although they may have room, until the node is touched."""
        self.inventory: Inventory | None = None
        self.is_grouped = False
        """Whether some of its devices share something, so that what is on one may change what another offers."""
        self.ledger = Ledger(node=name)
        self.observed: Observed | None = None
        self.devices: dict[str, DeviceClaims] = {}
        self.host = HostClaims()
        self.failing: dict[str, str] = {}
        """By slice, what the enforcer says why it can not hold it."""
        self.unsuspended: dict[str, tuple[int, str]] = {}
        """By slice, the generation with which it was to be suspended in vain, and why."""
        self._connections: tuple[Inventory, Connections] | None = None
        self._groups: tuple[Ledger, Groups] | None = None
        self._numbers: tuple[Inventory, dict[str, int]] | None = None
        self._ranks: tuple[Ledger, dict[tuple[Tier, int], LedgerEntry]] | None = None
        self._gangs: tuple[Ledger, dict[str, LedgerEntry]] | None = None

    @property
    def pool(self) -> str:
        """Its pool; empty when there is no inventory."""
        return self.inventory.pool if self.inventory is not None else ""

    @property
    def connections(self) -> Connections:
        """How its devices are connected; worked out again when the inventory has changed."""
        assert self.inventory is not None
        if self._connections is None or self._connections[0] is not self.inventory:
            self._connections = (self.inventory, connections_of(self.inventory))
        return self._connections[1]

    @property
    def places(self) -> "list[Place]":
        """The devices of its inventory, in that order."""
        return [(self, self.devices[device.id]) for device in self.inventory.devices] if self.inventory is not None else []

    def numbered(self, device_ids: AbstractSet[str] | None) -> "Iterable[tuple[int, Place]]":
        """Some devices of its inventory, or all, with their place in it."""
        if device_ids is None or self.inventory is None:
            return enumerate(self.places)
        if self._numbers is None or self._numbers[0] is not self.inventory:
            self._numbers = (self.inventory, {device.id: index for index, device in enumerate(self.inventory.devices)})
        numbers = self._numbers[1]
        ids = sorted(device_ids) if len(device_ids) > 1 else device_ids
        return [(numbers[id_], (self, self.devices[id_])) for id_ in ids if id_ in numbers]

    def has(self, device_id: str) -> bool:
        """Whether the inventory has the device."""
        claims = self.devices.get(device_id)
        return claims is not None and claims.device is not None

    @property
    def groups(self) -> "Groups":
        """The slices that are to be apart from each other, as the ledger has them."""
        if self._groups is None or self._groups[0] is not self.ledger:
            found: Groups = {}
            for device_id, slices in self.ledger.devices.items():
                for id_, entry in slices.items():
                    if entry.apart:
                        replica = Replica(id_, self.name, device_id, entry.apart_within, entry.apart_strict)
                        found.setdefault((entry.tenant, entry.apart), []).append(replica)
            self._groups = (self.ledger, found)
        return self._groups[1]

    @property
    def ranks(self) -> Mapping[tuple[Tier, int], LedgerEntry]:
        """By tier and priority, an entry that stands for all of them, with the memory of all."""
        if self._ranks is None or self._ranks[0] is not self.ledger:
            found: dict[tuple[Tier, int], list[LedgerEntry]] = {}
            for slices in self.ledger.devices.values():
                for entry in slices.values():
                    found.setdefault((entry.tier, entry.priority), []).append(entry)
            sums = {rank: replace(all_[0], vram_bytes=sum(each.vram_bytes for each in all_)) for rank, all_ in found.items()}
            self._ranks = (self.ledger, sums)
        return self._ranks[1]

    @property
    def gangs(self) -> Mapping[str, LedgerEntry]:
        """The slices that other nodes have a part of, too, with any of their entries here."""
        if self._gangs is None or self._gangs[0] is not self.ledger:
            found = {id_: entry for slices in self.ledger.devices.values() for id_, entry in slices.items() if entry.nodes > 1}
            self._gangs = (self.ledger, found)
        return self._gangs[1]

    def is_live(self, slice_id: str, generation: int) -> bool:
        """Whether every entry of the slice here is seen live with that generation."""
        seen = self.observed.devices if self.observed is not None else {}
        here = [device_id for device_id, slices in self.ledger.devices.items() if slice_id in slices]
        found = [seen.get(device_id, {}).get(slice_id) for device_id in here]
        return bool(found) and all(
            each is not None and each.state is ObservedState.LIVE and each.generation == generation for each in found
        )

    def leased(self, now_ns: int) -> bool:
        """Whether an enforcer answers for it."""
        return self.observed is not None and now_ns < self.observed.lease_until

    def claims(self, device_id: str) -> DeviceClaims:
        """The claims on a device, known or not."""
        claims = self.devices.get(device_id)
        if claims is None:
            claims = self.devices[device_id] = DeviceClaims(host=self.host)
        return claims

    def free_cpu_milli(self, slice_id: str) -> int | None:
        """What is left of its processors beside everybody else, below 0 where too much is claimed; None: not limited."""
        whole = self.inventory.cpu_milli if self.inventory is not None else 0
        return whole - self.host.others(slice_id)[0] if whole else None

    def free_host_memory(self, slice_id: str) -> int | None:
        """What is left of its own memory (bytes), likewise."""
        whole = self.inventory.host_memory_bytes if self.inventory is not None else 0
        return whole - self.host.others(slice_id)[1] if whole else None

    def shared_beside(self, claims: DeviceClaims, slice_id: str) -> frozenset[str]:
        """What the other devices of a device's group share because of others' slices on them; nothing where it has no group."""
        device = claims.device
        if device is None or not device.group:
            return frozenset()
        found = {
            other.geometry(other.device).shared_of(partition)
            for other in self.devices.values()
            if other is not claims and other.device is not None and other.device.group == device.group
            for claim in other.others(slice_id)
            for partition in (claim.partitions if claim.mode is Mode.HARDWARE else (None,))
        }
        return frozenset(found - {""})

    def without(self, gone: AbstractSet[str]) -> "NodeState":
        """The node as it would be if those slices were not there: to decide on, not to follow documents with."""
        left = NodeState(self.name)
        left.inventory, left.ledger, left.observed = self.inventory, self.ledger, self.observed
        left.is_grouped = self.is_grouped
        left.devices = {id_: claims.without(gone, left.host) for id_, claims in self.devices.items()}
        left._connections = self._connections
        return left

    def take_inventory(self, inventory: Inventory | None) -> None:
        """Replace what discovery says. Devices of one make share what their profiles say: it is most of an inventory."""
        if inventory is not None and any(device.profiles for device in inventory.devices):
            inventory = replace(
                inventory, devices=tuple(replace(each, profiles=shared_profiles(each)) for each in inventory.devices)
            )
        self.inventory = inventory
        self.is_grouped = inventory is not None and any(device.group for device in inventory.devices)
        self._changed(self.name)
        devices = {device.id: device for device in inventory.devices} if inventory is not None else {}
        for device_id in [*devices, *self.devices]:
            self.claims(device_id).device = devices.get(device_id)
        self._touched(self.name, None)

    def take_ledger(self, ledger: Ledger) -> None:
        """Replace what is desired. Only devices of which it says something else than before are looked at."""
        before, self.ledger = self.ledger, ledger
        self._changed(self.name)
        self._take(Side.LEDGER, before.devices, ledger.devices)
        if before.held is not ledger.held:
            was = {d: {i: held.entry for i, held in s.items()} for d, s in before.held.items()}
            now = {d: {i: held.entry for i, held in s.items()} for d, s in ledger.held.items()}
            self._take(Side.HELD, was, now)

    def take_slice(self, ledger: Ledger, slice_id: str) -> None:
        """Charge one slice as a ledger that is yet to be written has it; ``take_ledger`` of what became of it follows."""
        for device_id, claims in self.devices.items():
            held = ledger.held.get(device_id, {}).get(slice_id)
            claims.put(slice_id, Side.LEDGER, ledger.devices.get(device_id, {}).get(slice_id))
            claims.put(slice_id, Side.HELD, held.entry if held is not None else None)
        self._touched(self.name, None)

    def take_observed(self, observed: Observed | None) -> None:
        """Replace what is."""
        before, self.observed = self.observed, observed
        if self.closed:
            self._touched(self.name, None)
        was = before.devices if before is not None else {}
        now = observed.devices if observed is not None else {}
        self._take(Side.OBSERVED, was, now)
        self.failing = {
            id_: slice_.message
            for slices in now.values()
            for id_, slice_ in slices.items()
            if slice_.state is ObservedState.FAILED
        }
        self.unsuspended = {
            id_: (slice_.refused, slice_.message)
            for slices in now.values()
            for id_, slice_ in slices.items()
            if slice_.refused and slice_.state is ObservedState.LIVE
        }

    def reserve(self, slice_id: str, placement: Placement, *, kept: bool) -> None:
        """Keep capacity for a decision until it stands in the ledger, or give it back."""
        self.claims(placement.device_id).put(slice_id, Side.RESERVED, placement if kept else None)
        self._touched(self.name, placement.device_id)

    def _take(self, side: Side, was: Mapping[str, Mapping[str, S]], now: Mapping[str, Mapping[str, S]]) -> None:
        for device_id in {**was, **now}:
            old: Mapping[str, S] = was.get(device_id, {})
            new: Mapping[str, S] = now.get(device_id, {})
            if old is new or old == new:
                continue  # a document that is decoded anew says of most devices what it said before
            self._touched(self.name, device_id)
            claims = self.claims(device_id)
            for id_ in old:
                if id_ not in new:
                    claims.put(id_, side, None)
                    self._note(old[id_])
            for id_, source in new.items():
                previous = old.get(id_)
                if previous is not source and previous != source:
                    claims.put(id_, side, source)
                    self._note(source)

    def _note(self, source: LedgerEntry | ObservedSlice) -> None:
        """Tell of what is the member of a group."""
        if isinstance(source, LedgerEntry) and source.apart:
            self._regrouped(self.name)


Place = tuple[NodeState, DeviceClaims]
"""A device, and the node that it is on."""


def connections_of(inventory: Inventory) -> Connections:
    """How the devices are connected; nodes that differ in ids alone share what is worked out for the first of them."""
    number = {device.id: index for index, device in enumerate(inventory.devices)}
    devices = tuple((e.index, e.vendor, e.model, e.pci_bus_id, e.numa_node, e.pcie_path) for e in inventory.devices)
    links = tuple((number.get(e.a), number.get(e.b), e.kind, e.lanes, e.bytes_per_s) for e in inventory.links)
    known = _ALIKE.get((devices, links))
    if known is None:
        if len(_ALIKE) >= ALIKE_MAX:
            _ALIKE.clear()
        known = _ALIKE[devices, links] = ([device.id for device in inventory.devices], _connected(inventory))
    ids, connections = known
    return connections.named(dict(zip(ids, number, strict=True)))


def _connected(inventory: Inventory) -> Connections:
    """Where the inventory contradicts itself about bridges, only by its links."""
    try:
        return Connections(from_inventory(inventory))
    except TopologyError:
        flat = tuple(replace(each, pcie_path=(), pci_bus_id="") for each in inventory.devices)
        return Connections(from_inventory(replace(inventory, devices=flat)))
