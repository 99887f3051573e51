"""Measured points: what lies between them, what contradicts itself, and what nobody has measured."""

import math

import pytest

from mica.events import MeasuredPoint, Mode, Profile, Slo
from mica.sizing import SLOWDOWN, Asked, Need, Unsizable, check_profile, need_of, slowdown

POINTS = (
    MeasuredPoint(share_ppm=200_000, p99_ms=90, rate_hz=10),
    MeasuredPoint(share_ppm=500_000, p99_ms=30, rate_hz=30),
    MeasuredPoint(share_ppm=900_000, p99_ms=20, rate_hz=40),
)
BARE = {"headroom_ppm": 0}


def sized(
    slo: Slo, points: tuple[MeasuredPoint, ...] = POINTS, mode: Mode | None = Mode.HARDWARE, **profile: object
) -> Need | Unsizable:
    return need_of(Asked(profile=Profile(points=points, **profile), slo=slo, vram_bytes=1 << 30, mode=mode))


def share(slo: Slo, **more: object) -> int | None:
    need = sized(slo, **more)
    assert isinstance(need, Need), need
    return need.share_ppm


def test_between_two_points_lies_their_chord():
    """60 ms is half way from 90 to 30; 20 Hz is half way from 10 to 30."""
    assert share(Slo(p99_ms=60, **BARE)) == 350_000
    assert share(Slo(rate_hz=20, **BARE)) == 350_000


def test_a_point_that_just_does_is_taken_as_it_is():
    """No share beyond it, and it is said to be measured."""
    assert share(Slo(p99_ms=30, **BARE)) == 500_000
    need = sized(Slo(p99_ms=30, **BARE))
    assert isinstance(need, Need)
    assert "measured" in need.said[0]
    assert "interpolated" not in need.said[0]


def test_every_bound_is_kept():
    """The larger of what each of them needs."""
    assert share(Slo(p99_ms=60, rate_hz=30, **BARE)) == 500_000


def test_headroom_asks_for_more():
    """A tenth of the promise is kept back, of a time and of a rate; more when the request says so."""
    assert share(Slo(p99_ms=60)) == share(Slo(p99_ms=54, **BARE))
    assert share(Slo(rate_hz=27)) == share(Slo(rate_hz=30, **BARE))
    assert share(Slo(p99_ms=60, headroom_ppm=400_000)) == share(Slo(p99_ms=36, **BARE))


def test_less_than_the_smallest_measured_share_is_never_given():
    """Below it nothing is known; that is said."""
    need = sized(Slo(p99_ms=500))
    assert isinstance(need, Need)
    assert need.share_ppm == 200_000
    assert "the smallest share that was measured; less may do" in need.said


def test_more_than_the_largest_measured_share_is_never_promised():
    """A promise beyond it is refused with the best that was measured."""
    assert sized(Slo(p99_ms=10)) == Unsizable(
        "slo", "p99 10 ms, with 10 % headroom", "what the profile measured: p99 down to 20 ms, up to 40 Hz"
    )


def test_the_batch_that_needs_the_least_is_named():
    """A larger batch serves more at a smaller share, where its latency does."""
    batched = (
        *POINTS,
        MeasuredPoint(share_ppm=200_000, p99_ms=160, rate_hz=40, batch=8),
        MeasuredPoint(share_ppm=900_000, p99_ms=60, rate_hz=120, batch=8),
    )
    need = sized(Slo(rate_hz=35, p99_ms=200), points=batched)
    assert isinstance(need, Need)
    assert need.share_ppm == 200_000
    assert "with batch 8" in need.said[0]
    assert share(Slo(rate_hz=35, p99_ms=50, headroom_ppm=0), points=batched) == 700_000


def test_noise_is_read_on_the_safe_side():
    """A larger share that was measured a little slower makes the smaller one count as slow."""
    noisy = (
        MeasuredPoint(share_ppm=200_000, p99_ms=90, rate_hz=10),
        MeasuredPoint(share_ppm=500_000, p99_ms=30, rate_hz=31),
        MeasuredPoint(share_ppm=900_000, p99_ms=32, rate_hz=30),
    )
    assert isinstance(sized(Slo(p99_ms=31, **BARE), points=noisy), Unsizable)
    assert share(Slo(p99_ms=32, **BARE), points=noisy) == 500_000
    assert isinstance(sized(Slo(rate_hz=30.5, **BARE), points=noisy), Unsizable)


def test_neighbours_cost_more_the_smaller_the_slice_and_nothing_in_hardware():
    """7.2 % beside a whole busy device, none beside nothing; FCSP's published 4.74 % at a quarter is within a point."""
    assert slowdown(1_000_000, None) == 1.0
    assert slowdown(250_000, Mode.HARDWARE) == 1.0
    assert slowdown(250_000, Mode.FCSP) == pytest.approx(1.0474, abs=0.01)
    assert slowdown(1, None) == pytest.approx(1 + SLOWDOWN)
    alone, beside = (share(Slo(p99_ms=60, **BARE), mode=mode) for mode in (Mode.HARDWARE, None))
    assert alone is not None
    assert beside is not None
    assert beside > alone


def test_memory_is_the_measured_peak_around_the_share():
    """The larger of the two points, and a twentieth more."""
    points = tuple(
        MeasuredPoint(share_ppm=ppm, p99_ms=ms, rate_hz=hz, vram_bytes=vram << 30)
        for ppm, ms, hz, vram in ((200_000, 90, 10, 4), (500_000, 30, 30, 6), (900_000, 20, 40, 9))
    )
    need = need_of(Asked(profile=Profile(points=points), slo=Slo(p99_ms=60), mode=Mode.HARDWARE))
    assert isinstance(need, Need)
    assert need.vram_bytes == pytest.approx(6.3 * 2**30, rel=0.001)
    without = need_of(Asked(profile=Profile(points=points)))
    assert isinstance(without, Need)
    assert without.vram_bytes == pytest.approx(9.45 * 2**30, rel=0.001)
    assert without.share_ppm is None


def test_points_hold_on_devices_as_fast_as_the_one_they_were_measured_on():
    """From an A100 to an H100, not to an L4; from a device that nobody knows to its like only."""
    need = sized(Slo(p99_ms=60), device="NVIDIA A100-SXM4-80GB")
    assert isinstance(need, Need)
    assert need.shares["NVIDIA H100 80GB HBM3"] == need.share_ppm
    assert "NVIDIA L4" not in need.shares
    odd = sized(Slo(p99_ms=60), device="Abacus")
    assert isinstance(odd, Need)
    assert odd.shares == {"Abacus": odd.share_ppm}


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (MeasuredPoint(share_ppm=200_000, p99_ms=80, rate_hz=10), "two at 200000 ppm"),
        (MeasuredPoint(share_ppm=500_000, p99_ms=120, rate_hz=30), "p99_ms 90, then 120"),
        (MeasuredPoint(share_ppm=500_000, p99_ms=30, rate_hz=5), "rate_hz 10, then 5"),
        (MeasuredPoint(share_ppm=500_000, p99_ms=math.nan, rate_hz=30), "nan"),
        (MeasuredPoint(share_ppm=500_000, p99_ms=30, rate_hz=math.inf), "inf"),
    ],
)
def test_points_that_contradict_each_other_are_refused(second, said):
    """Twice the same, slower with more compute, or no number: the field, what was observed, what is allowed."""
    wrong = check_profile(Profile(points=(POINTS[0], second)))
    assert isinstance(wrong, Unsizable)
    assert wrong.field.startswith("profile.points")
    assert said in wrong.given
    assert wrong.allowed


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        (
            Profile(vram_bytes=1 << 30, points=(MeasuredPoint(share_ppm=1, p99_ms=1, rate_hz=1, vram_bytes=2 << 30),)),
            "profile.vram_bytes",
        ),
        (Profile(model="llama-3.1-8b", vram_bytes=1 << 30), "profile.vram_bytes"),
        (Profile(model="llama-3.1-8b", heads=32, kv_heads=7), "profile.kv_heads"),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(profile, field):
    """Less memory than was in use, than the weights have; heads that can not be grouped."""
    wrong = check_profile(profile)
    assert isinstance(wrong, Unsizable)
    assert wrong.field == field


@pytest.mark.parametrize(
    ("slo", "field"),
    [(Slo(p99_ms=math.nan), "slo.p99_ms"), (Slo(rate_hz=math.inf), "slo.rate_hz"), (Slo(p99_ms=5, ttft_ms=9), "slo.ttft_ms")],
)
def test_a_promise_that_makes_no_sense_is_refused(slo, field):
    """No number, or a first token after the last."""
    wrong = sized(slo)
    assert isinstance(wrong, Unsizable)
    assert wrong.field == field
