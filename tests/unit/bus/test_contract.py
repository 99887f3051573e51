"""What every bus promises: the same specifications hold for the fake and for the real server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mica.bus import Bus, JetStreamBus, MemoryBus, Note, StaleRevisionError, Write
from mica.events import (
    POLICY_VERSIONS,
    EventError,
    Holding,
    PoolPolicy,
    ReleaseSlice,
    RequestSlice,
    SliceReleased,
    SpatialChoice,
    TenantHoldings,
)

A = TenantHoldings(tenant="a")
B = TenantHoldings(tenant="a", holdings={"s1": Holding(vram_bytes=1, share_ppm=2)})


@pytest.fixture(params=["memory", "jetstream"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """One bus of each kind."""
    if request.param == "memory":
        yield MemoryBus()
        return
    server = request.getfixturevalue("nats_server")
    connected = await JetStreamBus.connect(server.url, wait_s=10)
    yield connected
    await connected.close()


async def test_a_key_is_created_once(bus: Bus) -> None:
    """Of two creates of a key, the second fails and changes nothing."""
    await bus.state.create("tenant.a", A)
    with pytest.raises(StaleRevisionError):
        await bus.state.create("tenant.a", B)
    entry = await bus.state.get("tenant.a", TenantHoldings)
    assert entry is not None
    assert entry.value == A


async def test_an_update_needs_the_latest_revision(bus: Bus) -> None:
    """A write that stands on an old revision fails; one that stands on the latest succeeds."""
    first = await bus.state.create("tenant.a", A)
    second = await bus.state.update("tenant.a", B, first)
    with pytest.raises(StaleRevisionError):
        await bus.state.update("tenant.a", A, first)
    assert await bus.state.update("tenant.a", A, second) > second


async def test_a_deleted_key_is_gone_and_can_be_created_again(bus: Bus) -> None:
    """Deletion leaves nothing to read, nothing in the way, and is repeatable."""
    await bus.state.create("tenant.a", A)
    await bus.state.delete("tenant.a")
    await bus.state.delete("tenant.b")
    assert await bus.state.get("tenant.a", TenantHoldings) is None
    assert await bus.state.keys("tenant.*") == []
    await bus.state.create("tenant.a", B)
    assert await bus.state.keys("tenant.*") == ["tenant.a"]


async def test_a_delete_that_names_a_revision_needs_the_latest(bus: Bus) -> None:
    """As an update does."""
    first = await bus.policy.create("pool.a", PoolPolicy())
    second = await bus.policy.update("pool.a", PoolPolicy(mps_across_tenants=True), first)
    with pytest.raises(StaleRevisionError):
        await bus.policy.delete("pool.a", revision=first)
    await bus.policy.delete("pool.a", revision=second)
    assert await bus.policy.get("pool.a", PoolPolicy) is None


async def test_a_policy_has_its_versions_with_their_notes(bus: Bus) -> None:
    """Oldest first: what was written, deleted or thrown in by a stranger, at its time, by whom, and why, in any letters."""
    note = Note("zoë@host", 'müssen wir: "jetzt"\r\nX-Other: no')
    first = await bus.policy.update("pool.a", PoolPolicy(spatial=SpatialChoice.MPS), 0, note=note)
    second = await bus.publish_raw("$KV.policy.pool.a", b"garbage")
    third = await bus.policy.delete("pool.a", revision=second, note=Note("b", "gone"))
    fourth = await bus.policy.put("pool.ab", PoolPolicy())
    versions = await bus.policy.versions("pool.a")
    assert [(version.data, version.note) for version in versions] == [
        (b'{"spatial":"mps"}', note),
        (b"garbage", Note()),
        (None, Note("b", "gone")),
    ]
    assert [version.revision for version in versions] == [first, second, third]
    assert 0 < versions[0].at <= versions[1].at <= versions[2].at
    assert await bus.policy.versions("pool.b") == []
    assert [(version.key, version.revision) for version in await bus.policy.versions("pool.*")][2:] == [
        ("pool.a", third),
        ("pool.ab", fourth),
    ]


async def test_a_bucket_keeps_so_many_versions(bus: Bus) -> None:
    """Of a policy the latest ones, of a state document one."""
    revisions = [await bus.policy.put("pool.a", PoolPolicy()) for _ in range(POLICY_VERSIONS + 2)]
    assert [version.revision for version in await bus.policy.versions("pool.a")] == revisions[2:]
    revisions = [await bus.state.put("tenant.a", A) for _ in range(2)]
    assert [version.revision for version in await bus.state.versions("tenant.a")] == revisions[1:]


async def test_bytes_that_are_no_document_can_be_read_as_bytes(bus: Bus) -> None:
    """By get and by watch; asked for as a document they are an error."""
    await bus.publish_raw("$KV.policy.pool.a", b"garbage")
    entry = await bus.policy.get("pool.a", bytes)
    assert entry is not None
    assert entry.value == b"garbage"
    watch = bus.policy.watch("pool.*", bytes)
    assert [(change.key, change.value) for change in await anext(watch)] == [("pool.a", b"garbage")]
    await close(watch)
    with pytest.raises(EventError):
        await bus.policy.get("pool.a", PoolPolicy)


async def test_a_watch_begins_with_what_is_and_goes_on_with_what_comes(bus: Bus) -> None:
    """The first batch holds every matching key; later ones the changes, deletions included."""
    await bus.state.put("tenant.a", A)
    await bus.state.put("other.a", A)
    watch = bus.state.watch("tenant.*", TenantHoldings)
    assert [(change.key, change.value) for change in await anext(watch)] == [("tenant.a", A)]
    await bus.state.put("tenant.b", B)
    assert [(change.key, change.value) for change in await anext(watch)] == [("tenant.b", B)]
    await bus.state.delete("tenant.a")
    assert [(change.key, change.value) for change in await anext(watch)] == [("tenant.a", None)]
    await close(watch)


async def test_the_last_revision_tells_how_far_a_watch_has_to_come(bus: Bus) -> None:
    """Of matching keys alone, deletions among them; a watch that begins then has come as far with its first batch."""
    assert await bus.state.last_revision("tenant.*") == 0
    await bus.state.put("tenant.a", A)
    second = await bus.state.put("tenant.b", B)
    await bus.state.put("guard.a", A)
    assert await bus.state.last_revision("tenant.*") == second
    third = await bus.state.put("tenant.a", B)
    assert await bus.state.last_revision("tenant.*") == third
    gone = await bus.state.delete("tenant.b")
    assert await bus.state.last_revision("tenant.*") == gone
    watch = bus.state.watch("tenant.*", TenantHoldings)
    assert [(each.key, each.revision) for each in await anext(watch)] == [("tenant.a", third), ("tenant.b", gone)]
    again = await bus.state.put("tenant.a", A)
    assert [each.revision for each in await anext(watch)] == [again]
    await close(watch)


async def test_a_watch_of_nothing_says_so(bus: Bus) -> None:
    """With no matching key the first batch is empty, so that nobody waits for what is not there."""
    watch = bus.state.watch("tenant.*", TenantHoldings)
    assert await anext(watch) == []
    await close(watch)


async def test_a_command_is_delivered_until_it_is_acknowledged(bus: Bus) -> None:
    """A delivery that was given back comes again, with its count; one that was acknowledged or terminated does not."""
    for name in ("s1", "s2", "s3"):
        await bus.publish(RequestSlice(tenant="a", id=name, vram_bytes=1))
    batches = bus.consume("COMMANDS", "planner", batch=1)
    first, second, third = [(await anext(batches))[0] for _ in range(3)]
    await first.ack()
    await second.terminate()
    await third.retry()
    again = (await anext(batches))[0]
    assert (again.sequence, again.deliveries, again.subject) == (third.sequence, 2, "slice.request")
    await again.ack()
    await bus.publish(ReleaseSlice(id="s1"))
    assert (await anext(batches))[0].subject == "slice.release"
    await close(batches)


async def test_sequences_grow_with_the_stream(bus: Bus) -> None:
    """The sequence that a publisher is told is the one that the consumer sees."""
    sequence = await bus.publish_raw("slice.request", b"not json")
    batches = bus.consume("COMMANDS", "planner")
    delivery = (await anext(batches))[0]
    assert (delivery.sequence, delivery.data) == (sequence, b"not json")
    await close(batches)


async def test_a_message_id_stores_a_fact_once(bus: Bus) -> None:
    """A fact that is repeated with its message id is stored once, and both publishers learn the same sequence."""
    fact = SliceReleased(at=1, id="s1")
    assert await bus.publish(fact, message_id="released-s1") == await bus.publish(fact, message_id="released-s1")
    assert [heard.event for heard in await bus.history("SLICES", ("slice.released.*",))] == [fact]


async def test_a_follower_hears_a_repetition_that_the_stream_drops(bus: Bus) -> None:
    """Whoever comes late hears a fact that is said again under its message id; the stream keeps one of them."""
    fact = SliceReleased(at=1, id="s1")
    await bus.publish(fact, message_id="released-s1")
    async with bus.following("slice.*.s1") as heard:
        await bus.publish(fact, message_id="released-s1")
        item = await asyncio.wait_for(anext(heard), 10)
    assert item.event == fact
    assert len(await bus.history("SLICES", ("slice.released.*",))) == 1


async def test_a_follower_hears_what_comes_with_its_trace(bus: Bus) -> None:
    """Live events arrive with their trace context; bytes that are no event are skipped."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with bus.following("slice.*.s1") as heard:
        await bus.publish_raw("slice.released.s1", b"garbage")
        await bus.publish(SliceReleased(at=1, id="s1"), traceparent=trace)
        item = await asyncio.wait_for(anext(heard), 10)
    assert (item.event, item.traceparent) == (SliceReleased(at=1, id="s1"), trace)


def links(*names: str) -> tuple[Write, ...]:
    """Writes of keys that must not exist."""
    return tuple(Write(f"tenant.{name}", A, 0) for name in names)


async def test_a_chain_is_written_in_order_and_whole(bus: Bus) -> None:
    """With nothing in the way all of it is written, at the revisions that are returned."""
    revisions = await bus.state.chain(links("a", "b", "c"))
    entries = [await bus.state.get(f"tenant.{name}", TenantHoldings) for name in ("a", "b", "c")]
    assert revisions == [entry.revision if entry is not None else 0 for entry in entries]
    assert revisions == sorted(revisions)
    again = [Write(f"tenant.{name}", B, revision) for name, revision in zip("abc", revisions, strict=True)]
    assert len(await bus.state.chain(again)) == 3


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_chain_ends_before_the_first_write_that_fails(bus: Bus, place: int) -> None:
    """What comes after a write that stands on an old revision is not written, though its own revision is the latest."""
    names = ("a", "b", "c")
    await bus.state.put(f"tenant.{names[place]}", B)
    revisions = await bus.state.chain(links(*names))
    assert len(revisions) == place
    found = [await bus.state.get(f"tenant.{name}", TenantHoldings) for name in names]
    assert [entry.value if entry is not None else None for entry in found] == [*([A] * place), B, *([None] * (2 - place))]


async def close(iterator: Any) -> None:
    """End an endless iteration."""
    await iterator.aclose()
