"""Anybody can write a policy with a NATS client: what cannot be read leaves in force what was."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mica.bus import BusUnavailableError, Change, MemoryBus
from mica.events import IntruderAction, PoolPolicy
from mica.policy import follow, newest

STRICT = PoolPolicy(intruders=IntruderAction.TERMINATE)
SPOILT = "$KV.policy.pool.a"


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus()


@pytest.fixture
async def heard(bus: MemoryBus) -> AsyncIterator[AsyncIterator[list[Change[PoolPolicy]]]]:
    """What a service hears of the pools' policies."""
    changes = follow(bus.policy, "pool.*", PoolPolicy)
    yield changes
    await changes.aclose()  # type: ignore[attr-defined]


async def test_a_policy_that_is_spoilt_stays_as_it_was(bus: MemoryBus, heard: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The bad version is not heard of, which one line says; other keys and the next good version are."""
    await bus.policy.put("pool.a", STRICT)
    assert await anext(heard) == [Change("pool.a", STRICT, 1)]
    await bus.publish_raw(SPOILT, b'{"intruders": "explode"}')
    await bus.policy.put("pool.b", STRICT)
    assert await anext(heard) == [Change("pool.b", STRICT, 3)]
    [line] = caplog.messages
    assert line.startswith("policy pool.a: version 2 can not be read (intruders: got explode, allowed: one of report, ")
    assert line.endswith("; version 1 stays in force")
    await bus.policy.put("pool.a", PoolPolicy())
    assert await anext(heard) == [Change("pool.a", PoolPolicy(), 4)]


async def test_a_service_that_starts_finds_what_was_in_force(bus: MemoryBus, heard: Any) -> None:
    """The latest version that can be read, however many bad ones came after it."""
    await bus.policy.put("pool.a", STRICT)
    await bus.publish_raw(SPOILT, b"garbage")
    await bus.publish_raw(SPOILT, b"\xff")
    await bus.policy.put("pool.b", PoolPolicy())
    assert await anext(heard) == [Change("pool.a", STRICT, 1), Change("pool.b", PoolPolicy(), 4)]
    entry = await newest(bus.policy, "pool.a", PoolPolicy)
    assert entry is not None
    assert (entry.value, entry.revision) == (STRICT, 1)


async def test_what_was_not_set_before_it_was_spoilt_is_not_set(
    bus: MemoryBus, heard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An older version that was deleted in between does not come back."""
    await bus.policy.put("pool.a", STRICT)
    await bus.policy.delete("pool.a")
    await bus.publish_raw(SPOILT, b"garbage")
    assert await anext(heard) == []
    assert await newest(bus.policy, "pool.a", PoolPolicy) is None
    assert caplog.messages[0].endswith("no earlier one is in force, its defaults hold")


async def test_a_deletion_is_heard_after_a_bad_version(bus: MemoryBus, heard: Any) -> None:
    """It ends what stayed in force."""
    await bus.policy.put("pool.a", STRICT)
    await bus.publish_raw(SPOILT, b"garbage")
    await anext(heard)
    await bus.policy.delete("pool.a")
    assert await anext(heard) == [Change("pool.a", None, 3)]


async def test_versions_that_can_not_be_read_now_are_no_end(bus: MemoryBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch goes on; when it hears of the key again it looks again."""

    async def away(key: str) -> Any:
        raise BusUnavailableError("stream KV_policy: timeout")

    await bus.policy.put("pool.a", STRICT)
    await bus.publish_raw(SPOILT, b"garbage")
    with monkeypatch.context() as patch:
        patch.setattr(bus.policy, "versions", away)
        heard = follow(bus.policy, "pool.*", PoolPolicy)
        assert await anext(heard) == []
    await bus.publish_raw(SPOILT, b"garbage")
    assert await anext(heard) == [Change("pool.a", STRICT, 1)]
    await heard.aclose()  # type: ignore[attr-defined]
