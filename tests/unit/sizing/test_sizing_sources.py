"""What is believed first: what is asked for, what was measured, what a formula says."""

import pytest

from mica.events import Dtype, MeasuredPoint, Mode, Profile, Slo, WorkloadKind
from mica.sizing import Asked, Need, Unsizable, need_of

LLM = Profile(model="llama-3.1-8b", context_tokens=8192, concurrency=8)
H100, L4 = "NVIDIA H100 80GB HBM3", "NVIDIA L4"


def need(**asked: object) -> Need:
    found = need_of(Asked(**asked))
    assert isinstance(found, Need), found
    return found


def test_an_llm_is_sized_from_its_name_and_says_how():
    """Weights, cache, activations, runtime; 16 GB and 8 GiB of them are certain."""
    found = need(profile=LLM)
    assert 24 << 30 < found.vram_bytes < 27 << 30
    assert found.share_ppm is None
    assert "weights 15 GiB + KV cache 8 GiB" in found.said[0]


def test_what_is_asked_for_outright_stands():
    """Memory and share of the request, with nothing assumed."""
    found = need(profile=LLM, slo=Slo(tpot_ms=40), vram_bytes=40 << 30, share_ppm=300_000)
    assert (found.vram_bytes, found.share_ppm, dict(found.shares), found.said) == (40 << 30, 300_000, {}, ())


def test_the_profiles_own_memory_goes_before_the_formula():
    """And the request's before the profile's."""
    profile = Profile(model="llama-3.1-8b", vram_bytes=30 << 30)
    assert need(profile=profile).vram_bytes == 30 << 30
    assert need(profile=profile, vram_bytes=20 << 30).vram_bytes == 20 << 30


def test_memory_that_does_not_hold_the_weights_is_refused():
    """The message says what they weigh."""
    found = need_of(Asked(profile=LLM, vram_bytes=10 << 30))
    assert isinstance(found, Unsizable)
    assert (found.field, found.given) == ("vram_bytes", str(10 << 30))
    assert "16060522496" in found.allowed


def test_a_promise_becomes_a_share_of_each_device():
    """A faster device needs less of itself; one that is too slow as a whole has 0; all of it is called an estimate."""
    found = need(profile=LLM, slo=Slo(tpot_ms=40))
    assert 0 < found.shares[H100] < found.shares["NVIDIA A100-SXM4-80GB"] < 1_000_000
    assert found.shares[L4] == 0
    assert any("not measured" in each for each in found.said)
    assert need(profile=LLM, slo=Slo(tpot_ms=40), mode=Mode.HARDWARE).shares[H100] < found.shares[H100]


def test_a_promise_that_no_device_can_keep_is_refused_with_the_best_there_is():
    """1 ms a token is beyond the fastest device's memory."""
    found = need_of(Asked(profile=Profile(model="llama-3.1-70b"), slo=Slo(tpot_ms=1)))
    assert isinstance(found, Unsizable)
    assert found.field == "slo"
    assert "estimated" in found.allowed


def test_what_points_do_not_say_is_estimated_where_the_model_is_known():
    """The rate was measured, the time to the first token was not: the larger share counts, on each device."""
    points = (MeasuredPoint(share_ppm=100_000, p99_ms=900, rate_hz=1), MeasuredPoint(share_ppm=900_000, p99_ms=200, rate_hz=9))
    profile = Profile(model="llama-3.1-8b", points=points)
    measured = need(profile=profile, slo=Slo(rate_hz=2))
    both = need(profile=profile, slo=Slo(rate_hz=2, ttft_ms=2000))
    tight = need(profile=profile, slo=Slo(rate_hz=2, ttft_ms=300))
    assert measured.share_ppm is not None
    assert not measured.shares
    assert both.shares[H100] == measured.share_ppm
    assert tight.shares[H100] > measured.share_ppm


def test_what_nobody_can_tell_is_said():
    """A convolutional network without points: the share is left open, and what would help is named."""
    found = need(profile=Profile(model="resnet50", batch=8), slo=Slo(p99_ms=20))
    assert found.share_ppm is None
    assert not found.shares
    assert "mica profile" in found.said[-1]


@pytest.mark.parametrize("kind", [WorkloadKind.ENCODER, WorkloadKind.EMBEDDING, WorkloadKind.GUARDRAIL, WorkloadKind.VISION])
def test_every_kind_is_sized_by_its_parameters(kind):
    """300 million of them in 16 bits are 0.6 GB, and what comes on top is less than 3 GiB."""
    found = need(profile=Profile(kind=kind, parameters=300_000_000, dtype=Dtype.FP16))
    assert 600_000_000 < found.vram_bytes < 600_000_000 + (3 << 30)
    assert any("assumed" in each for each in found.said)


def test_without_any_size_the_field_is_named():
    """Neither numbers nor a model that is known."""
    for profile in (None, Profile(), Profile(model="unheard-of")):
        found = need_of(Asked(profile=profile))
        assert isinstance(found, Unsizable)
        assert found.field == "vram_bytes"
        assert "profile.model" in found.allowed


def test_a_gang_needs_less_on_each_device():
    """70 billion parameters on four devices."""
    profile = Profile(model="llama-3.1-70b")
    one, four = need(profile=profile), need(profile=profile, devices=4)
    assert four.vram_bytes < one.vram_bytes / 3
    assert any("split over 4 devices" in each for each in four.said)
