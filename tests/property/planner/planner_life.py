"""The planner's life under crashes, redelivery and rivals, for state machines that drive it.

One or two replicas work over a memory bus that dawdles, loses writes and freezes a replica between any two of its writes. After
every step the documents are checked; at the end every request must have exactly one final answer, and nothing may be left over.
"""

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from functools import partialmethod
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck
from hypothesis import Phase as Step
from hypothesis import strategies as st
from hypothesis.stateful import RULE_MARKER, RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "planner"))

from planner_house import GIB, House, Rig, l4, mixed, p40, quiet

from mica.audit import Documents
from mica.audit.invariants import check_invariants
from mica.events import (
    TERMINAL_PHASES,
    Command,
    Control,
    ControlSlice,
    EvictSlice,
    Inventory,
    Ledger,
    Mode,
    MoveSlice,
    Observed,
    Phase,
    ReleaseSlice,
    RequestSlice,
    ResizeSlice,
    ResumeSlice,
    SliceEvicted,
    SliceFailed,
    SliceReady,
    SliceRecord,
    SliceRejected,
    SliceReleased,
    SuspendSlice,
    TenantHoldings,
    TenantPolicy,
    TenantQuota,
)
from mica.planner.domain.claims import Side
from mica.planner.domain.nodes import NodeState

GIBS = st.sampled_from([6, 9, 12, 22, 70])
SHARES = st.sampled_from([None, 200_000, 400_000, 900_000])
MODES = st.sampled_from([None, *Mode])
HOSTS = st.sampled_from([0, 0, 2, 4])  # processors, and GiB of a node's own memory
SPINS = st.sampled_from([0, 4, 11, 23, 47, 80])
PICK = st.integers(0, 40)
QUOTA = TenantQuota(slices=3, vram_bytes=60 * GIB)
Machine = TypeVar("Machine", bound=RuleBasedStateMachine)
PATTERNS = st.sampled_from(["slice.*", "tenant.*", "ledger.*", "slice.placed.*", "slice.rejected.*"])


class Life(RuleBasedStateMachine):
    """A fleet, its tenants, and everything that can go wrong."""

    second_pool = "edge"

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.house = House()
        self.requests: list[tuple[int, RequestSlice]] = []
        self.asked = 0
        self.seed = 0
        self.run(self._begin())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def rig(self) -> Rig:
        self.seed += 1
        return Rig(self.house.bus, seed=self.seed, dawdle=3)

    async def _begin(self) -> None:
        await self.house.bus.policy.put("tenant.t1", TenantPolicy(quota=QUOTA))
        edge = Inventory(node="n2", pool=self.second_pool, boot_id="b1", devices=(l4("n2-l4"), p40("n2-p40")))
        first = replace(mixed("n1"), cpu_milli=8_000, host_memory_bytes=24 * GIB)
        self.inventories = {
            each.node: replace(each, devices=tuple(replace(device, suspends=True) for device in each.devices))
            for each in (first, edge)
        }
        for inventory in self.inventories.values():
            await self.house.add_node(inventory)
        await self.house.start_planner(self.rig())

    def _send(self, command: Command, spins: int) -> None:
        sequence = self.run(self.house.bus.publish(command))
        if isinstance(command, RequestSlice):
            self.requests.append((sequence, command))
        self.run(quiet(spins))

    def living(self, pick: int) -> str:
        """The id of a slice that was placed, or of the last one asked for."""
        living = [e.id for e in self.run(documents(self.house)).records.values() if e.phase is Phase.PLACED]
        return living[pick % len(living)] if living else f"s{self.asked}"

    @rule(
        tenant=st.sampled_from(["t1", "t2"]), gib=GIBS, share=SHARES, mode=MODES, wait=st.sampled_from([0.0, 5.0]),
        devices=st.sampled_from([1, 1, 2]), host=HOSTS, spins=SPINS,
    )  # fmt: skip
    def request(
        self, *, tenant: str, gib: int, share: int | None, mode: Mode | None, wait: float, devices: int, host: int, spins: int
    ) -> None:
        self.asked += 1
        body = RequestSlice(
            tenant=tenant, id=f"s{self.asked}", vram_bytes=gib * GIB, share_ppm=share, mode=mode, queue_s=wait, devices=devices,
            cpu_milli=host * 1000, host_memory_bytes=host * GIB,
        )  # fmt: skip
        self._send(body, spins)

    @rule(first=GIBS, second=GIBS, wait=st.sampled_from([0.0, 5.0]), spins=SPINS)
    def request_a_pair(self, first: int, second: int, wait: float, spins: int) -> None:
        """Two that may be in each other's way, in flight together."""
        for gib in (first, second):
            self.asked += 1
            self._send(RequestSlice(tenant="t2", id=f"s{self.asked}", vram_bytes=gib * GIB, mode=Mode.FCSP, queue_s=wait), 0)
        self.run(quiet(spins))

    @rule(pick=PICK, spins=SPINS)
    @precondition(lambda self: self.requests)
    def repeat_a_request(self, pick: int, spins: int) -> None:
        self._send(self.requests[-1 - pick % len(self.requests)][1], spins)

    @rule(pick=PICK, gib=GIBS, spins=SPINS)
    @precondition(lambda self: self.requests)
    def ask_for_a_taken_id(self, pick: int, gib: int, spins: int) -> None:
        body = self.requests[-1 - pick % len(self.requests)][1]
        self._send(RequestSlice(tenant="t2", id=body.id, vram_bytes=gib * GIB + 1), spins)

    @rule(pick=PICK, evict=st.booleans(), again=st.booleans(), spins=SPINS)
    def release(self, pick: int, evict: bool, again: bool, spins: int) -> None:
        id_ = self.living(pick)
        self._send(EvictSlice(id=id_, again=again) if evict else ReleaseSlice(id=id_), spins)

    @rule(pick=PICK, resumes=st.booleans(), spins=SPINS)
    def suspend(self, pick: int, resumes: bool, spins: int) -> None:
        """One that is in force in a software mode, where there is one."""
        self.enforce_all(20)
        placed = [r for r in self.run(documents(self.house)).records.values() if r.phase is Phase.PLACED]
        soft = [r.id for r in placed if all(each.mode is not Mode.HARDWARE for each in r.placements)]
        self._send(SuspendSlice(id=soft[pick % len(soft)] if soft else self.living(pick), resumes=resumes), spins)

    @rule(pick=PICK, spins=SPINS)
    def resume(self, pick: int, spins: int) -> None:
        away = [r.id for r in self.run(documents(self.house)).records.values() if r.suspended and r.phase is Phase.PLACED]
        self._send(ResumeSlice(id=away[pick % len(away)] if away else self.living(pick)), spins)

    @rule(pick=PICK)
    def make_unportable(self, pick: int) -> None:
        """From now on its programs' memory can not be taken."""
        for enforcer in self.house.enforcers.values():
            enforcer.unportable.add(self.living(pick))

    @rule(ahead=st.integers(-1, 1), spins=SPINS)
    def release_around_a_request(self, ahead: int, spins: int) -> None:
        """A release that may overtake its request."""
        self._send(ReleaseSlice(id=f"s{max(1, self.asked + ahead)}"), spins)

    @rule(pick=PICK, gib=st.none() | GIBS, share=SHARES, spins=SPINS)
    def resize(self, pick: int, gib: int | None, share: int | None, spins: int) -> None:
        self._send(ResizeSlice(id=self.living(pick), vram_bytes=gib * GIB if gib else None, share_ppm=share), spins)

    @rule(pick=PICK, move=st.booleans(), spins=SPINS)
    def control_or_move(self, pick: int, move: bool, spins: int) -> None:
        id_ = self.living(pick)
        self._send(MoveSlice(id=id_) if move else ControlSlice(id=id_, control=Control.PAUSE), spins)

    @rule(spins=SPINS)
    def enforce_all(self, spins: int) -> None:
        for enforcer in self.house.enforcers.values():
            self.run(enforcer.step())
        self.run(quiet(spins))

    @rule(node=st.sampled_from(["n1", "n2"]), spins=SPINS)
    def enforce(self, node: str, spins: int) -> None:
        self.run(self.house.enforcers[node].step())
        self.run(quiet(spins))

    @rule(node=st.sampled_from(["n1", "n2"]), pick=st.integers(0, 9), part=st.sampled_from([0, 50, 100]))
    def allocate(self, node: str, pick: int, part: int) -> None:
        """A process holds a part of what its slice has in force; none that is leaving may take more."""
        enforcer = self.house.enforcers[node]
        live = [(d, s, seen) for d, slices in enforcer.observed.devices.items() for s, seen in slices.items() if seen.vram_bytes]
        if live:
            device, slice_id, seen = live[pick % len(live)]
            wanted = seen.vram_bytes * part // 100
            before = enforcer.used.get((device, slice_id), 0)
            enforcer.used[device, slice_id] = wanted if seen.state == "live" else min(wanted, before)

    @rule(device=st.sampled_from(["n1-h100", "n1-l4", "n2-l4"]), broken=st.booleans())
    def break_device(self, device: str, broken: bool) -> None:
        """New slices can not be made live on it; those that live go on."""
        enforcer = self.house.enforcers[device[:2]]
        if not broken:
            enforcer.broken.discard(device)
        elif not enforcer.observed.devices.get(device):
            enforcer.broken.add(device)

    @rule(spins=SPINS)
    def redeliver(self, spins: int) -> None:
        self.house.bus.deliver_again("COMMANDS", "planner")
        self.run(quiet(spins))

    @rule(pick=st.integers(0, 1), pattern=PATTERNS, after=st.booleans())
    def lose_a_write(self, pick: int, pattern: str, after: bool) -> None:
        self.house.planners[pick % len(self.house.planners)][0].lose(pattern, after=after)

    @rule()
    @precondition(lambda self: len(self.house.planners) < 2)
    def add_a_replica(self) -> None:
        self.run(self.house.start_planner(self.rig()))

    @rule(pick=st.integers(0, 1), writes=st.integers(1, 6))
    def doom_a_replica(self, pick: int, writes: int) -> None:
        """It freezes for good after so many more writes, in the middle of whatever it is doing."""
        rig, _ = self.house.planners[pick % len(self.house.planners)]
        rig.budget = writes if rig.budget is None else rig.budget

    @rule(spins=SPINS)
    def bury_the_frozen(self, spins: int) -> None:
        self.run(self._bury(spins))

    async def _bury(self, spins: int) -> None:
        for each in [each for each in self.house.planners if each[0].spent]:
            each[1].cancel()
            await asyncio.gather(each[1], return_exceptions=True)
            self.house.planners.remove(each)
            self.house.bus.deliver_again("COMMANDS", "planner")
        if not self.house.planners:
            await self.house.start_planner(self.rig())
        await quiet(spins)

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(self.house.pass_time(seconds))

    @rule(node=st.sampled_from(["n1", "n2"]))
    def lose_a_node(self, node: str) -> None:
        """Its enforcer is silent until every lease and margin has run out, and then comes back as it was."""
        self.run(self.house.pass_time(45.0, silent=node))
        self.run(self.house.enforcers[node].renew())

    @rule(device=st.sampled_from(["n1-h100", "n1-l4", "n2-p40"]), there=st.booleans(), spins=SPINS)
    def change_the_inventory(self, device: str, there: bool, spins: int) -> None:
        inventory = self.inventories[device[:2]]
        left = tuple(each for each in inventory.devices if there or each.id != device)
        self.run(self.house.bus.state.put(f"inventory.{device[:2]}", replace(inventory, devices=left)))
        self.run(quiet(spins))

    @invariant()
    def nothing_is_oversold(self) -> None:
        assert check_invariants(self.run(documents(self.house))) == []

    def teardown(self) -> None:
        try:
            self.run(self._come_to_rest())
            self._every_request_has_one_answer()
            self.run(self._nothing_is_left_over())
        finally:
            self.run(self.house.stop_planners())
            self.run(self.loop.shutdown_asyncgens())
            self.loop.close()

    async def _come_to_rest(self) -> None:
        """Everything works again for long enough."""
        for enforcer in self.house.enforcers.values():
            enforcer.used.clear()
            enforcer.broken.clear()
        for node, inventory in self.inventories.items():
            await self.house.bus.state.put(f"inventory.{node}", inventory)
        await self.house.stop_planners()
        await self.house.start_planner(self.rig())
        self.house.bus.deliver_again("COMMANDS", "planner")
        for _ in range(8):
            await self.house.settle(2)
            await self.house.pass_time(8.0)

    def _every_request_has_one_answer(self) -> None:
        assert self.house.bus.deliver_again("COMMANDS", "planner") == 0
        finals: dict[str, set[str]] = {}
        ends: set[str] = set()
        for fact in self.house.bus.published("slice.*.*"):
            if isinstance(fact, SliceReady | SliceRejected | SliceFailed):
                finals.setdefault(fact.id, set()).add(f"{type(fact).__name__} {fact.generation}")
            elif isinstance(fact, SliceReleased | SliceEvicted):
                ends.add(fact.id)
        for sequence, request in self.requests:
            own = finals.get(f"seq-{sequence}", set())
            answers = own or finals.get(request.id or "", set())
            assert len(answers) == 1 or (not answers and request.id in ends), self.story(sequence, request.id)

    def story(self, sequence: int, id_: str | None) -> object:
        """Everything that was said about a request, for whoever reads a failure."""
        facts = self.house.bus.published(f"slice.*.{id_}", f"slice.*.seq-{sequence}")
        return sequence, [(type(fact).__name__, fact) for fact in facts], self.run(documents(self.house)).records.get(id_ or "")

    async def _nothing_is_left_over(self) -> None:
        now = await documents(self.house)
        assert check_invariants(now) == []
        placed = {id_: record for id_, record in now.records.items() if record.phase is Phase.PLACED}
        assert {r.phase for r in now.records.values()} <= {Phase.PLACED, *TERMINAL_PHASES}
        standing: dict[str, int] = {}
        for ledger in now.ledgers.values():
            notes = (ledger.departures, ledger.held, ledger.fenced)
            assert notes == ({}, {}, {}), notes
            for slices in ledger.devices.values():
                standing.update({id_: entry.generation for id_, entry in slices.items()})
        assert standing == {id_: record.generation for id_, record in placed.items()}
        for tenant, holdings in now.tenants.items():
            expected = {
                id_: (sum(p.vram_bytes for p in r.placements), sum(p.share_ppm for p in r.placements))
                for id_, r in placed.items()
                if r.request.tenant == tenant
            }
            charged = {id_: (h.vram_bytes, h.share_ppm) for id_, h in holdings.holdings.items()}
            assert charged == expected, (tenant, charged, expected)


async def documents(house: House) -> Documents:
    """The bus's documents at this moment."""

    async def read(pattern: str, kind: type[Any], bucket: Any = house.bus.state) -> dict[str, Any]:
        found = {}
        for key in await bucket.keys(pattern):
            found[key.split(".", 1)[1]] = (await bucket.get(key, kind)).value
        return found

    return Documents(
        inventories=await read("inventory.*", Inventory),
        records=await read("slice.*", SliceRecord),
        tenants=await read("tenant.*", TenantHoldings),
        ledgers=await read("ledger.*", Ledger),
        observed=await read("observed.*", Observed),
        policies=await read("tenant.*", TenantPolicy, house.bus.policy),
    )


def with_only(*kept: str) -> Callable[[type[Machine]], type[Machine]]:
    """Of a machine's rules only these: a control looks where its fault shows itself, and finds it within a few lives.

    What is checked stays the same. With every rule, it would depend on luck how many hundred lives that takes.
    """

    def lessen(machine: type[Machine]) -> type[Machine]:
        rules = {name: getattr(value, RULE_MARKER) for name, value in inspect.getmembers(machine) if hasattr(value, RULE_MARKER)}
        assert rules.keys() >= set(kept), set(kept) - rules.keys()
        for name in rules.keys() - set(kept):
            setattr(machine, name, partialmethod(rules[name].function))  # what others may call, and no step does
        return machine

    return lessen


class ByTheLedger:
    """For a control, in front of a life: capacity is free as soon as the ledger says so, whatever is still held."""

    def __init__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        take = NodeState._take

        def take_ledger_only(state: NodeState, side: Side, *documents: Any) -> None:
            if side is Side.LEDGER:
                take(state, side, *documents)

        self.patch.setattr(NodeState, "_take", take_ledger_only)
        super().__init__()

    def teardown(self) -> None:
        try:
            super().teardown()  # type: ignore[misc]  # of the life behind it
        finally:
            self.patch.undo()


COMMON = {
    "deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None, "print_blob": False,
    "phases": [Step.generate],
}  # fmt: skip
