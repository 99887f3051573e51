"""``mica bench shim``: what the shim adds to a call of the driver.

Each column (the driver alone, our shim on it, perhaps another shim on it) is a process of its own, which opens the library and
asks it as programs do. All are pinned to one core and measured in turns of a few batches, so that what drifts drifts for all. A
batch is 1,000 calls and counts by the average of its calls; frees take the live allocations in random order. The columns of a
contended pair run one after the other, each with as many processes of one slice as it says, on as many cores as there are.

Invariant: every column has the same driver below, and every figure was taken in the same run.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from mica.bench._columns import (
    SHIM,
    Column,
    ColumnProcess,
    Driver,
    Enforcer,
    columns,
    device_of,
    processes,
    shared_memory_dir,
    time_init,
)
from mica.bench._errors import BenchError
from mica.bench._machine import describe_machine
from mica.bench._shim_report import BATCH_CALLS, HEAD, Call, Report, Samples, call_of, figure, init_of, remarks, rows
from mica.native import bench_driver, sim_cuda

__all__ = ["HEAD", "Plan", "remarks", "rows", "run"]

LIVE = (0, 1_000, 10_000, 100_000)
CONTENDERS = (1, 2, 8)
FLOORS = ("atomic_add", "compare_and_set", "cycle_counter", "clock_gettime", "random_line_of_2_mib")
TURN_BATCHES = 10
INIT_TARGET_US = 120.0
PAIR_TARGETS_NS = {2: 250.0}
_MEMORY_TARGET_NS = 50.0
_SIM_NODE = b'name = "bench"\n[[device]]\nmodel = "H200"\n'


class Plan(Struct, frozen=True, kw_only=True):
    """How much to measure. ``driver``: "thin", "sim" or a path; ``preload``: another shim, to stand beside ours."""

    batches: int = 400
    repetitions: int = 5
    init_processes: int = 50
    pair_ms: int = 200
    driver: str = "thin"
    preload: str | None = None


class Order(Struct, frozen=True):
    """An order to the columns' programs, and the calls that its answer's lines are about, with their targets."""

    word: str
    amount: int
    lines: tuple[tuple[str, float | None], ...]


def _orders() -> list[Order]:
    def named(call: str, live: int) -> str:
        return call if live == 0 else f"{call}, {live} live"

    found = [
        Order(word, live, ((named(allocate, live), _MEMORY_TARGET_NS), (named(free, live), _MEMORY_TARGET_NS)))
        for word, allocate, free, counts in (
            ("memory", "cuMemAlloc", "cuMemFree", LIVE),
            ("async", "cuMemAllocAsync", "cuMemFreeAsync", (0,)),
        )
        for live in counts
    ]
    return [
        *found,
        Order("info", 0, (("cuMemGetInfo", 25.0),)),
        Order("launch", 0, (("cuLaunchKernel", 25.0),)),
        Order("address", 0, (("cuGetProcAddress", 250.0),)),
    ]


def run(plan: Plan) -> Report:
    """Carry the benchmark out."""
    cores = sorted(os.sched_getaffinity(0))
    preload = None if plan.preload is None else Path(plan.preload).resolve()
    if preload is not None and not preload.is_file():
        raise BenchError(f"--preload {plan.preload}: no such file")
    with ExitStack() as stack:
        root = stack.enter_context(shared_memory_dir())
        driver = _driver(plan.driver, root)
        sides = columns(driver, preload)
        enforcer = stack.enter_context(Enforcer(root / "run", device_of(sides[0])))
        stack.enter_context(_away_from(cores[-1]))
        calls, floors = _measure_calls(plan, sides, enforcer, cores[-1])
        contended = {str(count): _measure_pairs(plan, sides, enforcer, count, cores) for count in CONTENDERS}
        init, opened = _measure_init(plan, sides, enforcer, cores[-1])
    init_us = init_of(init, opened, INIT_TARGET_US)
    verdicts = [call.holds for call in (*calls.values(), *contended.values())] + [init_us.holds]
    return Report(
        calls=calls,
        init_us=init_us,
        contended=contended,
        floor_ns={name: figure(sample) for name, sample in floors.items()},
        holds=False not in verdicts,
        driver=driver.text,
        preload=None if preload is None else str(preload),
        repetitions=plan.repetitions,
        batches=plan.batches,
        batch_calls=BATCH_CALLS,
        core=cores[-1],
        machine=describe_machine(),
    )


def _driver(which: str, root: Path) -> Driver:
    if which == "thin":
        return Driver(bench_driver(), "thin (simulated; every call costs a few nanoseconds)", {})
    if which == "sim":
        from mica.hardware import NodeFile, write_node_desc

        write_node_desc(NodeFile.parse(_SIM_NODE), root / "sim")
        return Driver(sim_cuda(), "mica's simulated driver", {"MICA_SIM_DIR": str(root / "sim")})
    path = Path(which).resolve()
    if not path.is_file():
        raise BenchError(f"--driver {which}: neither thin nor sim, and no such file")
    return Driver(path, str(path), {})


@contextmanager
def _away_from(core: int) -> Iterator[None]:
    """Keep this process off the core that is measured, if there is another."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed - {core} or allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _measure_calls(
    plan: Plan, sides: list[Column], enforcer: Enforcer, core: int
) -> tuple[dict[str, Call], dict[str, list[float]]]:
    orders = _orders()
    samples = {name: Samples.empty() for order in orders for name, _ in order.lines}
    floors: dict[str, list[float]] = {name: [] for name in FLOORS}
    for repetition in range(plan.repetitions):
        inside = enforcer.slice(f"calls-{repetition}")
        with processes([(side, core) for side in sides], inside) as programs:
            for name, sample in zip(FLOORS, programs[0].ask("floor", 0, plan.batches, len(FLOORS)), strict=True):
                floors[name] += sample
            for order in orders:
                _repeat(plan.batches, order, programs, samples)
        enforcer.listen()
    if enforcer.attached != plan.repetitions:
        raise BenchError(f"{enforcer.attached} processes attached to their slice, expected {plan.repetitions}")
    targets = {name: target for order in orders for name, target in order.lines}
    return {name: call_of(found, targets[name]) for name, found in samples.items()}, floors


def _repeat(batches: int, order: Order, programs: list[ColumnProcess], samples: dict[str, Samples]) -> None:
    """One repetition of an order: the columns take turns."""
    for name, _ in order.lines:
        for program in programs:
            samples[name].of(program.column.name).append([])
    for done in range(0, batches, TURN_BATCHES):
        for program in programs:
            answer = program.ask(order.word, order.amount, min(TURN_BATCHES, batches - done), len(order.lines))
            for (name, _), line in zip(order.lines, answer, strict=True):
                samples[name].of(program.column.name)[-1] += line


def _measure_pairs(plan: Plan, sides: list[Column], enforcer: Enforcer, count: int, cores: list[int]) -> Call:
    samples = Samples.empty()
    for repetition in range(plan.repetitions):
        for side in sides:
            inside = enforcer.slice(f"pair-{count}-{repetition}") if side.name == SHIM else {}
            with processes([(side, cores[-1 - i % len(cores)]) for i in range(count)], inside) as programs:
                for program in programs:
                    program.ask("pair", 1, 0, 1)  # attached and warm
                for program in programs:
                    program.send("pair", plan.pair_ms, 0)
                samples.of(side.name).append([value for program in programs for value in program.line()])
            enforcer.listen()
    return call_of(samples, PAIR_TARGETS_NS.get(count))


def _measure_init(plan: Plan, sides: list[Column], enforcer: Enforcer, core: int) -> tuple[Samples, Samples]:
    init, opened = Samples.empty(), Samples.empty()
    inside = enforcer.slice("init")
    before = enforcer.listen()
    for _ in range(plan.repetitions):
        for side in sides:
            init.of(side.name).append([])
            opened.of(side.name).append([])
        for _ in range(plan.init_processes):
            for side in sides:
                alone, both = time_init(side, inside, core)
                init.of(side.name)[-1].append(alone)
                opened.of(side.name)[-1].append(both)
            enforcer.listen()
    heard, expected = enforcer.listen() - before, plan.repetitions * plan.init_processes
    if heard != expected:
        raise BenchError(f"{heard} processes announced their attach, expected {expected}")
    return init, opened
