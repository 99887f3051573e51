"""What operators have decided for this node: its own policy over that of its pool.

Invariant: what nobody said has its default.
"""

from collections.abc import Iterable

from msgspec import Struct

from mica.bus import Bucket, Change
from mica.events import IntruderAction, NodePolicy, Overruns, PoolPolicy, SpatialChoice, Tier
from mica.policy import in_force, newest


class Rules(Struct, frozen=True, kw_only=True):
    """The rules in force."""

    intruders: IntruderAction = IntruderAction.REPORT
    spatial: SpatialChoice = SpatialChoice.AUTO
    mps_across_tenants: bool = False
    overruns: Overruns = Overruns()
    borrowers: tuple[Tier, ...] = (Tier.BURST, Tier.SPOT)


def rules_of(pool: PoolPolicy | None, node: NodePolicy | None) -> Rules:
    """The pool's rules, with what the node's own policy says in their place."""
    chosen = in_force(pool, node)
    return Rules(**{name: getattr(chosen, name) for name in Rules.__struct_fields__})


class Policy:
    """The policies that concern one node, as they were last heard. ``pool`` is the node's."""

    def __init__(self, node: str) -> None:
        self._own_key = f"node.{node}"
        self._own: NodePolicy | None = None
        self._pools: dict[str, PoolPolicy] = {}
        self.pool = ""

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return rules_of(self._pools.get(self.pool), self._own)

    async def read(self, bucket: Bucket) -> None:
        """Read what is in force now.

        Raises:
            BusError: the bus does not answer.
        """
        own = await newest(bucket, self._own_key, NodePolicy)
        self._own = own.value if own is not None else None
        pool = await newest(bucket, f"pool.{self.pool}", PoolPolicy) if self.pool else None
        if pool is not None:
            self._pools[self.pool] = pool.value

    def take(self, changes: Iterable[Change[PoolPolicy]] | Iterable[Change[NodePolicy]]) -> bool:
        """Take note of changes; whether the rules are others now."""
        before = self.rules
        for change in changes:
            if isinstance(change.value, NodePolicy) or change.key == self._own_key:
                self._own = change.value if isinstance(change.value, NodePolicy) else None
            elif change.value is not None:
                self._pools[change.key.removeprefix("pool.")] = change.value
            else:
                self._pools.pop(change.key.removeprefix("pool."), None)
        return self.rules != before
