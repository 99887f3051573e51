"""Right-sizing: from what telemetry says of a slice to an ordinary resize, or a reason why not."""

import asyncio
from typing import Any

import pytest
from planner_house import GIB, House, ask, quiet

from mica.events import (
    Automation,
    GuardState,
    MeasuredPoint,
    Mode,
    Profile,
    RightsizeSlices,
    Rightsizing,
    SizeAdvice,
    Sizing,
    SliceRecord,
    SliceSampled,
    SlicesRightsized,
    Slo,
    TenantPolicy,
    Tier,
)

SECONDS = 70
S_NS = 1_000_000_000


async def use(house: House, id_: str, **how: Any) -> None:
    """What telemetry publishes of a slice for so long, once a second: ``gib`` held, parts of the time computing and throttled."""
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    (here,) = entry.value.placements
    given = {"gib": 1.0, "part": 0.05, "throttled": 0.0, "refusals": 0, "processes": 1, "seconds": SECONDS} | how
    for second in range(given["seconds"]):
        await house.bus.publish(
            SliceSampled(
                at=house.clock.unix_ns(), id=id_, tenant=entry.value.request.tenant, node=here.node, device_id=here.device_id,
                vram_used_bytes=int(given["gib"] * GIB), vram_peak_bytes=int(given["gib"] * GIB),
                vram_limit_bytes=here.vram_bytes, share_ppm=here.share_ppm, gpu_ns=int(second * given["part"] * S_NS),
                throttled_ns=int(second * given["throttled"] * S_NS), refusals=given["refusals"] * second,
                processes=given["processes"],
            )
        )  # fmt: skip
        await house.pass_time(1)


async def advice(house: House, **more: Any) -> SlicesRightsized:
    sequence = await house.bus.publish(RightsizeSlices(**({"window_s": 60.0} | more)))
    async with asyncio.timeout(30):
        while not (found := house.said(f"slice.rightsized.{sequence}")):
            await quiet(20)
    await house.settle()
    assert isinstance(found[0], SlicesRightsized)
    return found[0]


async def only(house: House, **more: Any) -> SizeAdvice:
    (found,) = (await advice(house, **more)).advices
    return found


async def put(house: House, id_: str = "s1", gib: float = 16, **more: Any) -> None:
    await house.send(ask(id_, gib, **({"mode": Mode.FCSP, "share_ppm": 400_000, "tier": Tier.BURST} | more)))


async def test_what_is_idle_shrinks_to_what_is_used_and_a_little(house: House) -> None:
    """15 % more memory than was used at most, a quarter more compute; it is an ordinary resize, and the next look says stay."""
    await put(house)
    await use(house, "s1", gib=4.0, part=0.08)
    told = await only(house, apply=True)
    assert (told.action, told.used_bytes, told.used_ppm) == (Sizing.SHRINK, 4 * GIB, 80_000)
    assert told.to_vram_bytes == -int(-4.6 * GIB // (64 << 20)) * (64 << 20)
    assert told.to_share_ppm == 100_000
    (resized,) = house.said("slice.resized.s1")
    assert resized.generation == 2
    assert (await only(house)).action is Sizing.UNKNOWN
    await use(house, "s1", gib=4.0, part=0.08)
    assert (await only(house)).action is Sizing.STAY


async def test_what_is_throttled_grows_as_far_as_its_device_has_room(house: House) -> None:
    """By a quarter at a time; where the device has no more, the advice says so."""
    await put(house)
    await use(house, "s1", gib=14.0, part=0.4, throttled=0.5)
    told = await only(house)
    assert (told.action, told.to_share_ppm, told.to_vram_bytes) == (Sizing.GROW, 500_000, 16 * GIB)
    await put(house, "full", 2, share_ppm=600_000)
    told = await only(house, id="s1")
    assert told.action is Sizing.STAY
    assert "no more to give" in told.why


async def test_refused_allocations_ask_for_memory(house: House) -> None:
    """However little is held."""
    await put(house)
    await use(house, "s1", gib=1.0, part=0.35, refusals=1)
    told = await only(house)
    assert (told.action, told.to_vram_bytes) == (Sizing.GROW, 20 * GIB)


async def test_guaranteed_slices_shrink_only_where_their_tenant_agrees(house: House) -> None:
    """The reason stands in the advice."""
    await put(house, tier=Tier.GUARANTEED)
    await use(house, "s1")
    told = await only(house)
    assert told.action is Sizing.STAY
    assert "has not agreed" in told.why
    agreed = TenantPolicy(rightsizing=Rightsizing(shrink_guaranteed=True))
    await house.bus.policy.put("tenant.t1", agreed)
    await quiet()
    assert (await only(house)).action is Sizing.SHRINK


async def test_spot_slices_do_not_grow(house: House) -> None:
    """They may borrow what is idle."""
    await put(house, tier=Tier.SPOT)
    await use(house, "s1", gib=14, part=0.4, throttled=0.5)
    told = await only(house)
    assert told.action is Sizing.STAY
    assert "spot slices do not grow" in told.why


async def test_a_promise_is_kept(house: House) -> None:
    """Never below what the profile needs for the SLO; without a profile the share stays; near its limits nothing shrinks."""
    points = tuple(MeasuredPoint(share_ppm=share, p99_ms=4000 / share * 1e4, rate_hz=100) for share in (200_000, 400_000))
    await put(house, slo=Slo(p99_ms=1000.0), profile=Profile(points=points))
    await use(house, "s1")
    told = await only(house)
    assert told.to_share_ppm >= 200_000
    await put(house, "s2", 4, slo=Slo(p99_ms=10.0), share_ppm=100_000)
    await use(house, "s2", part=0.01)
    assert (await only(house, id="s2")).to_share_ppm == 100_000
    await house.bus.state.put("guard.s2", GuardState(id="s2", breaches=1))
    told = await only(house, id="s2")
    assert (told.to_vram_bytes, told.to_share_ppm) == (4 * GIB, 100_000)
    assert "near the limits of its SLO" in told.why


async def test_what_was_not_seen_for_long_enough_or_never_ran_is_not_judged(house: House) -> None:
    """Nor is a size judged by what was used in another."""
    await put(house)
    assert (await only(house)).action is Sizing.UNKNOWN
    await use(house, "s1", processes=0, gib=0.0, part=0.0)
    assert (await only(house)).action is Sizing.IDLE


@pytest.mark.parametrize("mode", [Automation.ADVISE, Automation.AUTO])
async def test_a_policy_has_it_told_or_done_once(house: House, mode: Automation) -> None:
    """By the tenant's name; what is told is not told again while it is the same."""
    await house.bus.policy.put("tenant.t1", TenantPolicy(rightsizing=Rightsizing(mode=mode, window_s=60.0)))
    await put(house)
    await use(house, "s1", seconds=130)
    await house.settle()
    assert len(house.said("slice.rightsized.t1")) == 1
    resizes = house.said("slice.resize")
    assert len(resizes) == (1 if mode is Automation.AUTO else 0)


async def test_two_replicas_resize_once(house: House) -> None:
    """From one size, however often they look."""
    await house.start_planner()
    await house.bus.policy.put("tenant.t1", TenantPolicy(rightsizing=Rightsizing(mode=Automation.AUTO, window_s=60.0)))
    await put(house)
    await use(house, "s1", seconds=130)
    await house.settle()
    assert len(house.said("slice.resize")) == 1
