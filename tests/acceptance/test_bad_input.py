"""Bad input on the wire: each gets its answer, and nothing else happens.

Everything is published raw, as any NATS client can.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from acceptance_stack import GIB, Stack

from mica.bus import Bus, JetStreamBus
from mica.events import SLICES, SliceReady, SliceRefused, SliceRejected

GOOD = {"tenant": "t", "vram_bytes": GIB}
BAD_REQUESTS: dict[str, tuple[bytes, str, str, str]] = {
    "malformed JSON": (b'{"tenant":', "body", '{"tenant":', "one JSON object"),
    "no text at all": (b"\xff\xfe\x00", "body", "", "one JSON object"),
    "an unknown field": (json.dumps(GOOD | {"vram": 1}).encode(), "vram", "1", "no such field"),
    "a zero size": (json.dumps(GOOD | {"vram_bytes": 0}).encode(), "vram_bytes", "0", ">= 1"),
    "a negative size": (json.dumps(GOOD | {"vram_bytes": -GIB}).encode(), "vram_bytes", str(-GIB), ">= 1"),
    "no size": (json.dumps({"tenant": "t"}).encode(), "vram_bytes", "", ""),
    "a zero share": (json.dumps(GOOD | {"share_ppm": 0}).encode(), "share_ppm", "0", ">= 1"),
    "more memory than any device has": (
        json.dumps(GOOD | {"vram_bytes": 1 << 40}).encode(),
        "vram_bytes",
        str(1 << 40),
        "at most",
    ),
    "more devices than any node has": (json.dumps(GOOD | {"devices": 64}).encode(), "devices", "64", ""),
    "an unknown pool": (json.dumps(GOOD | {"pool": "gold"}).encode(), "pool", "gold", "default"),
    "a vendor that is none": (json.dumps(GOOD | {"vendor": "acme"}).encode(), "vendor", "acme", "nvidia"),
    "a vendor that is not here": (json.dumps(GOOD | {"vendor": "amd"}).encode(), "vendor", "amd", "nvidia"),
    "an unknown mode": (json.dumps(GOOD | {"mode": "turbo"}).encode(), "mode", "turbo", "hardware, fcsp, timeslice"),
    "a million-character name": (json.dumps(GOOD | {"name": "x" * 1_000_000}).encode(), "name", "(1000000 characters)", "256"),
    "a million-character tenant": (json.dumps(GOOD | {"tenant": "x" * 1_000_000}).encode(), "tenant", "(1000000 characters)", ""),
    "another command's type": (json.dumps(GOOD | {"type": "slice.evict"}).encode(), "type", "slice.evict", "slice.request"),
}
BAD_COMMANDS: dict[str, tuple[str, bytes, str]] = {
    "a release without an id": ("slice.release", b"{}", "id"),
    "a release of nonsense": ("slice.release", b"nonsense", "body"),
    "a resize of nothing": ("slice.resize", b'{"id":"nobody","vram_bytes":1}', "id"),
    "a resize to nothing": ("slice.resize", b'{"id":"nobody","vram_bytes":0}', "vram_bytes"),
    "a control word that is none": ("slice.control", b'{"id":"nobody","control":"dance"}', "control"),
    "a move of nothing": ("slice.move", b'{"id":"nobody"}', "id"),
    "an eviction with a typo": ("slice.evict", b'{"id":"nobody","reasons":"x"}', "reasons"),
}


@pytest.fixture
async def bus(shared_stack: Stack) -> AsyncIterator[JetStreamBus]:
    """A connection of the test's own."""
    connection = await shared_stack.bus()
    yield connection
    await connection.close()


async def answer_to(bus: Bus, subject: str, body: bytes, answers: str) -> Any:
    """Publish raw bytes; the first fact on ``answers``, in which {n} is the sequence that the stream gave them."""
    sequence = await bus.publish_raw(subject, body)
    pattern = answers.format(n=sequence)
    async with asyncio.timeout(20), bus.following(pattern) as heard:
        for told in await bus.history(SLICES.name, (pattern,)):
            return told.event
        async for item in heard:
            return item.event
    raise AssertionError(pattern)


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_a_bad_request_is_rejected_and_told_why(bus: JetStreamBus, case: str) -> None:
    """The answer names the field, what was given and what is allowed, and is short, however long the request was."""
    body, field, given, allowed = BAD_REQUESTS[case]
    fact = await answer_to(bus, "slice.request", body, "slice.*.seq-{n}")
    assert isinstance(fact, SliceRejected)
    assert fact.field == field
    assert given in fact.given
    assert fact.allowed
    assert allowed in fact.allowed
    assert len(fact.message) < 1000


@pytest.mark.parametrize("case", BAD_COMMANDS)
async def test_any_other_bad_command_is_refused_and_told_why(bus: JetStreamBus, case: str) -> None:
    """Commands that are no request are answered on slice.refused.<sequence>."""
    subject, body, field = BAD_COMMANDS[case]
    fact = await answer_to(bus, subject, body, "slice.refused.{n}")
    assert isinstance(fact, SliceRefused)
    assert (fact.command, fact.field) == (subject, field)
    assert fact.allowed


async def test_an_id_belongs_to_the_first_body(bus: JetStreamBus, shared_stack: Stack) -> None:
    """The same body again gets the same answer; another body under that id is rejected, and the slice stays as it is."""
    body = json.dumps(GOOD | {"id": "mine"}).encode()
    first = await answer_to(bus, "slice.request", body, "slice.ready.mine")
    assert isinstance(first, SliceReady)
    again = await answer_to(bus, "slice.request", body, "slice.ready.mine")
    assert again.placements == first.placements
    other = await answer_to(
        bus, "slice.request", json.dumps(GOOD | {"id": "mine", "vram_bytes": 2 * GIB}).encode(), "slice.*.seq-{n}"
    )
    assert isinstance(other, SliceRejected)
    assert (other.field, other.given) == ("id", "mine")
    assert shared_stack.json("show", "mine")["placements"][0]["vram_bytes"] == first.placements[0].vram_bytes
    shared_stack.mica("release", "mine")


async def test_after_all_of_it_everything_still_works(bus: JetStreamBus, shared_stack: Stack) -> None:
    """No service ended, no stream is blocked, and nothing disagrees."""
    before = shared_stack.pids()
    for body, *_ in BAD_REQUESTS.values():
        await bus.publish_raw("slice.request", body)
    fact = await answer_to(bus, "slice.request", json.dumps(GOOD).encode(), "slice.ready.seq-{n}")
    assert isinstance(fact, SliceReady)
    shared_stack.mica("release", fact.id)
    assert shared_stack.pids() == before
    shared_stack.audit()
