"""The queue's order is fair, the same for every replica, and lets nobody wait for ever."""

import random

from hypothesis import given
from hypothesis import strategies as st

from mica.events import Holding, Phase, RequestSlice, SliceRecord, Tier
from mica.planner.domain.queueing import PATIENCE_S, Standing, band, demand, in_order

GIB = 1 << 30
TOTAL = Holding(vram_bytes=1000 * GIB, share_ppm=100_000_000)
SECOND = 1_000_000_000


def waiting(  # noqa: PLR0917 - a row of the table below
    number: int, tenant: str, gib: int = 1, tier: Tier = Tier.GUARANTEED, priority: int = 50, since_s: int = 0
) -> SliceRecord:
    request = RequestSlice(tenant=tenant, id=f"s{number}", vram_bytes=gib * GIB, tier=tier, priority=priority, queue_s=3600)
    return SliceRecord(
        id=f"s{number}", request=request, phase=Phase.QUEUED, generation=1, sequence=number, request_sequence=number,
        until=(since_s + 3600) * SECOND,
    )  # fmt: skip


queues = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.integers(1, 40), st.sampled_from(Tier), st.sampled_from([0, 50, 90]), st.integers(0, 900)
    ),
    max_size=20,
).map(lambda rows: [waiting(number, *row) for number, row in enumerate(rows)])


@given(queues, st.randoms(use_true_random=False), st.integers(0, 2000))
def test_the_order_does_not_depend_on_who_heard_what_first(queue: list[SliceRecord], chance: random.Random, now_s: int) -> None:
    """Any interleaving gives the same order, with everybody in it once."""
    standing = Standing(now_ns=now_s * SECOND, total=TOTAL)
    shuffled = chance.sample(queue, len(queue))
    assert in_order(shuffled, standing) == in_order(queue, standing)
    assert {record.id for record in shuffled} == {record.id for record in in_order(queue, standing)}


@given(queues)
def test_a_better_band_comes_first_while_nobody_has_waited_long(queue: list[SliceRecord]) -> None:
    """By tier, then by priority."""
    ordered = in_order(queue, Standing(now_ns=0, total=TOTAL))
    assert [band(record) for record in ordered] == sorted(band(record) for record in queue)


@given(queues, st.integers(0, 3000))
def test_who_has_waited_long_has_one_of_each_other_tenant_ahead_at_most(queue: list[SliceRecord], now_s: int) -> None:
    """The oldest of a tenant, once its patience is over; whatever the others' tiers."""
    ordered = [record.id for record in in_order(queue, Standing(now_ns=now_s * SECOND, total=TOTAL))]
    for tenant in "abc":
        own = [each for each in queue if each.request.tenant == tenant and now_s - each.until // SECOND + 3600 >= PATIENCE_S]
        if own:
            assert ordered.index(own[0].id) <= 2


@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.integers(1, 40), min_size=10, max_size=60), st.booleans())
def test_under_a_backlog_tenants_get_by_their_weights(weight_a: int, weight_b: int, sizes: list[int], a_first: bool) -> None:
    """At every point of the queue while both wait, weighted shares differ by one request at most."""
    names = ["a"] * len(sizes) + ["b"] * len(sizes) if a_first else ["b", "a"] * len(sizes)
    queue = [waiting(number, name, sizes[number % len(sizes)]) for number, name in enumerate(names)]
    weights = {"a": float(weight_a), "b": float(weight_b)}
    standing = Standing(now_ns=0, weights=weights, total=TOTAL)
    got, left = {"a": 0, "b": 0}, {"a": len(sizes), "b": len(sizes)}
    for record in in_order(queue, standing):
        if not all(left.values()):
            break
        got[record.request.tenant] += demand(record.request, TOTAL)[0]
        left[record.request.tenant] -= 1
        assert abs(got["a"] / weights["a"] - got["b"] / weights["b"]) <= 40 * GIB
