"""Whatever ledgers come and wherever the enforcer is killed, the node ends as the last ledger says."""

import asyncio
from typing import Any

from enforcer_machine import HARD, SOFT, Machine
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

IDS = ("a", "b", "c")
LOST = ("observed.n1", "slice.ready.*", "slice.released.*", "slice.resized.*", "slice.attached.*")

soft = st.tuples(st.just(SOFT), st.integers(1, 8), st.just(0))
hard = st.tuples(st.just(HARD), st.just(1), st.integers(0, 2))
steps = st.one_of(
    st.tuples(st.just("ledger"), st.dictionaries(st.sampled_from(IDS), soft | hard)),
    st.tuples(st.just("resize"), st.tuples(st.sampled_from(IDS), st.integers(1, 8))),
    st.tuples(st.just("attach"), st.tuples(st.sampled_from(IDS), st.integers(1, 4))),
    st.tuples(st.just("exit"), st.integers(0, 9)),
    st.tuples(st.just("tick"), st.integers(1, 4)),
    st.tuples(st.just("kill"), st.integers(1, 14)),
    st.tuples(st.just("lag"), st.booleans()),
    st.tuples(st.just("lose"), st.tuples(st.sampled_from(LOST), st.sampled_from(["before", "after"]))),
)


async def play(script: list[tuple[str, Any]], *, everybody_leaves: bool) -> None:
    """One life of a node."""
    machine = Machine()
    await machine.open()
    for name, value in script:
        match name:
            case "ledger":
                await machine.on_ledger(value)
            case "resize":
                await machine.on_resize(*value)
            case "attach":
                machine.on_attach(*value)
            case "exit":
                machine.on_exit(value)
            case "tick":
                for _ in range(value):
                    await machine.tick()
            case "kill":
                machine.kill_in = value
            case "lag":
                machine.lagging = value
            case "lose":
                machine.bus.fail_next(*value)
        await machine.live()
    await machine.converge(everybody_leaves=everybody_leaves)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(script=[("lose", ("slice.ready.*", "before")), ("ledger", {"a": (SOFT, 1, 0)})], everybody_leaves=False)
@example(
    script=[("lose", ("slice.ready.*", "after")), ("ledger", {"a": (SOFT, 2, 0)}), ("resize", ("a", 1))], everybody_leaves=False
)
@example(
    script=[("ledger", {"a": (SOFT, 1, 0)}), ("lose", ("slice.released.*", "before")), ("ledger", {})], everybody_leaves=False
)
@example(
    script=[
        ("ledger", {"a": (SOFT, 4, 0)}),
        ("attach", ("a", 3)),
        ("lose", ("slice.resized.*", "before")),
        ("resize", ("a", 2)),
        ("tick", 1),
    ],
    everybody_leaves=False,
)
@given(st.lists(steps, min_size=3, max_size=30), st.booleans())
def test_the_node_ends_as_the_last_ledger_says(script: list[tuple[str, Any]], everybody_leaves: bool) -> None:
    """No kill, lost write or process in between leaves a partition twice, a byte unaccounted, or a slice unannounced."""
    asyncio.run(play(script, everybody_leaves=everybody_leaves))
