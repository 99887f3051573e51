"""Nodes that fall silent for any time, and shrinks below what is used, under crashes, redelivery, rivals and broken devices.

The state machine of the planner's other invariants, with a third node and one more: a slice that is no gang never runs on two
nodes. Enforcers stop what runs when their lease is over, and what the ledger no longer has for them does not run again.
"""

import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "planner"))
sys.path.insert(0, str(Path(__file__).parent))

from planner_house import l4, quiet
from planner_life import COMMON, PICK, SPINS, ByTheLedger, Life, with_only

from mica.events import (
    Control,
    ControlSlice,
    Inventory,
    Ledger,
    Mode,
    MoveSlice,
    NodeLoss,
    PoolPolicy,
    RequestSlice,
    ResizeSlice,
    Tier,
)
from mica.planner import upkeep
from mica.planner.domain.nodes import NodeState

GIB = 1 << 30
NODES = ("n1", "n2", "n3")
LONG_S = 45.0


class LosingLife(Life):
    """A fleet of three nodes, of which two are alike."""

    second_pool = "default"
    ask_for_a_taken_id = request_a_pair = release_around_a_request = repeat_a_request = None
    control_or_move = resize = change_the_inventory = lose_a_node = None

    def __init__(self) -> None:
        """Three slices that hold all that they have stand on it from the start."""
        super().__init__()
        for tier in Tier:
            self.request_of_a_tier(tier=tier, gib=8, share=100_000, mode=Mode.FCSP, nodes=1, spins=80)
        self.enforce_all(spins=80)
        self.hold_all()

    async def _begin(self) -> None:
        await super()._begin()
        spare = Inventory(node="n3", pool="default", boot_id="b1", devices=(l4("n3-l4"), l4("n3-other")))
        self.inventories["n3"] = spare
        await self.house.add_node(spare)
        await self.house.bus.policy.put("pool.default", PoolPolicy(on_node_loss=NodeLoss.BURST, loss_queue_s=20.0))
        await quiet()

    @rule(
        tier=st.sampled_from(list(Tier)), gib=st.sampled_from([8, 16, 20]), share=st.sampled_from([100_000, 400_000]),
        mode=st.sampled_from([None, Mode.FCSP, Mode.FCSP]), nodes=st.sampled_from([1, 1, 1, 2]), spins=SPINS,
    )  # fmt: skip
    def request_of_a_tier(self, *, tier: Tier, gib: int, share: int, mode: Mode | None, nodes: int, spins: int) -> None:
        self.asked += 1
        body = RequestSlice(
            tenant="t2", id=f"s{self.asked}", vram_bytes=gib * GIB, share_ppm=share, tier=tier, queue_s=5.0, mode=mode,
            nodes=nodes, devices=nodes,
        )  # fmt: skip
        self._send(body, spins)

    @rule(
        node=st.sampled_from(NODES), seconds=st.sampled_from([4.0, 12.0, 31.0, 38.0, LONG_S]), enforce=st.booleans(), spins=SPINS
    )
    def silence(self, node: str, seconds: float, enforce: bool, spins: int) -> None:
        """Cut a node off for a while, during which the others go on; it comes back with what it had."""
        left = seconds
        while left > 0:
            self.run(self.house.pass_time(min(4.0, left), silent=node))
            left -= 4.0
            for each, enforcer in self.house.enforcers.items():
                if each != node:
                    self.run(enforcer.step())
            self.nothing_runs_twice()
        self.run(self.house.enforcers[node].renew())
        self.nothing_runs_twice()
        if enforce:
            self.run(self.house.enforcers[node].step())
        self.run(quiet(spins))

    @rule(pick=PICK, part=st.sampled_from([10, 40, 80, 150]), grace_s=st.sampled_from([0.0, 1.0, 20.0]), spins=SPINS)
    def resize_around_what_is_used(self, pick: int, part: int, grace_s: float, spins: int) -> None:
        id_ = self.living(pick)
        used = self.used(id_)
        vram_bytes = max(1, used * part // 100) if used else 2 * GIB
        self._send(ResizeSlice(id=id_, vram_bytes=vram_bytes, grace_s=grace_s, may_move=part == 150), spins)

    @rule(pick=PICK, parts=st.tuples(*[st.sampled_from([20, 60, 100])] * 2), share=st.sampled_from([None, 50_000]), spins=SPINS)
    def resize_twice(self, pick: int, parts: tuple[int, int], share: int | None, spins: int) -> None:
        """The second while the first waits, and something else after it."""
        id_ = self.living(pick)
        used = self.used(id_) or 8 * GIB
        for part in parts:
            self._send(ResizeSlice(id=id_, vram_bytes=max(1, used * part // 100), grace_s=2.0), 4)
        if share is not None:
            self._send(ResizeSlice(id=id_, share_ppm=share), 4)
        else:
            self._send(ControlSlice(id=id_, control=Control.THROTTLE), 4)
        self.run(quiet(spins))

    @rule(pick=PICK, spins=SPINS)
    def move_what_shrinks(self, pick: int, spins: int) -> None:
        self._send(MoveSlice(id=self.living(pick), grace_s=1.0), spins)

    @rule(node=st.sampled_from(NODES))
    def end_the_programs_that_hold_too_much(self, node: str) -> None:
        enforcer = self.house.enforcers[node]
        enforcer.used = dict.fromkeys(enforcer.used, 0)

    @rule()
    def hold_all(self) -> None:
        """Programs take all the memory that their slices have in force; none that is leaving takes more."""
        for enforcer in self.house.enforcers.values():
            for device_id, slices in enforcer.observed.devices.items():
                for id_, seen in slices.items():
                    before = enforcer.used.get((device_id, id_), 0)
                    entry = self.run(self.entry_of(enforcer.node, device_id, id_))
                    enforcer.used[device_id, id_] = max(before, entry) if seen.state == "live" else before

    async def entry_of(self, node: str, device_id: str, id_: str) -> int:
        """What the ledger gives, as it is in force at once; 0 where it gives nothing any more."""
        stored = await self.house.bus.state.get(f"ledger.{node}", Ledger)
        entry = stored.value.devices.get(device_id, {}).get(id_) if stored is not None else None
        seen = self.house.enforcers[node].observed.devices[device_id][id_]
        return min(entry.vram_bytes, seen.vram_bytes) if entry is not None else 0

    def used(self, id_: str) -> int:
        return max(
            [held for enforcer in self.house.enforcers.values() for (_, s), held in enforcer.used.items() if s == id_] + [0]
        )

    @invariant()
    def nothing_runs_twice(self) -> None:
        where: dict[str, list[str]] = {}
        for name, enforcer in self.house.enforcers.items():
            for id_ in enforcer.running():
                where.setdefault(id_, []).append(name)
        gangs = {request.id for _, request in self.requests if request.nodes > 1}
        assert {id_: nodes for id_, nodes in where.items() if len(nodes) > 1 and id_ not in gangs} == {}


@with_only("silence")
class HastyLife(LosingLife):
    """A control: a planner that takes a node for lost as soon as it has not been heard of for some seconds."""

    def __init__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(upkeep, "LEASE_MARGIN_NS", 0)
        leased = NodeState.leased
        hasty_ns = 22_000_000_000

        def hastily(node: NodeState, now_ns: int) -> bool:
            return leased(node, now_ns + hasty_ns)

        self.patch.setattr(NodeState, "leased", hastily)

        async def is_gone(_: upkeep.Upkeep, node: NodeState) -> bool:
            return not node.leased(self.house.clock.unix_ns())

        self.patch.setattr(upkeep.Upkeep, "_is_gone", is_gone)
        super().__init__()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.patch.undo()


@with_only("silence", "request_of_a_tier", "enforce_all")
class ForgetfulLife(LosingLife):
    """A control: enforcers that go on with what they had when their lease is renewed, whatever the ledger says by then."""

    async def _begin(self) -> None:
        await super()._begin()
        for enforcer in self.house.enforcers.values():
            enforcer.look_at_lease = lambda: None  # type: ignore[method-assign]


class LifeThatSellsWhatShrinks(ByTheLedger, LosingLife):
    """A control: what a slice is to let go of is sold before it has."""


@pytest.mark.timeout(300)
def test_a_slice_of_a_lost_node_never_runs_twice_whatever_happens_in_whatever_order() -> None:
    """Nor is anything oversold, every request ends in one answer, and nothing is left over."""
    run_state_machine_as_test(LosingLife, settings=settings(max_examples=60, stateful_step_count=40, **COMMON))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", [HastyLife, ForgetfulLife, LifeThatSellsWhatShrinks])
def test_a_planner_or_enforcer_without_its_guards_is_caught(broken: type[Life]) -> None:
    """The property has teeth: without the lease's end, the fence, or what is held, it fails."""
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run_state_machine_as_test(broken, settings=settings(max_examples=800, stateful_step_count=40, **COMMON))
