"""What is to be placed, and what holds for it. Invariant: values only; a decision depends on nothing else but the fleet."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct

from mica.events import Mode, NodePolicy, PoolPolicy, RequestSlice, Service, Severity, Switching, WorkLimits
from mica.planner.domain.affinity import NO_AFFINITY, Affinity
from mica.planner.domain.modes import ALL_MODES
from mica.planner.domain.sizing import Size

_NO_POLICY: Final = PoolPolicy()
_STRICTNESS: Final = tuple(Service)


class Pins(Struct, frozen=True, kw_only=True):
    """What holds for every request of a tenant at a moment: leases count from ``now_ns``, and policies pin modes.

    A pool without a policy is not in ``pools``, a node without one of its own not in ``nodes``.
    """

    now_ns: int
    tenant_mode: Mode | None = None
    pools: Mapping[str, PoolPolicy] = {}
    nodes: Mapping[str, NodePolicy] = {}

    def pool(self, name: str) -> PoolPolicy:
        """The pool's policy."""
        return self.pools.get(name, _NO_POLICY)

    def switching(self, node: str, pool: str) -> Switching:
        """When the node's devices are switched: by its own policy, else by its pool's."""
        own = self.nodes.get(node)
        return own.switching if own is not None and own.switching is not None else self.pool(pool).switching

    def drain_at(self, node: str, pool: str) -> Severity:
        """How sick a device of the node is drained: by its own policy, else by its pool's."""
        own = self.nodes.get(node)
        return own.drain_at if own is not None and own.drain_at is not None else self.pool(pool).drain_at

    def service(self, node: str, device_id: str) -> Service:
        """Whether the device takes slices: the stricter of what is said of it and of its node."""
        own = self.nodes.get(node)
        if own is None:
            return Service.OPEN
        return max(own.service, own.devices.get(device_id, Service.OPEN), key=_STRICTNESS.index)


class Ask(Struct, frozen=True, kw_only=True):
    """What is to be placed, and where it may go. ``limits``: of a slice that has other ones than its request."""

    id: str
    request: RequestSlice
    size: Size
    pins: Pins
    members: int
    node: str | None = None
    device_id: str | None = None
    excluded: AbstractSet[str] = frozenset()
    limits: WorkLimits | None = None
    affinity: Affinity = NO_AFFINITY

    @property
    def nodes(self) -> int:
        """Over how many nodes its members go, as many on each."""
        return self.request.nodes if self.members == self.request.devices else 1

    @property
    def own_limits(self) -> WorkLimits:
        """The limits in force for it."""
        return self.limits if self.limits is not None else self.request.limits

    def modes(self, pool: str) -> AbstractSet[Mode]:
        """What the pool's, the tenant's and the request's own pins leave."""
        modes: AbstractSet[Mode] = frozenset(self.pins.pool(pool).modes) or ALL_MODES
        for pin in (self.pins.tenant_mode, self.request.mode):
            if pin is not None:
                modes = modes & {pin}
        return modes

    def may_switch(self, node: str, pool: str) -> bool:
        """Whether a device of the node that nobody uses may be partitioned, or made whole, for it."""
        return may_switch(self.pins.switching(node, pool), self.modes(pool))


def may_switch(switching: Switching, modes: AbstractSet[Mode]) -> bool:
    """Whether a device that nobody uses may be partitioned, or made whole, for a request that may be in those modes."""
    return switching is Switching.AUTO or (switching is Switching.ASKED and len(modes) == 1)
