"""``mica bench isolation --backend opencl``: the same questions as on the simulated driver, asked of this machine's own device.

Tenants are PyOpenCL programs whose kernels really run, and the time of everybody's kernels is what a clock beside them says. The
machine is noisy: every figure is a ratio to the same programs alone, just before and just after, on the driver itself; every
comparison is repeated, and its spread shown.

Invariant: nothing that the layer counts goes into a figure, and a target that is missed is printed as missed.
"""

from collections.abc import Sequence
from statistics import fmean, median

from mica.bench._columns import shared_memory_dir
from mica.bench._errors import BenchError
from mica.bench._isolation_report import (
    Noise,
    Reaction,
    Scenario,
    ShareError,
    Spread,
    Tenant,
    Vram,
    Weights,
    spread,
    vram_of,
    weights_of,
)
from mica.bench._machine import describe_machine
from mica.bench._opencl_device import Job, OpenClDevice, Program, rate
from mica.bench._opencl_plan import Mix, Plan, full, quick
from mica.bench._opencl_replies import measure_replies
from mica.bench._opencl_report import Added, Killed, Moves, OpenClReport, Solo, Throughput, targets_of
from mica.bench._regions import monotonic_ns
from mica.bench._shares import Jump, Reading, jain, jump
from mica.bench._withheld import withheld_ns
from mica.events import PPM

__all__ = ["Plan", "full", "quick", "run"]

DEPTH = 4
"""Launches that a tenant with work keeps in its queue."""
VICTIM_PCT = 50.0
VICTIM_US = 2_000
WEIGHTS = (100, 200, 500)
VRAM_LIMIT_BYTES = (96 << 20) + 12_345
VRAM_CHUNK_BYTES = (3 << 20) + 7
KILLED_US = 20_000
SHORT_US = 1_000
SAME_PCT, MIXED_PCT = 95.0, 90.0


def run(plan: Plan) -> OpenClReport:
    """Carry the benchmark out.

    Raises:
        BenchError: there is no OpenCL device, or a tenant failed or computed something wrong.
    """
    with shared_memory_dir() as root, OpenClDevice(root, plan.settle_s) as device:
        shared = [_share(device, each, plan) for each in plan.mixes]
        noise = tuple(_noise(device, us, plan) for us in plan.neighbours_us)
        replies = measure_replies(device, plan)
        vram = tuple(_vram(device, each) for each in plan.vram_processes)
        weights = _weights(device, plan)
        reaction = _reaction(device, plan)
        solo = tuple(_solo(device, us, plan) for us in plan.solo_us)
        killed, moves, added = _killed(device, plan), _moves(device, plan), _added(device, plan)
        name = f"{device.name}, {device.version}"
    scenarios = tuple(scenario for scenario, _ in shared)
    errors = [error for scenario in scenarios for tenant in scenario.tenants for error in tenant.errors_pct]
    report = OpenClReport(
        share_error_pct=ShareError(mean=round(fmean(errors), 3), max=round(max(errors), 3)),
        jain=round(min(scenario.jain for scenario in scenarios), 5),
        noisy_neighbour_pct=max(each.lost_pct.median for each in noise),
        vram_accuracy_pct=min(each.accuracy_pct for each in vram),
        reaction_ms=max(reaction.raised_ms.median, reaction.lowered_ms.median),
        windows=len(errors),
        scenarios=scenarios,
        noise=noise,
        latency=(),
        vram=vram,
        weights=weights,
        reaction=reaction,
        throughput=tuple(throughput for _, throughput in shared),
        solo=solo,
        replies=replies,
        killed=killed,
        moves=moves,
        added=added,
        machine=describe_machine(),
        device=name,
    )
    return targets_of(report)


def work(kernel_us: float, slice_id: str | None, **environment: str) -> Job:
    """A program that always has work in its queue."""
    return Job(kind="work", kernel_us=kernel_us, argument=DEPTH, slice_id=slice_id, environment=environment)


def _rates(device: OpenClDevice, jobs: Sequence[Job], seconds: float) -> list[float]:
    """Launches a second of each of the programs, at work at the same time."""
    with device.programs(jobs) as programs:
        return _rates_of(device, programs, seconds)


def _rates_of(device: OpenClDevice, programs: Sequence[Program], seconds: float) -> list[float]:
    begin_ns, said = device.let_work(programs, seconds)
    return [rate(each.ended_ns, begin_ns, begin_ns + int(seconds * 1e9)) for each in said]


def _alone(device: OpenClDevice, kernel_us: float, seconds: float) -> float:
    """Launches a second of one program on the driver itself."""
    (alone,) = _rates(device, [work(kernel_us, None)], seconds)
    if alone == 0:
        raise BenchError(f"a kernel of {kernel_us:g} us did not end once in {seconds:g} s alone on the device")
    return alone


def _share(device: OpenClDevice, mix: Mix, plan: Plan) -> tuple[Scenario, Throughput]:
    """All at work at once, each with more to do than it may."""
    names = [f"tenant{index}" for index in range(len(mix.tenants))]
    for name, (share, _) in zip(names, mix.tenants, strict=True):
        device.grant(name, share, **({"ceiling_ppm": PPM} if mix.borrows else {}))
    jobs = [work(us, name) for name, (_, us) in zip(names, mix.tenants, strict=True)]
    sizes = dict.fromkeys(us for _, us in mix.tenants)
    runs, alone, withheld = [], [], []
    before = {us: _alone(device, us, plan.alone_s) for us in sizes}
    for _ in range(plan.runs):
        with device.programs(jobs) as programs:
            pids = [program.pid for program in programs]
            had_ns = withheld_ns(pids)
            found = _rates_of(device, programs, plan.window_s)
            withheld.append(100.0 * (withheld_ns(pids) - had_ns) / (plan.window_s * 1e9))
        after = {us: _alone(device, us, plan.alone_s) for us in sizes}
        alone.append((before, after))
        runs.append([100.0 * got / ((before[us] + after[us]) / 2) for got, (_, us) in zip(found, mix.tenants, strict=True)])
        before = after
    for name in names:
        device.take_back(name)
    return _scenario(mix, plan, runs, withheld), _throughput(mix, runs, alone)


def _relative(got: Sequence[float]) -> list[float]:
    """Parts of what all got together (%)."""
    return [100.0 * each / sum(got) for each in got]


def _scenario(mix: Mix, plan: Plan, runs: Sequence[Sequence[float]], withheld: Sequence[float]) -> Scenario:
    due = _relative([share for share, _ in mix.tenants])
    tenants = tuple(
        Tenant(
            share_pct=round(due[index], 3),
            measured_pct=round(fmean(_relative(got)[index] for got in runs), 3),
            kernels_us=(us,),
            window_s=plan.window_s,
            errors_pct=tuple(round(abs(_relative(got)[index] - due[index]), 3) for got in runs),
            withheld_pct=tuple(round(each, 2) for each in withheld),
        )
        for index, (_, us) in enumerate(mix.tenants)
    )
    fair = median(jain([got / share for got, (share, _) in zip(each, mix.tenants, strict=True)]) for each in runs)
    return Scenario(tenants=tenants, jain=round(fair, 6))


def _throughput(
    mix: Mix, runs: Sequence[Sequence[float]], alone: Sequence[tuple[dict[int, float], dict[int, float]]]
) -> Throughput:
    due = _relative([share for share, _ in mix.tenants])
    errors = [max(abs(got - own) for got, own in zip(_relative(each), due, strict=True)) for each in runs]
    return Throughput(
        kernels_us=tuple(us for _, us in mix.tenants),
        shares_pct=tuple(share for share, _ in mix.tenants),
        borrows=mix.borrows,
        alone_per_s=tuple(
            (round(median(before[us] for before, _ in alone), 1), round(median(after[us] for _, after in alone), 1))
            for _, us in mix.tenants
        ),
        slices_pct=tuple(tuple(round(got, 2) for got in each) for each in runs),
        total_pct=spread([sum(each) for each in runs]),
        error_pct=spread(errors),
        target_pct=SAME_PCT if len({us for _, us in mix.tenants}) == 1 else MIXED_PCT,
    )


def _noise(device: OpenClDevice, neighbour_us: int, plan: Plan) -> Noise:
    """A victim that has more to do than it may, alone in its slice and beside a flood."""
    device.grant("victim", VICTIM_PCT)
    device.grant("flood", 100.0 - VICTIM_PCT)
    whole = _alone(device, VICTIM_US, plan.alone_s)
    quiet, loud = [], []
    for _ in range(plan.runs):
        quiet.append(100.0 * _rates(device, [work(VICTIM_US, "victim")], plan.window_s)[0] / whole)
        jobs = [work(VICTIM_US, "victim"), work(neighbour_us, "flood")]
        loud.append(100.0 * _rates(device, jobs, plan.window_s)[0] / whole)
    device.take_back("victim")
    device.take_back("flood")
    return Noise(
        neighbour_us=neighbour_us,
        window_s=plan.window_s,
        alone_pct=round(median(quiet), 3),
        beside_pct=round(median(loud), 3),
        lost_pct=spread([100.0 * (a - b) / a for a, b in zip(quiet, loud, strict=True)]),
    )


def _vram(device: OpenClDevice, processes: int) -> Vram:
    """Programs take all that there is, to the byte, one beside the other; what they say that they asked for and hold."""
    device.grant("filled", 100.0, vram_limit_bytes=VRAM_LIMIT_BYTES)
    job = Job(kind="fill", kernel_us=1, argument=VRAM_CHUNK_BYTES, slice_id="filled")
    with device.programs([job] * processes) as programs:
        for program in programs:
            program.tell(0, 0)
        said = [program.said() for program in programs]
        taken, held = sum(each.taken_bytes for each in said), sum(each.held_bytes for each in said)
    device.take_back("filled")
    return vram_of(processes, VRAM_LIMIT_BYTES, taken, held)


def _weights(device: OpenClDevice, plan: Plan) -> Weights:
    """Three programs of one slice."""
    device.grant("family", 100.0)
    alone = _alone(device, SHORT_US, plan.alone_s)
    got = _rates(device, [work(SHORT_US, "family", MICA_WEIGHT=str(each)) for each in WEIGHTS], plan.window_s)
    device.take_back("family")
    return weights_of(WEIGHTS, got, 100.0 * sum(got) / alone)


def _change(ended_ns: Sequence[int], alone_per_s: float, changed_ns: int, step_s: float) -> Jump:
    """When the rate of a program followed what was changed."""
    near = [each for each in ended_ns if abs(each - changed_ns) <= int(step_s * 1e9)]
    readings = [Reading(at_ns, {0: int(index * 1e9 / alone_per_s)}) for index, at_ns in enumerate(near)]
    try:
        return jump(readings, 0, changed_ns, int(step_s / 2 * 1e9))
    except ValueError as error:
        raise BenchError(f"something was changed and {error}") from None


def _reaction(device: OpenClDevice, plan: Plan) -> Reaction:
    """The share of one of two tenants is halved and doubled in turn."""
    alone = _alone(device, SHORT_US, plan.alone_s)
    for name in ("changed", "other"):
        device.grant(name, 40.0)
    moments: list[int] = []
    with device.programs([work(SHORT_US, name) for name in ("changed", "other")]) as programs:
        begin_ns = monotonic_ns() + device.settle_ns
        end_ns = begin_ns + int((2 * plan.steps + 1) * 2 * plan.step_s * 1e9)
        for program in programs:
            program.tell(begin_ns, end_ns)
        for index in range(2 * plan.steps):
            device.wait_until(begin_ns + int((index + 0.5) * 2 * plan.step_s * 1e9))
            moments.append(device.grant("changed", 40.0 if index % 2 else 20.0))
        device.wait_until(end_ns)
        ended_ns = programs[0].result().ended_ns
    for name in ("changed", "other"):
        device.take_back(name)
    jumps = [max(0.0, _change(ended_ns, alone, moment, plan.step_s).after_ms) for moment in moments]
    return Reaction(raised_ms=spread(jumps[1::2]), lowered_ms=spread(jumps[::2]))


def _solo(device: OpenClDevice, kernel_us: int, plan: Plan) -> Solo:
    """One slice with all of the device, between two runs without a layer."""
    device.grant("solo", 100.0)
    found = []
    before = _alone(device, kernel_us, plan.alone_s)
    for _ in range(plan.runs):
        (inside,) = _rates(device, [work(kernel_us, "solo")], plan.alone_s)
        after = _alone(device, kernel_us, plan.alone_s)
        found.append(100.0 * inside / ((before + after) / 2))
        before = after
    device.take_back("solo")
    return Solo(kernel_us=kernel_us, pct=spread(found))


def _killed(device: OpenClDevice, plan: Plan) -> Killed:
    """A tenant is killed while it has the device; how much later than its kernel takes another's next one ends."""
    device.grant("killed", 70.0)
    device.grant("waits", 30.0)
    delays = []
    for _ in range(plan.kills):
        with device.programs([work(KILLED_US, "killed"), work(SHORT_US, "waits")]) as (victim, other):
            begin_ns = monotonic_ns() + device.settle_ns
            for program in (victim, other):
                program.tell(begin_ns, begin_ns + 1_000_000_000)
            device.wait_until(begin_ns + 500_000_000)
            victim.kill()
            killed_ns = monotonic_ns()
            next_ns = min(each for each in other.result().ended_ns if each > killed_ns)
        delays.append((next_ns - killed_ns) / 1e6 - SHORT_US / 1e3)
    device.take_back("killed")
    device.take_back("waits")
    return Killed(kernel_us=KILLED_US, delay_ms=spread([max(0.0, each) for each in delays]))


def _moves(device: OpenClDevice, plan: Plan) -> Moves:
    """The first may use what the second does not; the second comes for a while and goes."""
    alone = _alone(device, SHORT_US, plan.alone_s)
    device.grant("first", 50.0, ceiling_ppm=PPM)
    device.grant("second", 50.0, ceiling_ppm=PPM)
    jumps: list[tuple[Jump, Jump]] = []
    for _ in range(plan.steps):
        with device.programs([work(SHORT_US, "first"), work(SHORT_US, "second")]) as (first, second):
            begin_ns = monotonic_ns() + device.settle_ns
            step_ns = int(plan.step_s * 1e9)
            come_ns, go_ns, end_ns = begin_ns + step_ns, begin_ns + 3 * step_ns, begin_ns + 4 * step_ns
            first.tell(begin_ns, end_ns)
            device.wait_until(come_ns)
            second.tell(come_ns, go_ns)
            device.wait_until(end_ns)
            ended_ns = first.result().ended_ns
            second.result()
            jumps.append((_change(ended_ns, alone, come_ns, plan.step_s), _change(ended_ns, alone, go_ns, plan.step_s)))
    device.take_back("first")
    device.take_back("second")
    return Moves(
        before_pct=round(median(come.before_pct for come, _ in jumps), 1),
        beside_pct=round(median(come.then_pct for come, _ in jumps), 1),
        after_pct=round(median(gone.then_pct for _, gone in jumps), 1),
        arrived_ms=spread([max(0.0, come.after_ms) for come, _ in jumps]),
        left_ms=spread([max(0.0, gone.after_ms) for _, gone in jumps]),
    )


def _added(device: OpenClDevice, plan: Plan) -> Added:
    """A kernel that takes next to nothing, with the layer and without in turns of a tenth of a second."""
    device.grant("short", 100.0)
    jobs = [Job(kind="trip", kernel_us=0.001, argument=parity, slice_id=each) for parity, each in enumerate((None, "short"))]
    _, (bare, inside) = device.run(jobs, plan.trip_s)
    device.take_back("short")

    def added(with_layer: Sequence[float], without: Sequence[float]) -> Spread:
        return spread([(a - b) / 1e3 for a, b in zip(with_layer, without, strict=False)])

    return Added(
        trip_us=added(inside.trip_ns, bare.trip_ns),
        bare_trip_us=spread([each / 1e3 for each in bare.trip_ns]),
        enqueue_us=added(inside.enqueue_ns, bare.enqueue_ns),
        bare_enqueue_us=spread([each / 1e3 for each in bare.enqueue_ns]),
    )
