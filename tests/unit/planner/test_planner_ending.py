"""A planner that ends while documents are written."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from mica.bus import MemoryBus
from mica.events import Ledger
from mica.planner.commits import GroupCommit, Key


async def test_a_write_that_comes_too_late_ends_with_its_author() -> None:
    """Where no task can be started any more, whoever waits is cancelled: an error would be taken for the command's own."""

    def spawn(work: Coroutine[Any, Any, None]) -> object:
        del work
        raise RuntimeError("TaskGroup is shutting down")

    key = Key(MemoryBus().state, "ledger.n1", Ledger(node="n1"), lambda ledger: ledger, lambda _: None)
    document = GroupCommit(key, spawn)
    for late in (document.submit(lambda ledger: ledger), document.refresh()):
        with pytest.raises(asyncio.CancelledError):
            await late
