"""What operators have decided about pools, nodes and tenants, and the profiles that they store, as the planner last heard it.

Invariant: no I/O; what is missing has its default.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from mica.bus import Change
from mica.events import Automation, NodePolicy, PoolPolicy, StoredProfile, TenantPolicy

DEFAULT_TENANT: Final = "_default"
DEFAULT_COMMANDS_PER_S: Final = 1_000


class Policies:
    """The policies in force."""

    def __init__(self, commands_per_s: int = DEFAULT_COMMANDS_PER_S) -> None:
        self._commands_per_s = commands_per_s
        self._tenants: dict[str, TenantPolicy] = {}
        self._pools: dict[str, PoolPolicy] = {}
        self._nodes: dict[str, NodePolicy] = {}
        self._profiles: dict[str, StoredProfile] = {}

    @property
    def pools(self) -> Mapping[str, PoolPolicy]:
        """By pool, what was decided about it; a pool without a policy is not in it."""
        return self._pools

    @property
    def nodes(self) -> Mapping[str, NodePolicy]:
        """By node, what was decided about it alone; a node without a policy of its own is not in it."""
        return self._nodes

    @property
    def profiles(self) -> Mapping[str, StoredProfile]:
        """What workloads are, by the name that requests use."""
        return self._profiles

    def tenant(self, name: str) -> TenantPolicy:
        """The tenant's policy, or that of all who have none."""
        return self._tenants.get(name) or self._tenants.get(DEFAULT_TENANT) or TenantPolicy()

    @property
    def rightsizing(self) -> bool:
        """Whether any tenant's policy has something done about sizes."""
        return any(each.rightsizing.mode is not Automation.OFF for each in self._tenants.values())

    def commands_per_s(self, tenant: str) -> int:
        """How many commands a second are taken from a tenant."""
        return self.tenant(tenant).commands_per_s or self._commands_per_s

    def take_tenants(self, changes: Iterable[Change[TenantPolicy]]) -> None:
        """Take note of changed tenant policies."""
        for change in changes:
            name = change.key.removeprefix("tenant.")
            if change.value is None:
                self._tenants.pop(name, None)
            else:
                self._tenants[name] = change.value

    def take_pools(self, changes: Iterable[Change[PoolPolicy]]) -> None:
        """Take note of changed pool policies."""
        for change in changes:
            name = change.key.removeprefix("pool.")
            if change.value is None:
                self._pools.pop(name, None)
            else:
                self._pools[name] = change.value

    def take_nodes(self, changes: Iterable[Change[NodePolicy]]) -> None:
        """Take note of changed policies of single nodes."""
        for change in changes:
            name = change.key.removeprefix("node.")
            if change.value is None:
                self._nodes.pop(name, None)
            else:
                self._nodes[name] = change.value

    def take_profiles(self, changes: Iterable[Change[StoredProfile]]) -> None:
        """Take note of changed profiles."""
        for change in changes:
            name = change.key.removeprefix("profile.")
            if change.value is None:
                self._profiles.pop(name, None)
            else:
                self._profiles[name] = change.value
