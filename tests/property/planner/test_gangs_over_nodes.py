"""Gangs over two nodes under crashes, redelivery and rivals: all of a gang or nothing, and never a part of it ready.

The state machine of the planner's other invariants, with gangs over both of its nodes among the requests.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "planner"))
sys.path.insert(0, str(Path(__file__).parent))

from planner_house import GIB, quiet
from planner_life import COMMON, GIBS, SPINS, Life, documents, with_only

from mica.events import Mode, Phase, RequestSlice, SliceReady, SliceResized
from mica.planner.domain.ledgers import stands
from mica.planner.gangs import Gangs
from mica.planner.placements import Placements


class GangLife(Life):
    """A fleet with gangs over its two nodes."""

    second_pool = "default"

    @rule(
        tenant=st.sampled_from(["t1", "t2"]), gib=GIBS, mode=st.sampled_from([None, Mode.FCSP, Mode.TIMESLICE]),
        wait=st.sampled_from([0.0, 5.0]), devices=st.sampled_from([2, 2, 4]), spins=SPINS,
    )  # fmt: skip
    def request_a_gang(self, *, tenant: str, gib: int, mode: Mode | None, wait: float, devices: int, spins: int) -> None:
        """Often two of them at once, that want the same devices."""
        for _ in range(1 + spins % 2):
            self.asked += 1
            body = RequestSlice(
                tenant=tenant, id=f"s{self.asked}", vram_bytes=gib * GIB, mode=mode, queue_s=wait, devices=devices, nodes=2
            )
            self._send(body, 0)
        self.run(quiet(spins))

    @invariant()
    def no_part_of_a_gang_was_ever_told_to_be_ready(self) -> None:
        for fact in self.house.bus.published("slice.ready.*", "slice.resized.*"):
            assert isinstance(fact, SliceReady | SliceResized)
            for node in {each.node for each in fact.placements}:
                assert (fact.id, fact.generation) in self.house.enforcers[node].lived, (node, fact)

    async def _nothing_is_left_over(self) -> None:
        await super()._nothing_is_left_over()
        now = await documents(self.house)
        for record in now.records.values():
            if record.phase is Phase.PLACED:
                assert all(stands(ledger, record) for ledger in now.ledgers.values()), record


class PatchedLife(GangLife):
    """For a control: a part of the planner is another while it lives."""

    def __init__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.spoil()
        super().__init__()

    def spoil(self) -> None:
        raise NotImplementedError

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.patch.undo()


@with_only("request_a_gang", "enforce")
class LifeWithHalfReady(PatchedLife):
    """A control: a gang is ready as soon as its first node is."""

    def spoil(self) -> None:
        def is_live(gangs: Gangs, record: Any) -> bool:
            return record.phase is Phase.PLACED and any(
                gangs._desk.fleet.node(each.node).is_live(record.id, record.generation) for each in record.placements
            )

        self.patch.setattr(Gangs, "_is_live", is_live)


@with_only("request_a_gang", "enforce", "enforce_all")
class LifeWithoutTakingBack(PatchedLife):
    """A control: a gang that one node does not take is answered otherwise without a fence, as if it stood nowhere."""

    def spoil(self) -> None:
        async def enter(placements: Placements, entry: Any, epoch: int) -> Any:
            first = sorted({each.node for each in entry.value.placements})[:1]
            for node in first:
                await placements._desk.ledgers.align(node, entry.value, epoch)
            return placements._entered(entry.value)

        self.patch.setattr(Placements, "enter", enter)


@pytest.mark.timeout(300)
def test_a_gang_is_whole_or_not_at_all_whatever_happens_in_whatever_order() -> None:
    """None is ready in part, every request has one answer, no invariant breaks, and nothing is left over."""
    run_state_machine_as_test(GangLife, settings=settings(max_examples=100, stateful_step_count=40, **COMMON))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", [LifeWithHalfReady, LifeWithoutTakingBack])
def test_a_planner_without_its_guards_is_caught(broken: type[GangLife]) -> None:
    """The property has teeth: it fails when one node is enough to be ready, and when one ledger is enough to be placed."""
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run_state_machine_as_test(broken, settings=settings(max_examples=800, stateful_step_count=40, **COMMON))
