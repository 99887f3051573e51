"""The planner under crashes, redelivery and rivals: whatever happens in whatever order, the invariants hold at every moment.

A state machine drives one or two replicas over a memory bus that dawdles, loses writes and freezes a replica between any two
of its writes. After every step the documents are checked; at the end every request must have exactly one final answer, and
nothing may be left over.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from planner_life import COMMON, PICK, ByTheLedger, Life, Rig, with_only

from mica.bus import StaleRevisionError, Write
from mica.events import Document, Mode, RequestSlice
from mica.planner.store import LEDGERS

GIB = 1 << 30


class LifeWithoutNews(Life):
    """Two replicas from the first request on, whose watches of the ledgers bring nothing after what was there at their start."""

    def __init__(self) -> None:
        self.deaf = True
        super().__init__()
        self.run(self.house.start_planner(self.rig()))

    async def _come_to_rest(self) -> None:
        self.deaf = False
        await super()._come_to_rest()

    def rig(self) -> Rig:
        rig = super().rig()
        watch = rig.state.watch

        async def watch_once(pattern: str, kind: type[Any]) -> Any:
            async for changes in watch(pattern, kind):
                yield changes
                if pattern == LEDGERS and self.deaf:
                    await asyncio.get_running_loop().create_future()

        rig.state.watch = watch_once  # type: ignore[method-assign]
        return rig


@with_only("request_a_pair", "release", "enforce_all")
class LifeWithoutCompare(LifeWithoutNews):
    """A control: ledgers are written whatever they hold, by replicas that do not hear of each other."""

    def rig(self) -> Rig:
        rig = super().rig()

        async def update(key: str, value: Document, revision: int, *, ttl_s: float = 0) -> int:
            if key.startswith("ledger."):
                return int(await rig.write(key, lambda: self.house.bus.state.put(key, value)))
            return int(await rig.write(key, lambda: self.house.bus.state.update(key, value, revision, ttl_s=ttl_s)))

        rig.state.update = update  # type: ignore[method-assign]
        return rig


@with_only("request", "ask_for_a_taken_id", "add_a_replica", "enforce_all")
class LifeWithoutChain(Life):
    """A control: what is written at once is written each for itself, whatever became of the one before."""

    def rig(self) -> Rig:
        rig = super().rig()

        async def chain(writes: Sequence[Write]) -> list[int]:
            revisions: list[int] = []
            for index, each in enumerate(writes):
                with suppress(StaleRevisionError):
                    revision = await rig.state.update(each.key, each.value, each.revision)
                    revisions += [revision] if len(revisions) == index else []
            return revisions

        rig.state.chain = chain  # type: ignore[method-assign]
        return rig


class LifeWithSuspensions(Life):
    """Three slices in a software mode live from the start, and two more rules suspend them and bring them back."""

    async def _begin(self) -> None:
        await super()._begin()
        for gib in (6, 9, 12):
            self.asked += 1
            body = RequestSlice(tenant="t2", id=f"s{self.asked}", vram_bytes=gib * GIB, mode=Mode.FCSP, share_ppm=200_000)
            self.requests.append((await self.house.bus.publish(body), body))
        await self.house.settle()

    @rule(pick=PICK, resumes=st.booleans(), settled=st.booleans())
    def suspend_once_more(self, pick: int, resumes: bool, settled: bool) -> None:
        self.suspend(pick=pick, resumes=resumes, spins=47)
        if settled:
            self.enforce_all(47)

    @rule(pick=PICK, settled=st.booleans())
    def resume_once_more(self, pick: int, settled: bool) -> None:
        self.resume(pick=pick, spins=47)
        if settled:
            self.enforce_all(47)


class LifeByTheLedger(ByTheLedger, Life):
    """A control: what is held back is sold."""


@pytest.mark.timeout(300)
def test_the_invariants_hold_whatever_happens_in_whatever_order() -> None:
    """I1 to I4, I7 and I8 hold after every step, every request ends in one answer, and nothing is left over."""
    run_state_machine_as_test(Life, settings=settings(max_examples=100, stateful_step_count=40, **COMMON))


@pytest.mark.timeout(300)
def test_the_invariants_hold_while_slices_are_suspended_and_come_back() -> None:
    """The same, where most of what happens is suspending and resuming."""
    run_state_machine_as_test(LifeWithSuspensions, settings=settings(max_examples=40, stateful_step_count=40, **COMMON))


@pytest.mark.timeout(300)
def test_the_invariants_hold_where_no_replica_hears_of_the_others_ledgers() -> None:
    """What a watch brings makes nothing safe: without it, compare-and-set alone holds all of that."""
    run_state_machine_as_test(LifeWithoutNews, settings=settings(max_examples=40, stateful_step_count=40, **COMMON))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", [LifeWithoutCompare, LifeWithoutChain, LifeByTheLedger])
def test_a_planner_without_its_guards_is_caught(broken: type[Life]) -> None:
    """The property has teeth: without any of compare-and-set, a chain's order, and holding back what is unconfirmed, it fails."""
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run_state_machine_as_test(broken, settings=settings(max_examples=800, stateful_step_count=40, **COMMON))
