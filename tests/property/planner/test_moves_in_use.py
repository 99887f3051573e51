"""Slices that are moved while programs use them, under crashes, redelivery, rivals and devices that break.

The state machine of the planner's other invariants, with moves that end programs, and plans of them, among the commands.
"""

import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "planner"))
sys.path.insert(0, str(Path(__file__).parent))

from planner_house import l4
from planner_life import COMMON, PICK, SPINS, ByTheLedger, Life, with_only

from mica.events import Inventory, MoveSlice


class MovingLife(Life):
    """A fleet whose second node has devices alike."""

    async def _begin(self) -> None:
        await super()._begin()
        alike = Inventory(node="n2", pool="edge", boot_id="b1", devices=(l4("n2-l4"), l4("n2-p40"), l4("n2-other")))
        self.inventories["n2"] = alike
        await self.house.bus.state.put("inventory.n2", alike)

    @rule(pick=PICK, grace_s=st.sampled_from([0.0, 5.0, 30.0]), spins=SPINS)
    def move_though_in_use(self, pick: int, grace_s: float, spins: int) -> None:
        self._send(MoveSlice(id=self.living(pick), grace_s=grace_s), spins)

    @rule(pick=PICK, spins=SPINS)
    def move_twice(self, pick: int, spins: int) -> None:
        """The second before the first is in force."""
        for _ in range(2):
            self._send(MoveSlice(id=self.living(pick), grace_s=1.0), 0)
        self._send(MoveSlice(id=self.living(pick), grace_s=1.0), spins)


@with_only("request_a_pair", "lose_a_node", "enforce_all", "move_though_in_use")
class LifeThatForgets(ByTheLedger, MovingLife):
    """A control: what a slice has left behind is sold again at once."""


@pytest.mark.timeout(300)
def test_slices_in_use_move_whatever_happens_in_whatever_order() -> None:
    """I1 to I4 and I7 hold after every step, every request ends in one answer, and nothing is left over."""
    run_state_machine_as_test(MovingLife, settings=settings(max_examples=60, stateful_step_count=40, **COMMON))


@pytest.mark.timeout(300)
def test_a_planner_that_sells_what_a_move_left_is_caught() -> None:
    """The property has teeth."""
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run_state_machine_as_test(LifeThatForgets, settings=settings(max_examples=800, stateful_step_count=40, **COMMON))
