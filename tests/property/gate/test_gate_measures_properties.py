"""Percentiles and event streams, against the slow and obvious."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mica.gate.domain.percentiles import Histogram
from mica.gate.domain.stopwatch import Stopwatch
from mica.gate.domain.tokens import EventStream, Tokens

TIMES = st.lists(st.integers(0, 1 << 62) | st.integers(0, 10**9), min_size=1, max_size=300)
PARTS = (0, 10_000, 500_000, 950_000, 990_000, 999_000, 1_000_000)


def exact(times: list[int], part_ppm: int) -> int:
    """The percentile by nearest rank."""
    return sorted(times)[max(1, -(-len(times) * part_ppm // 1_000_000)) - 1]


def filled(times: list[int]) -> Histogram:
    """A histogram of these."""
    histogram = Histogram()
    for time in times:
        histogram.add(time)
    return histogram


@given(TIMES)
def test_percentiles_are_within_their_error(times: list[int]) -> None:
    """Every percentile is within 1/256 of the exact one, and what is below 256 ns is exact."""
    for part, found in zip(PARTS, filled(times).percentiles_ns(*PARTS), strict=True):
        true = exact(times, part)
        assert abs(found - true) <= true / 256
        assert found == true or true >= 256


@given(TIMES, TIMES)
def test_merged_is_as_if_counted_together(left: list[int], right: list[int]) -> None:
    """Two histograms that are merged tell what one would have told."""
    merged = filled(left)
    merged.merge(filled(right))
    assert merged.percentiles_ns(*PARTS) == filled(left + right).percentiles_ns(*PARTS)
    assert merged.total == len(left) + len(right)


@given(st.lists(st.integers(0, (1 << 63) - 1), max_size=3000))
def test_memory_is_bounded(times: list[int]) -> None:
    """However many times there are, they are kept in at most 7,296 counters."""
    histogram = filled([*times, *(1 << bit for bit in range(63))])
    assert len(histogram._counts) <= 7296
    assert max(Histogram().percentiles_ns(500_000)) == 0


@given(st.lists(st.tuples(st.sampled_from(["pause", "resume", "wait"]), st.integers(0, 1000)), max_size=100))
def test_a_stopwatch_counts_what_is_in_no_pause(steps: list[tuple[str, int]]) -> None:
    """However pauses overlap, what is counted is the time outside all of them."""
    now, pauses, counted = 50, 0, 0
    watch = Stopwatch(now)
    for what, step in steps:
        now += step
        counted += 0 if pauses else step
        if what == "pause":
            watch.pause(now)
            pauses += 1
        elif what == "resume" and pauses:
            watch.resume(now)
            pauses -= 1
        assert watch.elapsed_ns(now) == counted
        assert watch.paused == bool(pauses)


WORDS = st.text(min_size=1, max_size=8).filter(str.strip)


@given(st.lists(WORDS, max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.randoms(use_true_random=False))
def test_however_bytes_are_cut_the_same_tokens_are_read(words: list[str], line_end: bytes, random: object) -> None:
    """A stream tells as many tokens when it comes byte by byte as in one piece, whatever ends its lines."""
    events = [msgspec.json.encode({"choices": [{"delta": {"content": word}}]}) for word in words]
    body = b"".join(b"data: " + event + line_end * 2 for event in [*events, b"[DONE]"])
    whole, cut = EventStream(), EventStream()
    whole.on_bytes(body, 7)
    position = 0
    while position < len(body):
        size = random.randint(1, 9)  # type: ignore[attr-defined]
        cut.on_bytes(body[position : position + size], 7)
        position += size
    expected = Tokens(7, 7, len(words)) if words else None
    assert whole.tokens() == cut.tokens() == expected


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_are_survived(pieces: list[bytes]) -> None:
    """Bytes that are no events at all raise nothing."""
    stream = EventStream()
    for piece in pieces:
        stream.on_bytes(piece, 0)
    stream.tokens()
