"""Whatever is measured and promised: sizes grow with what is asked, and never rest on more than was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mica.events import Dtype, MeasuredPoint, Mode, Profile, Slo
from mica.sizing import Asked, Need, Unsizable, memory_of, need_of, smallest_share, workload_of

SHARES = st.lists(st.integers(1, 1_000_000), min_size=1, max_size=8, unique=True).map(sorted)


@st.composite
def measured(draw):
    """Points of a workload whose time is a/share + b, with up to 4 % of noise."""
    a, b = draw(st.floats(1, 100)), draw(st.floats(0.1, 50))
    points = []
    for share in draw(SHARES):
        noise = draw(st.floats(0.96, 1.04))
        time_ms = (a * 1e6 / share + b) * noise
        points.append(MeasuredPoint(share_ppm=share, p99_ms=time_ms, rate_hz=1000 / time_ms))
    return tuple(points)


def share_of(points, slo, mode=None):
    need = need_of(Asked(profile=Profile(points=points), slo=slo, vram_bytes=1, mode=mode))
    return need.share_ppm if isinstance(need, Need) else None


@given(measured(), st.floats(0.5, 10_000), st.sampled_from([None, Mode.HARDWARE]))
def test_a_share_is_inside_of_what_was_measured_and_the_next_larger_point_keeps_the_promise(points, p99_ms, mode):
    """No extrapolation on either side, and what stands above the answer was measured to be quick enough."""
    slo = Slo(p99_ms=p99_ms)
    chosen = smallest_share(points, slo, mode)
    if chosen is None:
        assert min(each.p99_ms for each in points) > 0.9 * p99_ms / 1.08 or points[-1].p99_ms > 0.9 * p99_ms / 1.08
        return
    assert points[0].share_ppm <= chosen.share_ppm <= points[-1].share_ppm
    above = next(each for each in points if each.share_ppm >= chosen.share_ppm)
    assert above.p99_ms <= 0.9 * p99_ms * 1.0000001


@given(measured(), st.floats(0.5, 10_000), st.floats(1.0, 4.0))
def test_a_tighter_promise_never_needs_less(points, p99_ms, factor):
    """Nor does the same promise with more headroom, or beside neighbours."""
    loose, tight = share_of(points, Slo(p99_ms=p99_ms * factor)), share_of(points, Slo(p99_ms=p99_ms))
    if tight is not None:
        assert loose is not None
        assert loose <= tight
        assert share_of(points, Slo(p99_ms=p99_ms), Mode.HARDWARE) <= tight
    spare = share_of(points, Slo(p99_ms=p99_ms, headroom_ppm=300_000))
    if spare is not None:
        assert tight is not None
        assert tight <= spare


@given(measured(), st.floats(0.5, 10_000))
def test_the_next_smaller_share_would_not_do(points, p99_ms):
    """The answer is the smallest: with one ppm less the promise is broken, or nothing was measured."""
    slo = Slo(p99_ms=p99_ms)
    chosen = smallest_share(points, slo, Mode.HARDWARE)
    if chosen is None or chosen.share_ppm == points[0].share_ppm:
        return
    below = [each for each in points if each.share_ppm < chosen.share_ppm][-1]
    assert below.p99_ms > 0.9 * p99_ms * 0.95 or max(e.p99_ms for e in points if e.share_ppm >= below.share_ppm) > 0.9 * p99_ms


@given(
    st.sampled_from(["llama-3.1-8b", "mixtral-8x7b", "bge-m3", "llama-guard-3-1b", "resnet50"]),
    st.integers(64, 100_000), st.integers(1, 64), st.sampled_from(list(Dtype)), st.sampled_from([1, 2, 4, 8]),
)  # fmt: skip
def test_memory_never_shrinks_with_more_work_and_always_holds_the_weights(model, context, concurrency, dtype, devices):
    """More context, more sequences or fewer devices never need less."""

    def total(context_tokens, sequences, on):
        work = workload_of(Profile(model=model, context_tokens=context_tokens, concurrency=sequences, dtype=dtype))
        memory = memory_of(work, on)
        assert memory.total >= memory.weights > 0
        return memory.total

    here = total(context, concurrency, devices)
    assert here <= total(context + 16, concurrency, devices)
    assert here <= total(context, concurrency + 1, devices)
    assert here >= total(context, concurrency, devices * 2)


@given(st.integers(1, 1 << 48), st.sampled_from(["llm", "encoder", "embedding", "vision", "guardrail"]))
def test_any_number_of_parameters_is_sized_or_refused(parameters, kind):
    """From one to the most that may be asked; never an exception, and never less than the weights."""
    need = need_of(Asked(profile=Profile(parameters=parameters, kind=kind, dtype=Dtype.FP16)))
    assert isinstance(need, Need)
    assert need.vram_bytes >= 2 * parameters


def test_the_control_an_interpolation_by_the_faster_neighbour_breaks_the_promise():
    """With it, the point above the answer would not have been measured quick enough."""
    points = (MeasuredPoint(share_ppm=100_000, p99_ms=100, rate_hz=1), MeasuredPoint(share_ppm=900_000, p99_ms=11, rate_hz=9))
    optimistic = next(each.share_ppm for each in points if points[-1].p99_ms <= 20)
    chosen = smallest_share(points, Slo(p99_ms=20, headroom_ppm=0), Mode.HARDWARE)
    assert chosen is not None
    assert chosen.share_ppm > optimistic
    assert isinstance(need_of(Asked(profile=Profile(points=points), slo=Slo(p99_ms=5), vram_bytes=1)), Unsizable)


@pytest.mark.parametrize("share_ppm", [1, 999_999])
def test_one_point_is_enough_for_its_own_share(share_ppm):
    """Nothing is interpolated from a single point."""
    point = MeasuredPoint(share_ppm=share_ppm, p99_ms=10, rate_hz=100)
    assert share_of((point,), Slo(p99_ms=20)) == share_ppm
    assert share_of((point,), Slo(p99_ms=9)) is None
