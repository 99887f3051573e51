"""Advice on sizes, for programs whose use does not change: it comes to rest, and never takes what is used."""

from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mica.events import PPM, SizeAdvice, Sizing, Tier
from mica.planner.domain import rightsizing
from mica.planner.domain.observing import Seen
from mica.planner.domain.rightsizing import LEAST_BYTES, Standing, advise

GIB = 1 << 30
ROUNDS = 40
QUICK = settings(max_examples=300, deadline=None, derandomize=True, database=None, print_blob=False)


class Program:
    """What it would use if nothing held it back, and what it is seen to use in a slice of some size."""

    def __init__(self, wants_bytes: int, wants_ppm: int, jitter: list[float]) -> None:
        self.wants_bytes = wants_bytes
        self.wants_ppm = wants_ppm
        self._jitter = jitter
        self._turn = 0

    def seen_in(self, standing: Standing) -> Seen:
        self._turn += 1
        jitter = self._jitter[self._turn % len(self._jitter)]
        wants_ppm, wants_bytes = int(self.wants_ppm * jitter), int(self.wants_bytes * jitter)
        used_ppm = min(wants_ppm, standing.share_ppm)
        return Seen(
            seconds=300.0, samples=300, used_bytes=min(wants_bytes, standing.vram_bytes), used_ppm=used_ppm,
            throttled=max(0.0, 1 - standing.share_ppm / wants_ppm), refusals=int(wants_bytes > standing.vram_bytes), busy=True,
        )  # fmt: skip


programs = st.builds(
    Program,
    st.integers(GIB // 8, 60 * GIB),
    st.integers(5_000, PPM),
    st.lists(st.floats(0.97, 1.03), min_size=1, max_size=5),
)


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    vram, share = draw(st.integers(LEAST_BYTES, 70 * GIB)), draw(st.integers(10_000, PPM))
    return Standing(
        id="s", tenant="t", tier=draw(st.sampled_from(list(Tier))), vram_bytes=vram, share_ppm=share,
        floor_bytes=draw(st.integers(LEAST_BYTES, vram)), floor_ppm=draw(st.integers(10_000, share)),
        room_bytes=draw(st.integers(vram, 80 * GIB)), room_ppm=draw(st.integers(share, PPM)),
        may_shrink=draw(st.sampled_from(["", "", "not agreed"])), may_grow=draw(st.sampled_from(["", "", "spot"])),
    )  # fmt: skip


def life(standing: Standing, program: Program) -> list[SizeAdvice]:
    """Every advice that is followed, until one is to stay."""
    told = []
    for _ in range(ROUNDS):
        advice = advise(standing, program.seen_in(standing), 300.0)
        if advice.action is Sizing.STAY:
            break
        told.append(advice)
        standing = replace(standing, vram_bytes=advice.to_vram_bytes, share_ppm=advice.to_share_ppm)
    return told


def directions(told: list[SizeAdvice], now: str, to: str) -> set[int]:
    return {(getattr(each, to) > getattr(each, now)) - (getattr(each, to) < getattr(each, now)) for each in told} - {0}


def check_it_comes_to_rest(standing: Standing, program: Program) -> None:
    told = life(standing, program)
    assert len(told) < ROUNDS, [(each.vram_bytes, each.share_ppm) for each in told]
    assert len(directions(told, "vram_bytes", "to_vram_bytes")) <= 1
    assert len(directions(told, "share_ppm", "to_share_ppm")) <= 1


@QUICK
@given(standings(), programs)
def test_advice_comes_to_rest_and_never_turns_round(standing: Standing, program: Program) -> None:
    """With the same use, within 3 %, a slice only ever grows or only ever shrinks, and then stays."""
    check_it_comes_to_rest(standing, program)


@QUICK
@given(standings(), programs)
def test_a_slice_keeps_what_it_uses_with_headroom_and_what_its_promise_needs(standing: Standing, program: Program) -> None:
    """And never gets more than its device has, nor changes in a direction that is barred."""
    use = program.seen_in(standing)
    advice = advise(standing, use, 300.0)
    if advice.to_vram_bytes < standing.vram_bytes:
        assert advice.to_vram_bytes >= max(use.used_bytes * 1.15, standing.floor_bytes)
    if advice.to_share_ppm < standing.share_ppm:
        assert advice.to_share_ppm >= max(use.used_ppm * 1.25, standing.floor_ppm)
    assert advice.to_vram_bytes <= max(standing.vram_bytes, standing.room_bytes)
    assert advice.to_share_ppm <= max(standing.share_ppm, standing.room_ppm)
    grows = advice.to_vram_bytes > standing.vram_bytes or advice.to_share_ppm > standing.share_ppm
    shrinks = advice.to_vram_bytes < standing.vram_bytes or advice.to_share_ppm < standing.share_ppm
    assert not (grows and standing.may_grow)
    assert not (shrinks and standing.may_shrink)


@pytest.mark.parametrize(("name", "value"), [("SHRINK_AT", 1.0), ("GROW", 3.0), ("SPARE_BYTES", 1.0)])
def test_a_rule_without_room_for_doubt_is_caught(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    """The property has teeth: shrinking for any gain, growing by too much, or leaving nothing to spare turns round."""
    monkeypatch.setattr(rightsizing, name, value)

    @settings(QUICK, max_examples=2_000, phases=[Phase.generate])
    @given(standings(), programs)
    def broken(standing: Standing, program: Any) -> None:
        check_it_comes_to_rest(standing, program)

    with pytest.raises((AssertionError, BaseExceptionGroup)):
        broken()
