"""One number for the epochs of all ledgers: an edit that names it is applied only where nobody else has written since."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mica.bus import MemoryBus
from mica.events import Ledger
from mica.planner.commits import Epochs, GroupCommit, Key, Outcome

NODES = ("n1", "n2", "n3")
STEPS = st.lists(
    st.tuples(st.sampled_from(["foreign", "read", "own", "snapshot", "align"]), st.sampled_from(NODES), st.integers(0, 3)),
    max_size=40,
)


class Stopped(Epochs):
    """A control: a clock that does not move."""

    def next(self) -> int:
        return self.now


def raised(ledger: Ledger) -> Ledger:
    return replace(ledger, generation=ledger.generation + 1)


class Trial:
    """Documents that this replica and another write, and what is known of either's writes."""

    def __init__(self, epochs: Epochs) -> None:
        self.bus, self.epochs = MemoryBus(), epochs
        self.documents: dict[str, GroupCommit[Ledger]] = {}
        self.foreign = dict.fromkeys(NODES, 0)
        self.known = dict.fromkeys(NODES, 0)
        self.snapshots: list[tuple[int, dict[str, int]]] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> object:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        return task

    def of(self, node: str) -> GroupCommit[Ledger]:
        if node not in self.documents:
            key = Key(self.bus.state, f"ledger.{node}", Ledger(node=node), raised, lambda _: None, self.epochs)
            self.documents[node] = GroupCommit(key, self.spawn)
        return self.documents[node]

    async def step(self, what: str, node: str, pick: int) -> None:
        if what == "foreign":
            self.foreign[node] += 1
            await self.bus.state.put(f"ledger.{node}", Ledger(node=node, generation=1_000 * self.foreign[node]))
        elif what == "snapshot":
            self.snapshots.append((self.epochs.now, {each: self.known[each] for each in self.documents}))
        elif what == "read":
            await self.of(node).refresh()
            self.known[node] = self.foreign[node]
        elif what == "own":
            assert await self.of(node).submit(raised) is Outcome.APPLIED
            self.known[node] = self.foreign[node]
        elif self.snapshots:
            await self.align(node, *self.snapshots[pick % len(self.snapshots)])

    async def align(self, node: str, epoch: int, known: dict[str, int]) -> None:
        current = node in known and known[node] == self.foreign[node]
        outcome = await self.of(node).submit(raised, epoch)
        assert outcome is (Outcome.APPLIED if current else Outcome.OVERTAKEN)
        there = await self.bus.state.get(f"ledger.{node}", Ledger)
        if there is None or there.value == self.of(node).value:
            self.known[node] = self.foreign[node]


async def trial(steps: list[tuple[str, str, int]], epochs: Epochs) -> None:
    """Take all steps, each to its end."""
    subject = Trial(epochs)
    for step in steps:
        await subject.step(*step)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_an_edit_is_applied_exactly_where_nobody_else_has_written_since_its_epoch(steps: list[tuple[str, str, int]]) -> None:
    """Whatever happens on other documents, a snapshot stands for a document until somebody else is found to have written that."""
    asyncio.run(trial(steps, Epochs()))


@pytest.mark.parametrize("steps", [[("own", "n1", 0), ("snapshot", "n1", 0), ("foreign", "n1", 0), ("align", "n1", 0)]])
def test_a_clock_that_stands_still_is_caught(steps: list[tuple[str, str, int]]) -> None:
    """The property has teeth: without a new epoch, an edit goes through that was made without knowing of somebody's write."""
    with pytest.raises(AssertionError):
        asyncio.run(trial(steps, Stopped()))
    asyncio.run(trial(steps, Epochs()))
