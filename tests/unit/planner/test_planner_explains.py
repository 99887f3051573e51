"""A dry run tells what would become of a request, device by device, and changes nothing."""

from msgspec.structs import replace
from planner_house import GIB, House, ask, h100, l4, mixed, p40

from mica.events import (
    ExplainSlice,
    Inventory,
    Mode,
    PoolPolicy,
    RequestSlice,
    SliceExplained,
    SliceRecord,
    TenantPolicy,
    TenantQuota,
)


async def explained(house: House, request: RequestSlice) -> SliceExplained:
    """The answer to a dry run."""
    sequence = await house.bus.publish(ExplainSlice(request=request))
    await house.settle(1)
    (answer,) = house.bus.published(f"slice.explained.{sequence}")
    assert isinstance(answer, SliceExplained)
    return answer


def modes_of(answer: SliceExplained) -> dict[str, list[tuple[Mode | None, bool]]]:
    """By device, the modes that are named and whether it fits in them."""
    found: dict[str, list[tuple[Mode | None, bool]]] = {}
    for each in answer.candidates:
        found.setdefault(each.device_id, []).append((each.mode, each.fits))
    return found


async def test_a_dry_run_names_the_device_that_the_request_then_gets(house: House) -> None:
    """Whatever is asked for: first explained, then asked."""
    for index, (gib, more) in enumerate([(20, {}), (70, {}), (20, {"mode": Mode.FCSP}), (20, {"mode": Mode.TIMESLICE}), (9, {})]):
        request = ask(f"s{index}", gib, **more)
        answer = await explained(house, request)
        chosen = [(each.device_id, each.mode) for each in answer.candidates if each.chosen]
        await house.bus.publish(request)
        await house.settle(1)
        entry = await house.bus.state.get(f"slice.s{index}", SliceRecord)
        assert entry is not None
        assert answer.outcome == ("placed" if entry.value.placements else "rejected")
        assert chosen == [(each.device_id, each.mode) for each in entry.value.placements]


async def test_a_dry_run_changes_nothing(house: House) -> None:
    """No record, no charge, no ledger entry."""
    before = await house.bus.state.keys("*.*")
    await explained(house, ask("a", 9))
    assert await house.bus.state.keys("*.*") == before
    assert house.bus.published("slice.placed.*") == []


async def test_every_device_is_there_with_the_reason_against_the_stronger_modes(house: House) -> None:
    """An L4 fits as fcsp, after it is said why not in hardware; a P40 in neither."""
    answer = await explained(house, ask("a", 9))
    by_device = modes_of(answer)
    assert by_device["n1-h100"] == [(Mode.HARDWARE, True)]
    assert by_device["n1-l4"] == [(Mode.FCSP, True), (Mode.HARDWARE, False)]
    assert by_device["n1-p40"][0] == (Mode.TIMESLICE, True)
    against = {(each.device_id, each.mode): each.reason for each in answer.candidates if not each.fits}
    assert "no hardware partitions" in against["n1-l4", Mode.HARDWARE]
    assert "compute capability 6.1" in against["n1-p40", Mode.FCSP]


async def test_candidates_are_in_the_order_of_preference(house: House) -> None:
    """The taken one first, then by rank, then those that do not fit."""
    answer = await explained(house, ask("a", 9))
    assert [each.rank for each in answer.candidates if each.fits] == [1, 2, 3]
    assert [each.fits for each in answer.candidates] == sorted((each.fits for each in answer.candidates), reverse=True)
    assert answer.candidates[0].chosen
    assert answer.candidates[0].partition is not None


async def test_who_pinned_a_mode_is_named(house: House) -> None:
    """The request, the tenant's policy or the pool's: each by its name."""
    await house.bus.policy.put("pool.default", PoolPolicy(modes=(Mode.HARDWARE, Mode.FCSP)))
    await house.bus.policy.put("tenant.acme", TenantPolicy(mode=Mode.FCSP))
    await house.settle(1)
    tenant = ask("a", 9).tenant
    asked = {each.reason for each in (await explained(house, ask("a", 9, mode=Mode.FCSP))).candidates if not each.fits}
    assert "the request asks for fcsp" in asked
    answer = await explained(house, replace(ask("a", 9), tenant="acme"))
    assert "policy tenant.acme pins fcsp" in {each.reason for each in answer.candidates}
    pooled = await explained(house, replace(ask("a", 9), tenant=tenant))
    assert "policy pool.default allows hardware, fcsp" in {each.reason for each in pooled.candidates}


async def test_a_quota_and_a_missing_size_are_told(house: House) -> None:
    """The outcome is rejected, for the reason that the request would get."""
    await house.bus.policy.put("tenant.acme", TenantPolicy(quota=TenantQuota(vram_bytes=GIB)))
    await house.settle(1)
    answer = await explained(house, replace(ask("a", 9), tenant="acme"))
    assert answer.outcome == "rejected"
    assert answer.summary.startswith("vram_bytes")
    assert (await explained(house, replace(ask("a", 9), vram_bytes=None))).summary.startswith("vram_bytes: got nothing")


async def test_what_could_wait_is_queued(house: House) -> None:
    """With time in the queue, a request that fits once others have left is not rejected."""
    await house.bus.publish(ask("big", 70))
    await house.settle(1)
    assert (await explained(house, ask("a", 60, mode=Mode.HARDWARE))).outcome == "rejected"
    assert (await explained(house, ask("a", 60, mode=Mode.HARDWARE, queue_s=60.0))).outcome == "queued"


async def test_a_device_that_would_be_switched_says_so(house: House) -> None:
    """A switchable H100 outside of MIG mode fits in hardware, after it is switched."""
    device = replace(h100("n2-h100"), partitioned=False, switchable=True)
    await house.add_node(Inventory(node="n2", pool="edge", boot_id="b1", devices=(device, l4("n2-l4"), p40("n2-p40"))))
    await house.settle(1)
    answer = await explained(house, ask("a", 9, pool="edge"))
    chosen = answer.candidates[0]
    assert (chosen.device_id, chosen.mode, chosen.switches) == ("n2-h100", Mode.HARDWARE, True)
    assert {each.reason for each in answer.candidates if each.node == "n1"} == {"in pool default"}
    assert mixed().node == "n1"
