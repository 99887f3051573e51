"""How a service process ends."""

import asyncio

import pytest

from mica.bus import _service


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat cancellations at once."""
    monkeypatch.setattr(_service, "CANCEL_AGAIN_S", 0.0)


async def test_a_cancellation_that_got_lost_is_repeated() -> None:
    """A library that swallows the first cancellation can't keep a service alive."""
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    told = asyncio.Event()
    told.set()
    task = asyncio.ensure_future(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await _service._until_done(task, told)
    assert (swallowed, task.cancelled()) == (3, True)


async def test_what_went_wrong_in_a_service_is_not_lost() -> None:
    """An error of the service reaches whoever runs it."""

    async def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await _service._until_done(asyncio.ensure_future(broken()), asyncio.Event())


async def test_a_child_that_loses_its_cancellation_is_cancelled_again() -> None:
    """A task group tells its children once: the one that went on all the same is told again, and nobody who was not told."""
    told, bystander = asyncio.Event(), asyncio.create_task(asyncio.sleep(3600))
    heard = 0

    async def deaf_once() -> None:
        nonlocal heard
        while heard < 2:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                heard += 1
        raise asyncio.CancelledError

    async def group() -> None:
        async with asyncio.TaskGroup() as children:
            children.create_task(deaf_once())
            await asyncio.sleep(0)
            told.set()

    async with asyncio.timeout(20):
        await _service._until_done(asyncio.ensure_future(group()), told)
    assert heard == 2
    assert not bystander.cancelling()
    bystander.cancel()
