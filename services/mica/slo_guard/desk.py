"""What the guard keeps in KV, and what it looks up there to decide: states, leases on neighbours, a pool's budget and policy.

Invariant: every write stands on the revision that was read; a lease is one slice's while an action of that slice's holds its
target, and whoever finds one without such an action may take it.
"""

from typing import Final

from msgspec.structs import replace

from mica.bus import Bus, Entry, StaleRevisionError
from mica.events import (
    GuardBudget,
    Guarding,
    GuardLease,
    GuardState,
    Inventory,
    Ledger,
    LedgerEntry,
    PoolPolicy,
    SliceRecord,
)
from mica.policy import newest
from mica.slo_guard.deciding import HOUR_NS
from mica.slo_guard.steps import NS_PER_S, holding

STATE_TTL_S: Final = 86_400.0
"""As long as the SLO stream is kept: the story of the last breach. What holds something is kept for as long as it does."""
SHARED_TTL_S: Final = 7200.0
POLICY_S: Final = 5.0
NODES_MAX: Final = 4096
LEASE_GRACE_NS: Final = 10 * NS_PER_S
"""A lease is taken before the action is decided: without one for so long it is an orphan of a crash."""


class Desk:
    """One replica's way to the documents."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._pools: dict[str, tuple[str, int]] = {}
        self._policies: dict[str, tuple[PoolPolicy, int]] = {}

    async def record(self, slice_id: str) -> SliceRecord | None:
        """A slice's record."""
        entry = await self._bus.state.get(f"slice.{slice_id}", SliceRecord)
        return entry.value if entry is not None else None

    async def state(self, slice_id: str) -> Entry[GuardState] | None:
        """What is remembered of a slice."""
        return await self._bus.state.get(f"guard.{slice_id}", GuardState)

    async def remember(self, before: Entry[GuardState] | None, after: GuardState) -> Entry[GuardState]:
        """Write a state over the one that was read. Raises StaleRevisionError when another replica was quicker."""
        key, ttl_s = f"guard.{after.id}", 0.0 if holding(after) else STATE_TTL_S
        if before is None:
            return Entry(key, after, await self._bus.state.create(key, after, ttl_s=ttl_s))
        return Entry(key, after, await self._bus.state.update(key, after, before.revision, ttl_s=ttl_s))

    async def forget(self, entry: Entry[GuardState]) -> None:
        """Delete a state. Raises StaleRevisionError."""
        await self._bus.state.delete(entry.key, revision=entry.revision)

    async def policy(self, node: str, now: int) -> tuple[str, Guarding]:
        """A node's pool, and what the guard may do there; both a few seconds old at most."""
        pool, at = self._pools.get(node, ("", 0))
        if not pool or now - at > POLICY_S * NS_PER_S:
            entry = await self._bus.state.get(f"inventory.{node}", Inventory)
            pool = entry.value.pool if entry is not None else "default"
            if len(self._pools) >= NODES_MAX:
                self._pools.clear()
            self._pools[node] = (pool, now)
        policy, read_at = self._policies.get(pool, (None, 0))
        if policy is None or now - read_at > POLICY_S * NS_PER_S:
            held = await newest(self._bus.policy, f"pool.{pool}", PoolPolicy)
            policy = held.value if held is not None else PoolPolicy()
            self._policies[pool] = (policy, now)
        return pool, policy.guard

    async def neighbour(self, record: SliceRecord, slice_id: str) -> LedgerEntry | None:
        """What another slice has on a device of this one's."""
        for placement in record.placements:
            ledger = await self._bus.state.get(f"ledger.{placement.node}", Ledger)
            found = ledger.value.devices.get(placement.device_id, {}).get(slice_id) if ledger is not None else None
            if found is not None:
                return found
        return None

    async def leased_to(self, target: str, victim: str, now: int) -> str:
        """For which other slice something is done to ``target`` now; empty: for none."""
        entry = await self._bus.state.get(f"guard_lease.{target}", GuardLease)
        if entry is None or entry.value.victim in ("", victim):
            return ""
        holder = await self.state(entry.value.victim)
        held = holder is not None and any(step.target == target for step in holding(holder.value))
        return entry.value.victim if held or now - entry.value.at < LEASE_GRACE_NS else ""

    async def lease(self, target: str, victim: str, now: int) -> bool:
        """Take the lease on a neighbour; False when it is another's."""
        if await self.leased_to(target, victim, now):
            return False
        key = f"guard_lease.{target}"
        entry = await self._bus.state.get(key, GuardLease)
        wanted = GuardLease(id=target, victim=victim, at=now)
        try:
            if entry is None:
                await self._bus.state.create(key, wanted)
            else:
                await self._bus.state.update(key, wanted, entry.revision)
        except StaleRevisionError:
            return False
        return True

    async def victim_of(self, target: str) -> str:
        """For which slice the lease on a neighbour is held; empty: for none."""
        entry = await self._bus.state.get(f"guard_lease.{target}", GuardLease)
        return entry.value.victim if entry is not None else ""

    async def let_go(self, target: str, victim: str) -> None:
        """Give the lease back, if it is that slice's."""
        entry = await self._bus.state.get(f"guard_lease.{target}", GuardLease)
        if entry is None or entry.value.victim != victim:
            return
        try:
            await self._bus.state.delete(f"guard_lease.{target}", revision=entry.revision)
        except StaleRevisionError:
            return

    async def spend(self, pool: str, action_id: str, most: int, now: int) -> bool:
        """Take one action out of the pool's budget of an hour; False when it is spent. The same action is counted once."""
        key = f"guard_budget.{pool}"
        while True:
            entry = await self._bus.state.get(key, GuardBudget)
            known = entry.value if entry is not None else GuardBudget(pool=pool)
            recent = {each: at for each, at in known.spent.items() if now - at < HOUR_NS}
            if action_id in recent:
                return True
            if len(recent) >= most:
                return False
            after = replace(known, spent={**recent, action_id: now})
            try:
                if entry is None:
                    await self._bus.state.create(key, after, ttl_s=SHARED_TTL_S)
                else:
                    await self._bus.state.update(key, after, entry.revision, ttl_s=SHARED_TTL_S)
            except StaleRevisionError:
                continue
            return True
