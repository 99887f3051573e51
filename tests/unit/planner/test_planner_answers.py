"""Exactly one answer: refusals, duplicates, queues, throttling, rivals and lost nodes, through the whole planner."""

import json

import pytest
from msgspec.structs import replace
from planner_house import GIB, House, Rig, ask, h100, l4, quiet

from mica.events import (
    Inventory,
    Mode,
    NodePolicy,
    Phase,
    PoolPolicy,
    ReleaseSlice,
    ResizeSlice,
    SlicePlaced,
    SliceReady,
    SliceRecord,
    SliceReleased,
    Switching,
    TenantPolicy,
    TenantQuota,
    Tier,
)
from mica.planner.commits import GroupCommit
from mica.planner.lanes import Lanes


async def phase(house: House, id_: str) -> Phase:
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    return entry.value.phase


@pytest.mark.parametrize(
    ("body", "field", "given"),
    [
        (b"{", "body", "{"),
        (b'{"tenant":"t","vram_bytes":0}', "vram_bytes", "0"),
        (b'{"tenant":"t","vram_bytes":-5}', "vram_bytes", "-5"),
        (b'{"tenant":"t","vram_bytes":1,"vram":2}', "vram", "2"),
        (b'{"tenant":"t","vram_bytes":1,"mode":"magic"}', "mode", "magic"),
        (b'{"tenant":"t","vram_bytes":1,"vendor":"acme"}', "vendor", "acme"),
        (b'{"tenant":"t","vram_bytes":1,"id":"seq-7777"}', "id", "seq-7777"),
        (
            json.dumps({"tenant": "t", "vram_bytes": 1, "name": "x" * 1_000_000}).encode(),
            "name",
            "x" * 80 + "… (1000000 characters)",
        ),
    ],
)
async def test_a_body_that_can_never_work_is_answered_once_and_ended(house: House, body: bytes, field: str, given: str) -> None:
    """The answer under the stream sequence names the field and what it held; the stream does not keep the message."""
    sequence = await house.bus.publish_raw("slice.request", body)
    await house.settle()
    [answer] = house.said(f"slice.rejected.seq-{sequence}")
    assert (answer.field, answer.given) == (field, given)
    assert answer.allowed
    assert house.bus.deliver_again("COMMANDS", "planner") == 0


async def test_a_malformed_release_and_an_unknown_command_are_refused(house: House) -> None:
    """Whatever is no request is refused under its sequence."""
    first = await house.bus.publish_raw("slice.release", b'{"id": 5}')
    second = await house.bus.publish_raw("slice.explode", b"{}")
    await house.settle()
    assert [each.field for each in house.said(f"slice.refused.{first}")] == ["id"]
    assert [each.field for each in house.said(f"slice.refused.{second}")] == ["subject"]


async def test_the_same_request_again_gets_the_same_answer(house: House) -> None:
    """A repetition changes nothing and contradicts nothing."""
    await house.send(ask("s1", 4))
    await house.send(ask("s1", 4))
    assert len(house.said("slice.placed.s1")) == len(house.said("slice.ready.s1")) == 1


async def test_who_asks_again_hears_that_the_slice_is_ready(house: House) -> None:
    """The enforcer's own words reach a late follower, also after a resize, and the stream keeps them once."""
    await house.send(ask("s1", 4, mode=Mode.FCSP))
    await house.send(ResizeSlice(id="s1", vram_bytes=5 * GIB))
    [ready] = house.said("slice.ready.s1")
    async with house.bus.following("slice.*.s1") as heard:
        await house.send(ask("s1", 4, mode=Mode.FCSP))
        said = await anext(heard)
    assert said.event == ready
    assert house.said("slice.ready.s1") == [ready]


async def test_who_asks_again_before_it_is_ready_hears_where_it_is_placed(house: House) -> None:
    """What was said of an older slice of that id counts for nothing."""
    await house.bus.publish(SliceReady(at=1, id="s1", tenant="t1", generation=1, placements=()))
    await house.bus.publish(SliceReleased(at=2, id="s1", tenant="t1", generation=1))
    await house.bus.publish(ask("s1", 4))
    await quiet()
    async with house.bus.following("slice.*.s1") as heard:
        await house.bus.publish(ask("s1", 4))
        await quiet()
        said = await anext(heard)
    assert isinstance(said.event, SlicePlaced)


async def test_who_asks_again_while_it_is_released_is_told_so(house: House) -> None:
    """A slice that is on its way out answers nobody any more; the id is taken until it is forgotten."""
    await house.send(ask("s1", 4))
    await house.bus.publish(ReleaseSlice(id="s1"))
    await quiet()
    assert await phase(house, "s1") is Phase.RELEASING
    sequence = await house.bus.publish(ask("s1", 4))
    await quiet()
    [answer] = house.said(f"slice.rejected.seq-{sequence}")
    assert (answer.field, answer.given) == ("id", "s1")


async def test_another_body_under_a_taken_id_is_rejected_by_sequence(house: House) -> None:
    """The first slice goes on, the second request is told under its own number."""
    await house.send(ask("s1", 4))
    sequence = await house.send(ask("s1", 5))
    [answer] = house.said(f"slice.rejected.seq-{sequence}")
    assert (answer.field, answer.given) == ("id", "s1")
    assert house.said("slice.rejected.s1") == []


async def test_a_request_without_an_id_is_called_after_its_sequence(house: House) -> None:
    """Identity is in the body or in the stream, nowhere else."""
    sequence = await house.bus.publish_raw("slice.request", b'{"tenant":"t","vram_bytes":1073741824}')
    await house.settle()
    assert len(house.said(f"slice.ready.seq-{sequence}")) == 1


async def test_a_release_that_overtakes_its_request_wins(house: House) -> None:
    """A request that is delivered after a later release of its id is rejected; a newer request lives."""
    await house.stop_planners()
    request = await house.bus.publish(ask("s1", 4))
    await house.bus.publish(ReleaseSlice(id="s1"))
    house.bus._consumers["COMMANDS", "planner"].queue._queue.reverse()
    await house.start_planner()
    await house.settle()
    assert request == 1
    assert [each.field for each in house.said("slice.rejected.s1")] == ["id"]
    await house.send(ReleaseSlice(id="s2"))
    await house.send(ask("s2", 4))
    assert len(house.said("slice.ready.s2")) == 1


async def test_a_quota_is_kept_and_its_rest_is_named(house: House) -> None:
    """What a tenant has left of its quota is the allowed part of the answer."""
    await house.bus.policy.put("tenant._default", TenantPolicy(quota=TenantQuota(vram_bytes=6 * GIB)))
    await quiet()
    await house.send(ask("s1", 4, mode=Mode.FCSP))
    await house.send(ask("s2", 4, mode=Mode.FCSP))
    [answer] = house.said("slice.rejected.s2")
    assert answer.field == "vram_bytes"
    assert answer.allowed.startswith(f"at most {2 * GIB} left")


async def test_a_pool_policy_leaves_only_its_modes(house: House) -> None:
    """A pool that allows timeslice alone places nothing on its other devices."""
    await house.bus.policy.put("pool.default", PoolPolicy(modes=(Mode.TIMESLICE,)))
    await quiet()
    await house.send(ask("s1", 4))
    assert house.said("slice.placed.s1")[0].placements[0].mode is Mode.TIMESLICE


async def test_a_pool_policy_that_is_spoilt_stays_in_force(house: House) -> None:
    """What cannot be read changes nothing, for the planner that runs and for the one that starts; other policies go on."""
    await house.bus.policy.put("pool.default", PoolPolicy(modes=(Mode.TIMESLICE,)))
    await house.bus.publish_raw("$KV.policy.pool.default", b"modes: all")
    await house.bus.publish_raw("$KV.policy.tenant.t1", b"[]")
    await quiet()
    await house.send(ask("s1", 4))
    await house.stop_planners()
    await house.start_planner()
    await house.bus.policy.put("tenant._default", TenantPolicy(quota=TenantQuota(slices=2)))
    await quiet()
    for name in ("s2", "s3"):
        await house.send(ask(name, 4))
    assert [house.said(f"slice.placed.{name}")[0].placements[0].mode for name in ("s1", "s2")] == [Mode.TIMESLICE] * 2
    assert len(house.said("slice.rejected.s3")) == 1


async def test_a_nodes_policy_is_heard_and_taken_back(house: House) -> None:
    """Its devices are switched as it says, until it is gone."""
    device = replace(h100("n1-h100"), partitioned=False, switchable=True)
    await house.bus.state.put("inventory.n1", Inventory(node="n1", pool="default", boot_id="b1", devices=(device,)))
    await house.bus.policy.put("node.n1", NodePolicy(switching=Switching.NEVER))
    await quiet()
    await house.send(ask("s1", 4))
    assert house.said("slice.placed.s1")[0].placements[0].mode is Mode.FCSP
    await house.send(ReleaseSlice(id="s1"))
    await house.settle()
    await house.bus.policy.delete("node.n1")
    await quiet()
    await house.send(ask("s2", 4))
    assert house.said("slice.placed.s2")[0].placements[0].mode is Mode.HARDWARE


async def test_waiting_requests_are_placed_by_priority_when_capacity_comes(house: House) -> None:
    """The highest priority goes first, then the oldest; a restart forgets none of them."""
    await house.send(ask("hog", 20, mode=Mode.FCSP))
    await house.send(ask("low", 20, mode=Mode.FCSP, queue_s=60, priority=1))
    await house.send(ask("high", 20, mode=Mode.FCSP, queue_s=60, priority=90))
    assert [len(house.said(f"slice.queued.{id_}")) for id_ in ("low", "high")] == [1, 1]
    await house.stop_planners()
    await house.start_planner()
    await house.send(ReleaseSlice(id="hog"))
    await house.settle()
    assert len(house.said("slice.ready.high")) == 1
    assert await phase(house, "low") is Phase.QUEUED


async def test_a_queued_request_is_rejected_when_its_time_is_up(house: House) -> None:
    """Waiting ends in one rejection that names what stood in the way."""
    await house.send(ask("hog", 20, mode=Mode.FCSP))
    await house.send(ask("s1", 20, mode=Mode.FCSP, queue_s=5))
    await house.pass_time(7)
    [answer] = house.said("slice.rejected.s1")
    assert answer.field == "vram_bytes"


async def test_a_failing_device_is_passed_over(house: House) -> None:
    """What the enforcer cannot make live is placed elsewhere, and ready there once."""
    house.enforcers["n1"].broken.add("n1-h100")
    await house.send(ask("s1", 4))
    await house.settle()
    assert [each.placements[0].device_id for each in house.said("slice.placed.s1")] == ["n1-h100", "n1-l4"]
    assert len(house.said("slice.ready.s1")) == 1


async def test_what_no_device_can_hold_has_failed(house: House) -> None:
    """When every device fails, the request is answered failed, and nothing stays charged."""
    house.enforcers["n1"].broken |= {"n1-h100", "n1-l4", "n1-p40"}
    await house.send(ask("s1", 4, mode=Mode.FCSP))
    await house.settle()
    assert len(house.said("slice.failed.s1")) == 1
    assert house.said("slice.ready.s1") == []


async def test_spot_slices_of_a_node_whose_lease_ends_are_lost_and_the_node_returns_empty(house: House) -> None:
    """Nothing is given up before lease and margin are over; afterwards its capacity comes back with its enforcer."""
    await house.send(ask("s1", 4, tier=Tier.SPOT))
    await house.pass_time(35, silent="n1")
    assert house.said("slice.lost.s1") == []
    await house.pass_time(12, silent="n1")
    assert len(house.said("slice.lost.s1")) == 1
    await house.settle()
    await house.pass_time(3)
    await house.send(ask("s2", 70))
    assert len(house.said("slice.ready.s2")) == 1


async def test_a_slice_whose_device_vanishes_is_lost(house: House) -> None:
    """A device that leaves the inventory takes its slices with it."""
    await house.send(ask("s1", 4))
    await house.bus.state.put("inventory.n1", Inventory(node="n1", pool="default", boot_id="b1", devices=(l4("n1-l4"),)))
    await house.pass_time(3)
    assert len(house.said("slice.lost.s1")) == 1


async def test_a_resize_that_does_not_fit_is_refused_and_changes_nothing(house: House) -> None:
    """The most that would fit is named."""
    await house.send(ask("s1", 4, mode=Mode.FCSP))
    sequence = await house.send(ResizeSlice(id="s1", vram_bytes=50 * GIB))
    [refused] = house.said(f"slice.refused.{sequence}")
    assert (refused.field, refused.allowed) == ("vram_bytes", f"at most {22 * GIB + GIB // 2} now on the slice's device")
    assert house.said("slice.resized.s1") == []


@pytest.mark.parametrize("guarded", [True, False])
async def test_an_author_that_slept_through_a_release_does_not_bring_the_slice_back(
    house: House, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """Between record and ledger a rival released the slice and saw it leave: without epochs it would come back."""
    if not guarded:
        monkeypatch.setattr(GroupCommit, "epoch", property(lambda self: 0, lambda self, value: None), raising=False)
    await house.stop_planners()
    sleeper = Rig(house.bus)
    await house.start_planner(sleeper)
    release = sleeper.hold("ledger.n1")
    await house.bus.publish(ask("s1", 4))
    await quiet()
    assert await phase(house, "s1") is Phase.PLACED
    await house.start_planner()
    house.bus._consumers["COMMANDS", "planner"].queue._getters.rotate(-1)
    await house.bus.publish(ReleaseSlice(id="s1"))
    await house.settle(4)
    assert await phase(house, "s1") is Phase.RELEASED
    release.set()
    await house.settle(4)
    assert (house.enforcers["n1"].observed.devices == {}) is guarded


async def test_a_tenant_that_asks_too_much_waits_alone() -> None:
    """A throttled tenant's commands are held in order while another's start at once; too many go back."""
    started: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

    async def handle(call: Named) -> None:
        started.append(call.name)

    spawned = []
    lanes = Lanes(lambda tenant: 2 if tenant == "greedy" else 100, handle, spawned.append)  # type: ignore[arg-type]
    taken = [lanes.put("greedy", Named(f"g{index}")) for index in range(1_030)]  # type: ignore[arg-type]
    assert lanes.put("modest", Named("m0"))  # type: ignore[arg-type]
    assert taken.count(False) == 1_030 - 2 - 1_024
    runs = [each for each in spawned if each.cr_code.co_name == "_run"]
    for each in runs:
        await each
    assert started == ["g0", "g1", "m0"]
    for each in spawned:
        each.close()
