"""What every handler of the planner works with, and the steps that they share.

Owns nothing but the wiring. Invariant: a step that ends in AGAIN has left no capacity reserved, and its caller reads the record
anew.
"""

from collections.abc import Awaitable
from enum import Enum, auto

from msgspec import Struct

from mica.bus import Bus, Clock, Delivery, Entry
from mica.events import (
    SLICES,
    Command,
    Fact,
    Holding,
    LedgerEntry,
    Phase,
    RequestSlice,
    SliceEvicted,
    SliceLost,
    SliceReady,
    SliceRecord,
    SliceReleased,
    SliceResized,
    TenantQuota,
)
from mica.observability import Tracer
from mica.planner.commits import Outcome, Spawn
from mica.planner.domain.answers import answer_of, message_id
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.ledgers import nodes_of, present, size_of
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.quotas import holding_of, is_more
from mica.planner.policies import Policies
from mica.planner.store import Ledgers, Records, Tenants
from mica.planner.turns import Turns


class Again(Enum):
    """The ground moved under a step."""

    AGAIN = auto()


AGAIN = Again.AGAIN
Answered = Fact | Again | None
"""What is to be published about a command; None when the enforcer or somebody before has the word."""
ATTEMPTS = 16
"""How often a command is decided anew while other replicas win, before it is given back to the stream."""
ENDINGS = (SliceReleased, SliceEvicted, SliceLost)
ENDED = frozenset({Phase.LOST, Phase.FAILED, Phase.RELEASED, Phase.EVICTED})
"""What a ledger still holds for such a slice is not sold, but is charged to nobody: the planner has given it up, or the enforcers
have confirmed that nothing of it is left."""


class ContendedError(Exception):
    """Other replicas won every time. Transient: the command is delivered again."""


class Call(Struct):
    """A command on its way through the planner."""

    delivery: Delivery
    command: Command
    id: str
    sequence: int
    traceparent: str = ""
    waits: int = 0
    """How often it had to wait for what came before it."""


class Desk:
    """The planner's documents, the fleet they make, and the world."""

    def __init__(self, bus: Bus, clock: Clock, tracer: Tracer, policies: Policies, spawn: Spawn) -> None:
        self.bus = bus
        self.clock = clock
        self.tracer = tracer
        self.policies = policies
        self.spawn = spawn
        self.fleet = Fleet()
        self.records = Records(bus.state)
        self.tenants = Tenants(bus.state, spawn)
        self.ledgers = Ledgers(bus.state, self.fleet, spawn, clock)
        self.turns = Turns()
        self.mine: set[str] = set()
        """The slices whose last ledger write was this replica's: it follows them up at once, the others later."""
        self.untidy: set[str] = set()
        """The slices whose ledger entry may not be what their record says; looked at in time."""
        self.now_ns = clock.unix_ns

    async def say(self, fact: Fact, traceparent: str = "") -> None:
        """Publish a fact; a repetition is dropped by the stream."""
        await self.bus.publish(fact, traceparent=traceparent, message_id=message_id(fact))

    async def say_record(self, record: SliceRecord) -> None:
        """Publish what the record's phase has to say."""
        fact = answer_of(record)
        if fact is not None:
            await self.say(fact, record.traceparent)

    async def load_tenant(self, tenant: str) -> None:
        """See to it that the tenant's holdings are known."""
        document = self.tenants.of(tenant)
        if not document.known:
            await document.refresh()

    async def load_partner(self, request: RequestSlice) -> None:
        """See to it that the slice is known by which the request wants to be."""
        if request.near is not None:
            await self.records.read(request.near)

    async def freshen(self, tenant: str) -> None:
        """Know whatever a refusal would rest on as the server has it now."""
        document = self.tenants.of(tenant).refresh()
        await self.ledgers.catch_up()
        await document

    async def ready_fact(self, slice_id: str) -> SliceReady | None:
        """What the enforcer has said of the slice that is alive now; an older one with that id has ended."""
        last: SliceReady | None = None
        for heard in await self.bus.history(SLICES.name, [f"slice.*.{slice_id}"]):
            if isinstance(heard.event, SliceReady):
                last = heard.event
            elif isinstance(heard.event, ENDINGS):
                last = None
        return last

    async def was_ready(self, record: SliceRecord) -> bool:
        """Whether it was told ready: then that was its one answer, and it can end, but not be answered otherwise.

        Of a slice on one node the enforcer says so, as long as the ledger has its entry: look after that was taken out. Of one
        that has lost its node, what counts is whether it was told to be in force since.
        """
        before = record.lost.generation if record.lost is not None else 0
        if len(nodes_of(record.placements)) > 1:
            return record.ready_generation > before
        if record.lost is None:
            return await self.ready_fact(record.id) is not None
        heard = await self.bus.history(SLICES.name, [f"slice.*.{record.id}"])
        told = (each.event for each in heard if isinstance(each.event, SliceReady | SliceResized))
        return any(each.generation > before for each in told)

    def cost_of(self, record: SliceRecord) -> Holding:
        """What a placed slice is charged at: what its record says, or what is still held of it if that is more."""
        placed = holding_of(record.placements)
        return _larger(placed, self._held(record.id, record.request.tenant)) or placed

    async def settle_tenant(self, slice_id: str, *tenants: str) -> None:
        """Charge the slice to each of ``tenants`` as its record says, or at what is still held of it if that is more.

        What no ledger has given yet is charged only within the quota: the record's author may have died before it asked.
        """
        entry = await self.records.read(slice_id)
        for tenant in tenants:
            holding = _charged(entry, tenant)
            if entry is not None and entry.value.phase not in ENDED:
                holding = _larger(holding, self._held(slice_id, tenant))
            if holding is None:
                await self.tenants.uncharge(tenant, slice_id)
                continue
            given = _larger(self._given(slice_id, tenant), self._held(slice_id, tenant))
            quota = self.policies.tenant(tenant).quota if is_more(holding, given) else TenantQuota()
            await self.tenants.settle(tenant, slice_id, holding, quota)

    def _given(self, slice_id: str, tenant: str) -> Holding | None:
        """What ledgers give to the slice."""
        entries = [entry for node in self.fleet.census.holders(slice_id) for entry in present(node.ledger, slice_id).values()]
        return _sum([each for each in entries if each.tenant == tenant])

    def _held(self, slice_id: str, tenant: str) -> Holding | None:
        """What the slice had and may still use: a part of a gang that was taken back, for instance.

        The most that any one generation gave it: it changes its place only while it holds nothing there.
        """
        tables = [held for node in self.fleet.census.holders(slice_id) for held in node.ledger.held.values() if slice_id in held]
        entries = [held[slice_id].entry for held in tables if held[slice_id].entry.tenant == tenant]
        most: Holding | None = None
        for generation in {each.generation for each in entries}:
            most = _larger(most, _sum([each for each in entries if each.generation == generation]))
        return most


def _charged(entry: Entry[SliceRecord] | None, tenant: str) -> Holding | None:
    if entry is None or entry.value.request.tenant != tenant or entry.value.phase not in (Phase.PLACED, Phase.RELEASING):
        return None
    return holding_of(entry.value.placements)


def _sum(entries: list[LedgerEntry]) -> Holding | None:
    if not entries:
        return None
    sizes = [size_of(each) for each in entries]
    return Holding(vram_bytes=sum(vram_bytes for vram_bytes, _ in sizes), share_ppm=sum(share_ppm for _, share_ppm in sizes))


def _larger(one: Holding | None, other: Holding | None) -> Holding | None:
    if one is None or other is None:
        return one or other
    return Holding(vram_bytes=max(one.vram_bytes, other.vram_bytes), share_ppm=max(one.share_ppm, other.share_ppm))


async def applied(answer: Awaitable[Outcome | Refusal]) -> bool:
    """Whether an edit that cannot be refused went through."""
    return await answer is Outcome.APPLIED
