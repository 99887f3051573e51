"""What the nodes' documents say together: on whose books a slice is, which pools there are, and what all of them have to give.

Owns nothing that does not follow from those documents. Invariant: whoever asks gets what a walk over all nodes would find at that
moment; only nodes whose documents have changed since the last question are looked at.
"""

from collections.abc import Mapping

from mica.events import Device, Holding, Inventory, Ledger
from mica.planner.domain.ledgers import on_books
from mica.planner.domain.nodes import NodeState
from mica.planner.domain.packing import PPM

NOTHING = Holding(vram_bytes=0, share_ppm=0)


class Census:
    """Sums and tables over all nodes, kept as their documents change."""

    def __init__(self, nodes: Mapping[str, NodeState]) -> None:
        self._nodes = nodes
        self._unread: dict[str, None] = {}
        self._uncounted: dict[str, None] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._inventories: dict[str, Inventory | None] = {}
        self._by_slice: dict[str, set[str]] = {}
        self._on: dict[str, frozenset[str]] = {}
        self._pools: dict[str, int] = {}
        self._total = NOTHING

    def changed(self, node: str) -> None:
        """A document of the node is another than before."""
        self._unread[node] = self._uncounted[node] = None

    def holders(self, slice_id: str) -> list[NodeState]:
        """The nodes on whose books anything of the slice is, by name."""
        self._read_ledgers()
        return [self._nodes[name] for name in sorted(self._by_slice.get(slice_id, ()))]

    @property
    def total(self) -> Holding:
        """What the devices of all nodes have to give."""
        self._count()
        return self._total

    @property
    def pools(self) -> list[str]:
        """The names of the pools that have a node, sorted."""
        self._count()
        return sorted(self._pools)

    def _read_ledgers(self) -> None:
        unread, self._unread = self._unread, {}
        for name in unread:
            ledger = self._nodes[name].ledger
            if ledger is not self._ledgers.get(name):
                self._reread(name, ledger)
                self._ledgers[name] = ledger

    def _count(self) -> None:
        uncounted, self._uncounted = self._uncounted, {}
        for name in uncounted:
            before, now = self._inventories.get(name), self._nodes[name].inventory
            if now is not before:
                self._recount(before, now)
                self._inventories[name] = now

    def _recount(self, before: Inventory | None, now: Inventory | None) -> None:
        for inventory, count in ((before, -1), (now, 1)):
            if inventory is not None:
                self._pools[inventory.pool] = self._pools.get(inventory.pool, 0) + count
                if not self._pools[inventory.pool]:
                    del self._pools[inventory.pool]
        was, is_ = _offer(before), _offer(now)
        self._total = Holding(
            vram_bytes=self._total.vram_bytes - was.vram_bytes + is_.vram_bytes,
            share_ppm=self._total.share_ppm - was.share_ppm + is_.share_ppm,
        )

    def _reread(self, name: str, ledger: Ledger) -> None:
        before, now = self._on.get(name, frozenset()), on_books(ledger)
        for slice_id in before - now:
            names = self._by_slice[slice_id]
            names.discard(name)
            if not names:
                del self._by_slice[slice_id]
        for slice_id in now - before:
            self._by_slice.setdefault(slice_id, set()).add(name)
        self._on[name] = now


def _offer(inventory: Inventory | None) -> Holding:
    devices: tuple[Device, ...] = inventory.devices if inventory is not None else ()
    return Holding(vram_bytes=sum(each.vram_bytes - each.reserve_bytes for each in devices), share_ppm=PPM * len(devices))
