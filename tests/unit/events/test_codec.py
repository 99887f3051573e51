"""What a body that is no event is answered with."""

import msgspec
import pytest

from mica.events import (
    CHANNELS,
    STREAMS,
    EventError,
    Mode,
    RequestSlice,
    SliceReady,
    channel_for,
    decode,
    encode,
    shorten,
    subject_of,
)

BAD_REQUESTS = {
    "malformed JSON": (b'{"tenant":', "body", "one JSON object"),
    "an empty body": (b"", "body", "one JSON object"),
    "bytes that are no text": (b"\xff\xfe", "body", "one JSON object"),
    "an array": (b"[]", "body", "object"),
    "a nesting without end": (b"[" * 100_000, "body", "object"),
    "an unknown field": (b'{"tenant":"a","vram":1}', "vram", "no such field"),
    "a missing tenant": (b'{"vram_bytes":1}', "tenant", "required"),
    "a zero size": (b'{"tenant":"a","vram_bytes":0}', "vram_bytes", ">= 1"),
    "a negative size": (b'{"tenant":"a","vram_bytes":-5}', "vram_bytes", ">= 1"),
    "a size out of range": (b'{"tenant":"a","vram_bytes":1e400}', "vram_bytes", "out of range"),
    "a share above the whole": (b'{"tenant":"a","share_ppm":1000001}', "share_ppm", "<= 1000000"),
    "an unknown mode": (b'{"tenant":"a","mode":"turbo"}', "mode", "one of hardware, fcsp, timeslice"),
    "an unknown vendor": (b'{"tenant":"a","vendor":"acme"}', "vendor", "one of nvidia, amd, intel, huawei, qualcomm"),
    "a name in a wrong alphabet": (b'{"tenant":"a b"}', "tenant", "^[A-Za-z0-9_-]{1,64}$"),
    "another command's tag": (b'{"type":"slice.release","tenant":"a"}', "type", "slice.request"),
    "a limit that does not exist": (b'{"tenant":"a","limits":{"pinned":1}}', "limits.pinned", "no such field"),
    "a limit below nothing": (b'{"tenant":"a","limits":{"inflight_max":-1}}', "limits.inflight_max", ">= 0"),
    "a burst of a minute": (b'{"tenant":"a","limits":{"burst_ns":60000000000}}', "limits.burst_ns", "<= 1000000000"),
    "a fault inside a list": (b'{"tenant":"a","profile":{"points":[{"share_ppm":0}]}}', "profile.points[0].share_ppm", ">= 1"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_is_told_its_field_and_what_is_allowed(case: str) -> None:
    """A body that is no request names the field, what it held and what would have passed."""
    body, field, allowed = BAD_REQUESTS[case]
    with pytest.raises(EventError) as caught:
        decode("slice.request", body)
    assert caught.value.field == field
    assert allowed in caught.value.allowed


def test_an_error_never_carries_a_megabyte() -> None:
    """A million-character name is shown shortened, with its length."""
    with pytest.raises(EventError) as caught:
        decode("slice.request", b'{"tenant":"a","name":"' + b"x" * 1_000_000 + b'"}')
    assert caught.value.field == "name"
    assert "1000000 characters" in caught.value.given
    assert len(str(caught.value)) < 250


def test_an_unknown_subject_is_an_event_error() -> None:
    """Bytes on a subject that no event travels on are refused, not guessed at."""
    with pytest.raises(EventError):
        decode("slice.conjure", b"{}")


def test_the_type_tag_may_be_left_out_by_people() -> None:
    """`nats pub slice.request '{…}'` needs no type field."""
    assert decode("slice.request", b'{"tenant":"a","vram_bytes":1}') == RequestSlice(tenant="a", vram_bytes=1)


def test_facts_tolerate_fields_from_the_future() -> None:
    """An older reader accepts a fact with a field it doesn't know."""
    fact = decode("slice.ready.s1", b'{"at":1,"id":"s1","placements":[],"novelty":true}')
    assert fact == SliceReady(at=1, id="s1", placements=())


def test_every_channel_belongs_to_exactly_one_stream() -> None:
    """A subject that matched two streams would be stored twice; one that matched none would be lost."""
    from mica.bus import matches

    for channel in CHANNELS:
        subject = f"{channel.subject}.x" if channel.key else channel.subject
        owners = [stream.name for stream in STREAMS if any(matches(pattern, subject) for pattern in stream.subjects)]
        assert owners == [channel.stream], subject


def test_a_subject_leads_back_to_its_channel() -> None:
    """The subject of an event and the channel of a subject are inverse."""
    event = SliceReady(at=1, id="s1", placements=())
    assert subject_of(event) == "slice.ready.s1"
    assert channel_for("slice.ready.s1").event is SliceReady


def test_tags_and_subjects_are_the_same_words() -> None:
    """A type's tag is its subject, so that a body found alone can be told."""
    for channel in CHANNELS:
        assert channel.event.__struct_config__.tag == channel.subject


def test_what_is_encoded_is_compact() -> None:
    """Defaults don't travel."""
    assert msgspec.json.decode(encode(RequestSlice(tenant="a", mode=Mode.FCSP))) == {
        "type": "slice.request",
        "tenant": "a",
        "mode": "fcsp",
    }


def test_shortening_twice_is_shortening_once() -> None:
    """An answer that passes through several hands keeps the length that was really given."""
    once = shorten("x" * 1_000_000)
    assert once.endswith("(1000000 characters)")
    assert shorten(once) == once
