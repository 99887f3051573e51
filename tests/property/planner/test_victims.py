"""Of all sets of slices whose leaving would be enough, the one with the least harm is taken."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from mica.events import Device, Inventory, Ledger, LedgerEntry, Mode, Observed, Preemption, RequestSlice, Tier, Vendor
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.placing import Ask, Pins, Placed, decide
from mica.planner.domain.preempting import clear, evictable, harm, may_evict
from mica.planner.domain.sizing import Size

GIB = 1 << 30


def fleet(slices: list[tuple[str, int, Tier, int]]) -> Fleet:
    """Two devices of 24 GiB with those on them, as many as there is room for."""
    devices = tuple(
        Device(id=name, index=index, model="L4", vendor=Vendor.NVIDIA, vram_bytes=24 * GIB) for index, name in enumerate("xy")
    )
    made, table = Fleet(), {"x": {}, "y": {}}  # type: ignore[var-annotated]
    for number, (device, gib, tier, priority) in enumerate(slices):
        if sum(each.vram_bytes for each in table[device].values()) + gib * GIB <= 24 * GIB:
            table[device][f"s{number}"] = LedgerEntry(
                id=f"s{number}", tenant="t", generation=1, tier=tier, mode=Mode.FCSP, vram_bytes=gib * GIB, share_ppm=10_000,
                priority=priority,
            )  # fmt: skip
    node = made.node("n")
    node.take_inventory(Inventory(node="n", pool="p", boot_id="b", devices=devices))
    node.take_observed(Observed(node="n", boot_id="b", lease_until=1_000))
    node.take_ledger(Ledger(node="n", devices=table))
    return made


rows = st.lists(
    st.tuples(st.sampled_from("xy"), st.integers(1, 12), st.sampled_from(Tier), st.sampled_from([10, 45, 50])), max_size=7
)


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(1, 24), st.sampled_from(Preemption), st.sampled_from(Tier))
def test_the_victims_are_those_that_brute_force_finds(
    slices: list[tuple[str, int, Tier, int]], gib: int, policy: Preemption, tier: Tier
) -> None:
    """No other set does less harm, none of them can be spared, and all of them may be evicted."""
    where = fleet(slices)
    node = where.node("n")
    request = RequestSlice(tenant="t", id="g", vram_bytes=gib * GIB, tier=tier, mode=Mode.FCSP, share_ppm=10_000)
    ask = Ask(id="g", request=request, size=Size(gib * GIB, 10_000), pins=Pins(now_ns=1), members=1)

    def fits(gone: set[str]) -> bool:
        shadow = Fleet()
        shadow.adopt(node.without(gone))
        return isinstance(decide(shadow, ask), Placed)

    able = evictable(node, lambda entry: may_evict(request, entry, policy), {})
    sets = [each for size in range(len(able) + 1) for each in combinations(able, size) if fits({one.id for one in each})]
    found = clear(where, ask, lambda _node, entry: may_evict(request, entry, policy))
    if found is None:
        assert not sets or not able
        return
    assert harm(found.victims) == min(harm(each) for each in sets)
    for one in found.victims:
        assert not fits({each.id for each in found.victims} - {one.id})
