"""What others write and the planner decides on, taken over as it changes.

Invariant: a node is offered only once its ledger is known.
"""

from collections.abc import Iterable

from msgspec import Struct

from mica.bus import Change
from mica.events import Inventory, NodePolicy, Observed, PoolPolicy, RepackState, StoredProfile, TenantPolicy
from mica.planner.desk import Desk
from mica.planner.domain.fleet import NodeState
from mica.planner.followups import Followups
from mica.planner.policies import Policies
from mica.planner.repacks import Repacks
from mica.planner.waiting import Waiting


class View(Struct, frozen=True):
    """Feeds the fleet and the policies."""

    desk: Desk
    followups: Followups
    policies: Policies
    waiting: Waiting
    repacks: Repacks

    async def take_ledgers(self, changes: Iterable[Change[bytes]]) -> None:
        """Ledgers were written, by whichever replica."""
        self.desk.ledgers.take(changes)

    async def take_inventory(self, changes: Iterable[Change[Inventory]]) -> None:
        """Devices came, went or changed."""
        for change in changes:
            (await self._node(change.key.removeprefix("inventory."))).take_inventory(change.value)
        self.waiting.wake()

    async def take_observed(self, changes: Iterable[Change[Observed]]) -> None:
        """An enforcer has reported."""
        for change in changes:
            node = await self._node(change.key.removeprefix("observed."))
            leased = node.leased(self.desk.now_ns())
            node.take_observed(change.value)
            self.followups.review(node, everybody=False)
            if not leased:
                self.waiting.wake()

    async def take_tenants(self, changes: Iterable[Change[TenantPolicy]]) -> None:
        """Quotas and pins of tenants changed."""
        self.policies.take_tenants(changes)
        self.waiting.wake()

    async def take_pools(self, changes: Iterable[Change[PoolPolicy]]) -> None:
        """Pins of pools changed."""
        self.policies.take_pools(changes)
        self.waiting.wake()

    async def take_nodes(self, changes: Iterable[Change[NodePolicy]]) -> None:
        """What holds on single nodes changed."""
        self.policies.take_nodes(changes)
        self.waiting.wake()

    async def take_profiles(self, changes: Iterable[Change[StoredProfile]]) -> None:
        """Stored profiles changed: what waits may need another size."""
        self.policies.take_profiles(changes)
        self.waiting.wake()

    async def take_repacks(self, changes: Iterable[Change[RepackState]]) -> None:
        """A pool's plan has changed."""
        for change in changes:
            self.repacks.take(change)

    async def _node(self, name: str) -> NodeState:
        document = self.desk.ledgers.of(name)
        if not document.known:
            await document.refresh()
        return self.desk.fleet.node(name)
