"""A request that does not fit evicts with the least harm, or waits in its place in the queue; what it waits for is told."""

import pytest
from planner_house import House, Rig, ask, l4

from mica.events import (
    ExplainSlice,
    Inventory,
    Mode,
    Phase,
    PoolPolicy,
    Preemption,
    ReleaseSlice,
    SliceRecord,
    TenantPolicy,
    TenantQuota,
    Tier,
)


@pytest.fixture
async def house() -> House:
    """One L4 on one node, one planner."""
    house = House()
    await house.add_node(Inventory(node="n1", pool="default", boot_id="b1", devices=(l4("a", 0),)))
    await house.start_planner()
    yield house  # type: ignore[misc]
    await house.stop_planners()


async def record(house: House, id_: str) -> SliceRecord:
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    return entry.value


async def put(house: House, id_: str, gib: float, **more: object) -> None:
    await house.send(ask(id_, gib, mode=Mode.FCSP, share_ppm=50_000, **more))


async def calm(house: House, seconds: float = 4) -> None:
    for _ in range(int(seconds / 2)):
        await house.pass_time(2)
        await house.settle()


async def test_a_guaranteed_request_evicts_a_spot_slice_and_gets_its_place(house: House) -> None:
    """The smaller of two that would do; the evicted one hears why, the asker was told whom it waits for."""
    await put(house, "big", 14, tier=Tier.SPOT)
    await put(house, "small", 6, tier=Tier.SPOT)
    await put(house, "g", 7, queue_s=600)
    await calm(house)
    assert [(await record(house, id_)).phase for id_ in ("g", "small", "big")] == [Phase.PLACED, Phase.EVICTED, Phase.PLACED]
    (evicted,) = house.said("slice.evicted.small")
    assert evicted.message == "preempted for slice g of tenant t1 (guaranteed, priority 50)"
    assert [each.waits_for.victims for each in house.said("slice.queued.g")] == [(), ("small",)]


@pytest.mark.parametrize(("policy", "tier"), [(Preemption.NEVER, Tier.SPOT), (Preemption.SPOT, Tier.BURST)])
async def test_nobody_is_evicted_whom_the_pool_protects(house: House, policy: Preemption, tier: Tier) -> None:
    """The request waits, and gets its place when the other goes by itself."""
    await house.bus.policy.put("pool.default", PoolPolicy(preemption=policy))
    await put(house, "old", 20, tier=tier)
    await put(house, "g", 7, queue_s=600)
    await calm(house)
    assert ((await record(house, "g")).phase, (await record(house, "old")).phase) == (Phase.QUEUED, Phase.PLACED)
    await house.send(ReleaseSlice(id="old"))
    await calm(house)
    assert (await record(house, "g")).phase is Phase.PLACED


async def test_what_fits_goes_in_while_the_large_one_has_only_just_come(house: House) -> None:
    """Nothing stands idle for somebody who may wait for long."""
    await put(house, "old", 12)
    await put(house, "large", 16, queue_s=60)
    await calm(house)
    await put(house, "late", 2, queue_s=60)
    assert (await record(house, "late")).phase is Phase.PLACED


async def test_small_requests_do_not_overtake_a_large_one_that_has_waited_long(house: House) -> None:
    """After half of its time its room is kept: what comes later and would take it waits too."""
    await put(house, "old", 12)
    await put(house, "large", 16, queue_s=60)
    await calm(house, 32)
    await put(house, "late", 2, queue_s=60)
    await calm(house)
    assert (await record(house, "late")).phase is Phase.QUEUED
    await house.send(ReleaseSlice(id="old"))
    await calm(house)
    assert [(await record(house, id_)).phase for id_ in ("large", "late")] == [Phase.PLACED, Phase.PLACED]


@pytest.mark.parametrize("kept", [True, False])
async def test_a_stream_of_small_requests_starves_a_large_one_only_where_nothing_is_kept(
    house: House, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Each small one leaves when the next has come; the control never keeps anything."""
    if not kept:
        monkeypatch.setattr("mica.planner.upkeep.is_kept_for", lambda _record, _now: False)
    await put(house, "small0", 12)
    await put(house, "large", 16, queue_s=60)
    for number in range(1, 13):
        await put(house, f"small{number}", 8, queue_s=60)
        await calm(house)
        await house.send(ReleaseSlice(id=f"small{number - 1}"))
    assert (await record(house, "large")).phase is (Phase.PLACED if kept else Phase.QUEUED)


async def test_two_replicas_that_preempt_at_once_evict_nobody_twice(house: House) -> None:
    """Two requests, two planners, one spot slice on the device: it goes once, and both get their places."""
    await house.start_planner()
    await put(house, "spot", 20, tier=Tier.SPOT)
    for id_ in ("g1", "g2"):
        await house.bus.publish(ask(id_, 7, mode=Mode.FCSP, share_ppm=50_000, queue_s=600))
    await calm(house, 12)
    assert [(await record(house, id_)).phase for id_ in ("g1", "g2", "spot")] == [Phase.PLACED, Phase.PLACED, Phase.EVICTED]
    assert len(house.said("slice.evicted.*")) == 1


async def test_nobody_is_evicted_for_what_its_tenant_may_not_have(house: House) -> None:
    """A quota refuses before anybody has to go."""
    await house.bus.policy.put("tenant.poor", TenantPolicy(quota=TenantQuota(vram_bytes=4 << 30)))
    await put(house, "spot", 20, tier=Tier.SPOT)
    await put(house, "g", 7, tenant="poor", queue_s=600)
    await calm(house)
    assert (await record(house, "spot")).phase is Phase.PLACED
    assert house.said("slice.evicted.*") == []
    waits = await record(house, "g")
    assert (waits.phase, waits.waits_for.victims) == (Phase.QUEUED, ())


async def test_of_two_replicas_with_room_for_one_one_request_gets_the_place(house: House) -> None:
    """The spot slice goes once, one asker is placed, the other goes on waiting and evicts nobody else."""
    await house.start_planner()
    await put(house, "other", 2, tier=Tier.BURST)
    await put(house, "spot", 18, tier=Tier.SPOT)
    for id_ in ("g1", "g2"):
        await house.bus.publish(ask(id_, 15, mode=Mode.FCSP, share_ppm=50_000, queue_s=600))
    await calm(house, 12)
    assert sorted([(await record(house, id_)).phase for id_ in ("g1", "g2")]) == [Phase.PLACED, Phase.QUEUED]
    assert [event.id for event in house.said("slice.evicted.*")] == ["spot"]
    assert (await record(house, "other")).phase is Phase.PLACED


async def test_a_dry_run_names_whom_the_request_then_evicts(house: House) -> None:
    """The same slices, and nothing has happened yet."""
    await put(house, "big", 14, tier=Tier.SPOT)
    await put(house, "small", 6, tier=Tier.SPOT)
    asked = ask("g", 7, mode=Mode.FCSP, share_ppm=50_000, queue_s=600)
    sequence = await house.send(ExplainSlice(request=asked))
    (answer,) = house.bus.published(f"slice.explained.{sequence}")
    assert (answer.outcome, answer.would_evict) == ("queued", ("small",))
    assert (await record(house, "small")).phase is Phase.PLACED
    await house.send(asked)
    await calm(house)
    assert [event.id for event in house.said("slice.evicted.*")] == ["small"]


async def test_a_gang_evicts_on_as_many_devices_as_it_needs(house: House) -> None:
    """Two devices of one node: a spot slice leaves each."""
    await house.add_node(Inventory(node="n2", pool="pair", boot_id="b1", devices=(l4("b", 0), l4("c", 1))))
    for id_ in ("s1", "s2"):
        await put(house, id_, 20, tier=Tier.SPOT, pool="pair")
    await put(house, "gang", 10, pool="pair", devices=2, queue_s=600)
    await calm(house, 8)
    assert [(await record(house, id_)).phase for id_ in ("gang", "s1", "s2")] == [Phase.PLACED, Phase.EVICTED, Phase.EVICTED]


async def test_what_a_request_waits_for_is_told_anew_at_most_every_five_seconds(house: House) -> None:
    """However often the queue moves ahead of it."""
    await put(house, "old", 20)
    await put(house, "waits", 18, queue_s=600)
    for number in range(20):
        await put(house, f"n{number}", 18, queue_s=600, priority=90)
        await calm(house, 2)
        await house.send(ReleaseSlice(id=f"n{number}"))
    assert 1 < len(house.said("slice.queued.waits")) <= 2 + 40 / 5


async def test_a_planner_that_dies_while_it_preempts_leaves_nothing_undone() -> None:
    """Killed after any number of writes: the next one gives the asker its place, and one slice alone was evicted, once."""
    for budget in range(1, 14):
        house = House()
        await house.add_node(Inventory(node="n1", pool="default", boot_id="b1", devices=(l4("a", 0),)))
        await house.start_planner(rig := Rig(house.bus))
        await put(house, "big", 14, tier=Tier.SPOT)
        await put(house, "small", 6, tier=Tier.SPOT)
        rig.budget = budget
        await put(house, "g", 7, queue_s=600)
        await house.stop_planners()
        await house.start_planner()
        house.bus.deliver_again("COMMANDS", "planner")
        await calm(house, 8)
        assert [(await record(house, id_)).phase for id_ in ("g", "small", "big")] == [
            Phase.PLACED, Phase.EVICTED, Phase.PLACED
        ], budget  # fmt: skip
        assert len(house.said("slice.evicted.*")) == 1
        await house.stop_planners()
