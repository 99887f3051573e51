"""Requests that say what they run instead of how much they need: sized, placed, and told what was assumed."""

from msgspec.structs import replace
from planner_house import House, ask

from mica.events import (
    ExplainSlice,
    MeasuredPoint,
    Mode,
    Phase,
    Profile,
    RequestSlice,
    SliceExplained,
    SliceRecord,
    Slo,
    StoredProfile,
)

LLM = Profile(model="meta-llama/Llama-3.1-8B-Instruct", context_tokens=8192, concurrency=8)
POINTS = (
    MeasuredPoint(share_ppm=200_000, p99_ms=90, rate_hz=5, vram_bytes=2 << 30),
    MeasuredPoint(share_ppm=800_000, p99_ms=30, rate_hz=20, vram_bytes=3 << 30),
)


def wants(id_: str, profile: Profile, **more: object) -> RequestSlice:
    return replace(ask(id_, 1, profile=profile, **more), vram_bytes=None)


async def answered(house: House, request: RequestSlice) -> SliceRecord:
    await house.bus.publish(request)
    await house.settle(1)
    entry = await house.bus.state.get(f"slice.{request.id}", SliceRecord)
    assert entry is not None
    return entry.value


async def explained(house: House, request: RequestSlice) -> SliceExplained:
    sequence = await house.bus.publish(ExplainSlice(request=request))
    await house.settle(1)
    (answer,) = house.bus.published(f"slice.explained.{sequence}")
    assert isinstance(answer, SliceExplained)
    return answer


async def test_an_llm_without_a_size_is_placed_and_the_decision_says_what_was_assumed(house: House) -> None:
    """Its weights and cache are 24 GB: only the H100 holds them, and every assumption is in the answer."""
    record = await answered(house, wants("a", LLM))
    assert record.phase is Phase.PLACED
    assert record.placements[0].model == "H100-SXM-80GB"
    assert record.placements[0].vram_bytes > 24 << 30
    assert record.decision is not None
    for said in ("weights 15 GiB + KV cache 8 GiB", "weights in bf16 assumed", "output assumed", "8 sequences at once"):
        assert said in record.decision.summary
    dry = await explained(house, wants("b", LLM))
    assert "weights in bf16 assumed" in dry.summary


async def test_each_device_is_asked_for_the_share_that_it_needs(house: House) -> None:
    """An L4 is too slow for the promise and says so; a P40, of which no speed is known, can not be judged."""
    answer = await explained(house, wants("a", replace(LLM, dtype="int4", concurrency=1), slo=Slo(tpot_ms=12)))
    assert answer.outcome == "placed"
    reasons = {each.model: each.reason for each in answer.candidates if not each.fits and "weaker" not in each.reason}
    assert "even a whole L4 is too slow" in reasons["L4"]
    assert "nothing says how fast the workload is on P40" in reasons["P40"]
    assert "estimated by" in answer.summary


async def test_a_promise_that_no_device_of_the_fleet_keeps_is_refused_by_its_field(house: House) -> None:
    """An H200 might keep it; here nothing does, and nobody waits for it."""
    record = await answered(house, wants("a", LLM, slo=Slo(tpot_ms=14), queue_s=60))
    assert record.phase is Phase.REJECTED
    assert (record.field, record.given) == ("slo", "tpot 14 ms, with 10 % headroom")
    assert "even a whole H100-SXM-80GB is too slow" in record.allowed
    assert record.decision is not None
    assert "estimated by" in record.decision.summary


async def test_a_request_names_a_stored_profile(house: House) -> None:
    """Its points size the slice; what the request says itself stands in place of what is stored; the name is in the answer."""
    await house.bus.policy.put("profile.small", StoredProfile(points=POINTS, source="mica profile"))
    await house.settle(1)
    record = await answered(house, wants("a", Profile(name="small"), slo=Slo(p99_ms=60), mode=Mode.FCSP))
    assert record.phase is Phase.PLACED
    assert 500_000 < record.placements[0].share_ppm < 700_000
    assert record.placements[0].vram_bytes > 3 << 30
    assert record.request.profile == Profile(name="small")
    assert record.decision is not None
    assert "from profile.small, mica profile" in record.decision.summary
    own = await answered(house, wants("b", Profile(name="small", vram_bytes=5 << 30), mode=Mode.FCSP))
    assert own.placements[0].vram_bytes == 5 << 30


async def test_the_same_request_again_is_the_same_though_its_profile_changed(house: House) -> None:
    """The record keeps what was asked; a profile that changes moves nobody."""
    await house.bus.policy.put("profile.small", StoredProfile(vram_bytes=1 << 30))
    await house.settle(1)
    first = await answered(house, wants("a", Profile(name="small"), mode=Mode.FCSP))
    await house.bus.policy.put("profile.small", StoredProfile(vram_bytes=2 << 30))
    await house.settle(1)
    again = await answered(house, wants("a", Profile(name="small"), mode=Mode.FCSP))
    assert again.placements == first.placements
    assert house.bus.published("slice.rejected.*") == []


async def test_a_name_under_which_nothing_is_stored_is_refused(house: House) -> None:
    """With the names that there are."""
    await house.bus.policy.put("profile.small", StoredProfile(vram_bytes=1 << 30))
    await house.settle(1)
    record = await answered(house, wants("a", Profile(name="smal")))
    assert (record.field, record.given, record.allowed) == ("profile.name", "smal", "a stored profile (small)")


async def test_a_profile_that_contradicts_itself_is_refused_with_the_reason(house: House) -> None:
    """Slower with more compute: nobody knows which of the two is true."""
    points = (POINTS[0], replace(POINTS[1], p99_ms=200))
    record = await answered(house, wants("a", Profile(points=points), slo=Slo(p99_ms=60)))
    assert (record.phase, record.field) == (Phase.REJECTED, "profile.points")
    assert "no slower with more compute" in record.allowed
