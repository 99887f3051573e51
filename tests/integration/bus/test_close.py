"""Closing while the server is away."""

import asyncio
from typing import Any

from nats.aio.client import Client

from mica.bus import JetStreamBus


async def test_close_ends_a_reconnect_that_loses_its_cancellations(nats_server: Any, monkeypatch: Any) -> None:
    """nats-py loses a cancellation that meets a refused connection; nothing of it may outlive the connection."""
    attempting, lost = asyncio.Event(), 0

    async def deaf(_: Client) -> None:
        nonlocal lost
        while True:
            attempting.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost > 2:
                    raise

    bus = await JetStreamBus.connect(nats_server.url, wait_s=10)
    monkeypatch.setattr(Client, "_select_next_server", deaf)
    nats_server.kill()
    async with asyncio.timeout(20):
        await attempting.wait()
        await bus.close()
    assert lost == 3
    assert asyncio.all_tasks() == {asyncio.current_task()}
