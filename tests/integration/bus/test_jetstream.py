"""What only a real server can show: crashes, reconnects and keys that vanish by themselves."""

import asyncio
from typing import Any

import nats
import pytest

from mica.bus import BusUnavailableError, JetStreamBus, StaleRevisionError, Write
from mica.events import PoolPolicy, RequestSlice, TenantHoldings

A = TenantHoldings(tenant="a")


async def test_no_server_is_one_clear_error() -> None:
    """Connecting to nobody says where nobody answered."""
    with pytest.raises(BusUnavailableError, match=r"no NATS server answers at nats://127\.0\.0\.1:1"):
        await JetStreamBus.connect("nats://127.0.0.1:1", wait_s=0)


async def test_a_crashed_server_loses_nothing_that_was_acknowledged(nats_server: Any) -> None:
    """Documents, commands and watches survive a SIGKILL of the server; clients resume by themselves."""
    bus = await JetStreamBus.connect(nats_server.url, wait_s=10)
    await bus.state.put("tenant.a", A)
    await bus.publish(RequestSlice(tenant="a", id="before", vram_bytes=1))
    watch = bus.state.watch("tenant.*", TenantHoldings)
    await anext(watch)
    nats_server.kill()
    nats_server.start()
    async with asyncio.timeout(30):
        await put_at_last(bus, "tenant.b")
        seen: set[str] = set()
        while seen != {"tenant.a", "tenant.b"}:
            seen |= {change.key for change in await anext(watch)}
        batches = bus.consume("COMMANDS", "planner")
        assert b'"before"' in (await anext(batches))[0].data
    await batches.aclose()  # type: ignore[attr-defined]
    await watch.aclose()  # type: ignore[attr-defined]
    await bus.close()


async def put_at_last(bus: JetStreamBus, key: str) -> None:
    """Write as soon as the server is back."""
    while True:
        try:
            await bus.state.put(key, A)
        except BusUnavailableError:
            continue
        return


async def test_a_policy_bucket_of_one_version_is_changed_in_place(nats_server: Any) -> None:
    """What an earlier mica wrote is still there, and from now on versions are kept; state keeps one as before."""
    await (await JetStreamBus.connect(nats_server.url, wait_s=10)).close()
    client = await nats.connect(nats_server.url)
    old = (await client.jetstream().stream_info("KV_policy")).config
    await client.jetstream().update_stream(old, max_msgs_per_subject=1)
    await client.jetstream().publish("$KV.policy.pool.a", b"{}")
    bus = await JetStreamBus.connect(nats_server.url, wait_s=10)
    await bus.policy.put("pool.a", PoolPolicy(mps_across_tenants=True))
    assert [version.data for version in await bus.policy.versions("pool.a")] == [b"{}", b'{"mps_across_tenants":true}']
    new = (await client.jetstream().stream_info("KV_policy")).config
    assert (new.max_msgs_per_subject, new.subject_delete_marker_ttl) == (64, old.subject_delete_marker_ttl)
    assert (await client.jetstream().stream_info("KV_mica")).config.max_msgs_per_subject == 1
    await client.close()
    await bus.close()


async def test_two_members_of_a_group_share_the_commands(nats_server: Any) -> None:
    """Each command goes to one of two replicas; what a dead one left unacknowledged goes to the other."""
    one = await JetStreamBus.connect(nats_server.url, wait_s=10)
    two = await JetStreamBus.connect(nats_server.url, wait_s=10)
    dead = one.consume("COMMANDS", "planner")
    first = asyncio.ensure_future(anext(dead))
    await asyncio.sleep(0)
    sequence = await two.publish(RequestSlice(tenant="a", id="s1", vram_bytes=1))
    assert [delivery.sequence for delivery in await asyncio.wait_for(first, 10)] == [sequence]
    await one.close()
    living = two.consume("COMMANDS", "planner")
    again = await asyncio.wait_for(anext(living), 20)
    assert [(delivery.sequence, delivery.deliveries) for delivery in again] == [(sequence, 2)]
    await living.aclose()  # type: ignore[attr-defined]
    await two.close()


async def test_a_tombstone_vanishes_when_its_time_is_up(nats_server: Any) -> None:
    """A key with a time to live can be read now and created anew later; the watch hears that it went."""
    bus = await JetStreamBus.connect(nats_server.url, wait_s=10)
    await bus.state.create("slice.s1", A, ttl_s=1)
    watch = bus.state.watch("slice.*", TenantHoldings)
    assert [change.value for change in await anext(watch)] == [A]
    gone = await asyncio.wait_for(anext(watch), 20)
    assert [(change.key, change.value) for change in gone] == [("slice.s1", None)]
    await bus.state.create("slice.s1", A)
    await watch.aclose()  # type: ignore[attr-defined]
    await bus.close()


async def test_a_chain_holds_while_others_write(nats_server: Any) -> None:
    """Whatever somebody else writes meanwhile: the first few of a chain are written, never a later one without an earlier."""
    bus = await JetStreamBus.connect(nats_server.url, wait_s=10)
    other = await JetStreamBus.connect(nats_server.url, wait_s=10)

    async def disturb() -> None:
        while True:
            await asyncio.gather(*(other.state.put(f"tenant.other-{number}", A) for number in range(20)))

    disturbing = asyncio.create_task(disturb())
    chains = {}
    for number in range(200):
        keys = [f"tenant.{place}-{number}" for place in "abc"]
        chains[number] = await bus.state.chain([Write(key, A, 0) for key in keys])
    disturbing.cancel()
    for number, revisions in chains.items():
        entries = [await bus.state.get(f"tenant.{place}-{number}", TenantHoldings) for place in "abc"]
        assert [entry.revision for entry in entries if entry is not None] == revisions
        assert [entry is not None for entry in entries] == [index < len(revisions) for index in range(3)]
        assert revisions == list(range(revisions[0], revisions[0] + len(revisions)))
    await other.close()
    await bus.close()


async def test_control_without_the_chain_a_later_write_stands_without_an_earlier(nats_server: Any) -> None:
    """Writes that are merely sent one after the other do not wait for each other: the check above would see it."""
    bus = await JetStreamBus.connect(nats_server.url, wait_s=10)
    await bus.state.put("tenant.a", A)
    outcomes = await asyncio.gather(
        bus.state.update("tenant.a", A, 0), bus.state.update("tenant.b", A, 0), return_exceptions=True
    )
    assert isinstance(outcomes[0], StaleRevisionError)
    assert await bus.state.get("tenant.b", TenantHoldings) is not None
    await bus.close()
