"""A document that this replica writes, others write, and a watch brings whenever it likes: nothing is lost, nothing goes back."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "planner"))

from planner_house import Rig, quiet

from mica.bus import BusUnavailableError, MemoryBus
from mica.events import Ledger
from mica.planner.commits import Epochs, GroupCommit, Key, Outcome

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["own", "own", "epoch", "chain", "foreign", "foreign", "read", "delete", "lose", "lag", "catch up"]),
        st.sampled_from([0, 1, 2, 5, 20]),
    ),
    max_size=40,
)
PATTERN = "ledger.*"


class Trial:
    """One document, this replica's view of it behind a dawdling bus, and everybody's writes."""

    def __init__(self, seed: int) -> None:
        self.bus = MemoryBus()
        self.rig = Rig(self.bus, seed, dawdle=3)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.shown: list[Ledger] = []
        self.own: dict[str, asyncio.Future[Any]] = {}
        self.count = 0
        self.foreign = 0
        empty = Ledger(node="n1")
        seal: Callable[[Ledger], Ledger] = lambda ledger: replace(ledger, generation=ledger.generation + 1)  # noqa: E731
        key = Key(self.rig.state, "ledger.n1", empty, seal, self.shown.append, Epochs())  # type: ignore[arg-type]
        self.document = GroupCommit(key, self.spawn)
        self.epochs = key.epochs

    def spawn(self, work: Coroutine[Any, Any, Any]) -> object:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        return task

    async def follow(self) -> None:
        async for changes in self.rig.state.watch(PATTERN, bytes):
            for change in changes:
                self.document.hear(change.value, change.revision)

    def note(self, name: str) -> Callable[[Ledger], Ledger]:
        return lambda ledger: replace(ledger, fenced={**ledger.fenced, name: 1})

    async def chain(self, name: str) -> None:
        begun = self.document.begin(self.note(name))
        if begun is None:
            return
        self.own[name] = done = asyncio.get_running_loop().create_future()
        revisions: list[int] = []
        try:
            revisions = await self.rig.state.chain([begun.write])
        except BusUnavailableError as error:
            done.set_exception(error)
        else:
            done.set_result(Outcome.APPLIED if revisions else Outcome.OVERTAKEN)
        self.document.end(begun, revisions[0] if revisions else None)

    async def step(self, what: str, spins: int) -> None:
        self.count += 1
        name = f"{what}-{self.count}"
        if what == "own":
            self.own[name] = self.document.submit(self.note(name))
        elif what == "epoch":
            self.own[name] = self.document.submit(self.note(name), self.epochs.now)
        elif what == "chain":
            self.spawn(self.chain(name))
        elif what == "foreign":
            self.foreign += 1
            there = await self.bus.state.get("ledger.n1", Ledger)
            await self.bus.state.put("ledger.n1", self.note(name)(there.value if there is not None else Ledger(node="n1")))
        elif what == "delete":
            self.foreign += 1
            await self.bus.state.delete("ledger.n1")
        elif what == "lose":
            self.rig.lose("ledger.n1", after=bool(spins % 2))
        elif what == "lag":
            self.rig.hold(f"news.{PATTERN}")
        elif what == "catch up":
            self.rig.release(f"news.{PATTERN}")
        else:
            self.spawn(_unless_lost(self.document.refresh()))
        await quiet(spins)

    async def check(self, steps: list[tuple[str, int]]) -> None:
        """What was applied is there or was deleted since, what is shown is there, and only others' writes begin an epoch.

        A deletion may begin two: when a write of our own finds nothing there, and when the watch tells of it.
        """
        following = asyncio.ensure_future(self.follow())
        await quiet(5)
        begin = self.epochs.now
        for step in steps:
            await self.step(*step)
        self.rig.release(f"news.{PATTERN}")
        await quiet(400)
        following.cancel()
        there = await self.bus.state.get("ledger.n1", Ledger)
        now = there.value if there is not None else Ledger(node="n1")
        settled = {name: future for name, future in self.own.items() if future.done() and future.exception() is None}
        assert all(future.done() for future in self.own.values())
        if not any(what == "delete" for what, _ in steps):
            assert {name for name, each in settled.items() if each.result() is Outcome.APPLIED} <= now.fenced.keys()
        assert self.document.value == now
        assert not self.shown or self.shown[-1] == now
        doubtful = sum(what in ("lose", "delete") for what, _ in steps)
        assert self.epochs.now - begin <= self.foreign + doubtful


async def _unless_lost(read: "asyncio.Future[None]") -> None:
    await asyncio.wait((read,))


@given(STEPS, st.integers(0, 1_000))
@settings(max_examples=400, deadline=None)
def test_a_document_ends_as_the_server_has_it_with_every_edit_that_was_answered(steps: list[tuple[str, int]], seed: int) -> None:
    """Own writes, others', reads, lost answers and a watch that lags, in any order."""

    async def run() -> None:
        await Trial(seed).check(steps)

    asyncio.run(run())


class Heedless(GroupCommit[Ledger]):
    """A control: what a watch brings is taken over at once, even while a write is under way."""

    @property
    def _writing(self) -> bool:
        return False

    @_writing.setter
    def _writing(self, value: bool) -> None:
        """It does not care."""


def test_a_document_that_hears_in_the_midst_of_a_write_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The property has teeth: its own write seen before the answer would be taken for somebody else's."""
    monkeypatch.setattr("test_heard_documents.GroupCommit", Heedless)

    async def run() -> None:
        for seed in range(40):
            await Trial(seed).check([("own", 20)] * 6)

    with pytest.raises(AssertionError):
        asyncio.run(run())
