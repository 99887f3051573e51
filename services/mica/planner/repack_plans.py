"""Plans of moves on what the planner knows now.

Invariant: the search works on a picture, beside the event loop; nothing is written.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from msgspec import Struct

from mica.events import GuardState, Phase, Repacking, RepackPool, RepackState, SliceRecord, Tier
from mica.planner.deciding import pins_of
from mica.planner.desk import Desk
from mica.planner.domain.repack_sites import Candidate, Rules, Site, site_of
from mica.planner.domain.repacking import Plan, plan
from mica.planner.waiting import Waiting

GUARDED_NS: Final = 600_000_000_000
"""A slice for which the SLO guard has acted within so long is near its limits."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What kind of plan: as in ``slice.repack``, with what it leaves out taken from the pool's policy."""

    pool: str
    moves_max: int
    tiers: frozenset[Tier]
    restarts: bool
    min_gain: float
    rest_s: float = 0.0

    @classmethod
    def by_command(cls, command: RepackPool, policy: Repacking) -> "Wanted":
        """What a command asks for."""
        tiers = policy.tiers if command.tiers is None else command.tiers
        restarts = policy.restarts if command.restarts is None else command.restarts
        return cls(
            pool=command.pool, moves_max=command.moves_max, tiers=frozenset(tiers), restarts=restarts, min_gain=command.min_gain
        )

    @classmethod
    def by_policy(cls, pool: str, policy: Repacking, moves_max: int) -> "Wanted":
        """What a policy asks for."""
        return cls(
            pool=pool, moves_max=moves_max, tiers=frozenset(policy.tiers), restarts=policy.restarts, min_gain=policy.min_gain,
            rest_s=policy.rest_s,
        )  # fmt: skip


class Planned(Struct, frozen=True):
    """A plan, and why slices stay where they are."""

    plan: Plan
    held_back: Counter[str]


class Plans:
    """Looks at pools."""

    def __init__(self, desk: Desk, waiting: Waiting) -> None:
        self._desk = desk
        self._waiting = waiting

    async def make(self, wanted: Wanted, state: RepackState | None = None, among: Collection[Candidate] | None = None) -> Planned:
        """The best plan that is found. ``among``: of these moves only, where somebody else has chosen them."""
        nodes = [node for node in self._desk.fleet.nodes.values() if node.inventory is not None and node.pool == wanted.pool]
        sites, held_back = await self._sites([node.name for node in nodes], wanted, state)
        found = await asyncio.to_thread(plan, sites, wanted.moves_max, min_net=wanted.min_gain, among=among)
        return Planned(found, held_back)

    async def site(self, node: str, wanted: Wanted) -> Site:
        """One node as it is now."""
        sites, _ = await self._sites([node], wanted, None)
        return sites[0]

    async def _sites(self, nodes: Sequence[str], wanted: Wanted, state: RepackState | None) -> tuple[list[Site], Counter[str]]:
        desk = self._desk
        records = await self._records()
        rules = await self._rules(wanted, records, state)
        held_back: Counter[str] = Counter()
        sites = []
        for name in nodes:
            site, its = site_of(desk.fleet.node(name), records, rules)
            sites.append(site)
            held_back += its
            await asyncio.sleep(0)  # each node is a picture of its own: others have their turn between two of them
        return sites, held_back

    async def _records(self) -> dict[str, SliceRecord]:
        """Of every slice in a ledger."""
        ledgers = [node.ledger for node in self._desk.fleet.nodes.values()]
        ids = {id_ for ledger in ledgers for slices in ledger.devices.values() for id_ in slices}
        found = [await self._desk.records.get(id_) for id_ in sorted(ids)]
        return {entry.value.id: entry.value for entry in found if entry is not None}

    async def _rules(self, wanted: Wanted, records: dict[str, SliceRecord], state: RepackState | None) -> Rules:
        desk = self._desk
        now = desk.now_ns()
        tenants = {record.request.tenant for record in records.values()} | {""}
        pins = {tenant: pins_of(desk, tenant) for tenant in tenants}
        since = now - int(wanted.rest_s * 1e9)
        lately = {id_ for id_, at in state.moved.items() if at > since} if state is not None and wanted.rest_s else set()
        return Rules(
            pins_of=lambda tenant: pins.get(tenant, pins[""]),
            tiers=wanted.tiers,
            restarts=wanted.restarts,
            changed_before=since if wanted.rest_s else now + 1,
            barred=self._waiting.kept(),
            troubled=frozenset(await self._troubled(records, now)),
            near=frozenset(record.request.near for record in records.values() if record.request.near is not None),
            moved_lately=frozenset(lately),
        )

    async def _troubled(self, records: dict[str, SliceRecord], now: int) -> set[str]:
        """The slices whose SLO is broken, or for which the guard has just acted."""
        found = set()
        for record in records.values():
            if record.request.slo is not None and record.phase is Phase.PLACED:
                entry = await self._desk.bus.state.get(f"guard.{record.id}", GuardState)
                if entry is not None and (entry.value.breaches or now - entry.value.last_action_at < GUARDED_NS):
                    found.add(record.id)
        return found
