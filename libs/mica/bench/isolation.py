"""``mica bench isolation``: how exactly slices of one device get what they were given, and what a neighbour costs.

Tenants are programs under the shim, on a simulated device whose own books are the only source of figures. Shares are looked at in
windows of 2 s, or of 400 kernels of the tenant where those take longer: one kernel more or less is no error of the share. Loss
and latency compare a victim beside a neighbour that floods the device with the same victim alone in its slice.

Windows in which the machine did not run the tenants count like any other; what it withheld from them stands beside each.

Invariant: nothing that the shim counts goes into a figure, and a target that is missed is printed as missed.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean, median

from mica.bench._columns import shared_memory_dir
from mica.bench._device import READ_EVERY_S, Device, kernel
from mica.bench._errors import BenchError
from mica.bench._isolation_report import (
    Latency,
    Noise,
    Reaction,
    Report,
    Scenario,
    ShareError,
    Tenant,
    Vram,
    Weights,
    spread,
    targets_of,
    vram_of,
    weights_of,
)
from mica.bench._machine import describe_machine
from mica.bench._plan import DURATIONS_US, Plan, TenantPlan, full, quick
from mica.bench._regions import QUANTUM_NS
from mica.bench._shares import jain, jump, shares_pct, windows
from mica.bench._system import measure_system

__all__ = ["Plan", "full", "quick", "run"]

WINDOWS_LEAST = 3
"""Every scenario lasts for so many of the shortest windows."""
SETTLE_S = 1.0
"""Before a window: programs start, kernels are measured for the first time, and what they saved up is spent."""
VICTIM_SHARE_PCT = 50.0
VICTIM_US = 200
PACED_US = 500
PACED_PERIOD_NS = 2_500_000
"""The paced victim wants a fifth of the device, well within its half of it."""
WEIGHTS = (100, 200, 500)
STEP_S = 0.6
"""Between two changes of a share; the rate is settled after half of it."""
READ_FAST_S = 0.003
VRAM_LIMIT_BYTES = (512 << 20) + 12_345
VRAM_CHUNK_BYTES = (3 << 20) + 7


def run(plan: Plan) -> Report:
    """Carry the benchmark out."""
    with shared_memory_dir() as root, Device(root, DURATIONS_US) as device:
        scenarios = tuple(_share(device, each) for each in plan.scenarios)
        noise = _noise(device, plan)
        latency = _latency(device, plan)
        vram = tuple(_vram(device, each) for each in plan.vram_processes)
        weights = _weights(device, plan.window_s)
        reaction = _reaction(device, plan)
    system = measure_system(plan.changes) if plan.changes else None
    errors = [error for scenario in scenarios for tenant in scenario.tenants for error in tenant.errors_pct]
    report = Report(
        share_error_pct=ShareError(mean=round(fmean(errors), 3), max=round(max(errors), 3)),
        jain=round(min(scenario.jain for scenario in scenarios), 5),
        noisy_neighbour_pct=max(each.lost_pct.median for each in noise),
        vram_accuracy_pct=min(each.accuracy_pct for each in vram),
        reaction_ms=max(reaction.raised_ms.median, reaction.lowered_ms.median),
        windows=len(errors),
        scenarios=scenarios,
        noise=noise,
        latency=latency,
        vram=vram,
        weights=weights,
        reaction=reaction,
        system=system,
        machine=describe_machine(),
    )
    return targets_of(report)


def _share(device: Device, plan: Sequence[TenantPlan]) -> Scenario:
    """All at work at once, each with more to do than it may."""
    names = [f"tenant{index}" for index in range(len(plan))]
    for name, tenant in zip(names, plan, strict=True):
        device.grant(name, tenant.share_pct)
    with device.tenants([(name, tenant.arguments) for name, tenant in zip(names, plan, strict=True)]) as programs:
        pids = [program.pid for program in programs]
        device.watch(pids, SETTLE_S)
        seconds = max(max(tenant.window_s, WINDOWS_LEAST * tenant.least_s) for tenant in plan)
        readings = device.watch(pids, seconds * 1.02 + READ_EVERY_S * WINDOWS_LEAST)
    for name in names:
        device.take_back(name)
    whole_ns = readings[-1].at_ns - readings[0].at_ns
    tenants = []
    for tenant, pid in zip(plan, pids, strict=True):
        got = windows(readings, pid, int(tenant.window_s * 1e9))
        over_all = 100.0 * (readings[-1].kernel_ns[pid] - readings[0].kernel_ns[pid]) / whole_ns
        tenants.append(
            Tenant(
                share_pct=tenant.share_pct,
                kernels_us=tenant.kernels_us,
                window_s=round(tenant.window_s, 2),
                measured_pct=round(over_all, 3),
                errors_pct=tuple(round(abs(each.share_pct - tenant.share_pct), 3) for each in got),
                withheld_pct=tuple(round(100.0 * each.withheld_ns / each.length_ns, 2) for each in got),
            )
        )
    fair = jain([tenant.measured_pct / tenant.share_pct for tenant in tenants])
    return Scenario(tenants=tuple(tenants), jain=round(fair, 6))


def _beside(
    device: Device, victim: Sequence[str], neighbour_us: int | None, seconds: float, *, bare: bool = False
) -> tuple[float, int, int]:
    """Run a victim alone or beside a flood; its part of the device (percent), and its latency p50 and p99 (ns).

    Args:
        bare: both on the driver itself, in no slice.
    """
    programs_of = {"victim": victim}
    if neighbour_us is not None:
        programs_of["flood"] = ("work", kernel(neighbour_us), "0")
    slices = {} if bare else {"victim": VICTIM_SHARE_PCT, "flood": 100.0 - VICTIM_SHARE_PCT}
    granted = [name for name in programs_of if name in slices]
    for name in granted:
        device.grant(name, slices[name])
    wanted = [(name if name in slices else None, arguments) for name, arguments in programs_of.items()]
    with device.tenants(wanted) as programs:
        pids = [programs[0].pid]
        device.watch(pids, SETTLE_S)
        readings = device.watch(pids, seconds)
        outcome = programs[0].stop()
    for name in granted:
        device.take_back(name)
    [part, *_] = shares_pct((readings[0], readings[-1]), pids[0], 0)
    return part, outcome.p50_ns, outcome.p99_ns


def _noise(device: Device, plan: Plan) -> tuple[Noise, ...]:
    """A victim that has more to do than it may. A run is as long as a window of either's share."""
    victim = ("work", kernel(VICTIM_US), "32")
    alone = [_beside(device, victim, None, plan.window_s)[0] for _ in range(plan.runs)]
    found = []
    for neighbour_us in plan.neighbours_us:
        neighbour = TenantPlan(100.0 - VICTIM_SHARE_PCT, (neighbour_us,), 0, plan.window_s, plan.window_kernels)
        beside = [_beside(device, victim, neighbour_us, neighbour.window_s)[0] for _ in alone]
        lost = [100.0 * (quiet - loud) / quiet for quiet, loud in zip(alone, beside, strict=True)]
        found.append(
            Noise(
                neighbour_us=neighbour_us,
                window_s=round(neighbour.window_s, 2),
                alone_pct=round(median(alone), 3),
                beside_pct=round(median(beside), 3),
                lost_pct=spread(lost),
            )
        )
    return tuple(found)


def _latencies(
    device: Device, victim: Sequence[str], neighbour_us: int | None, plan: Plan, *, bare: bool = False
) -> list[tuple[int, int]]:
    """p50 and p99 (ns) of each run."""
    return [_beside(device, victim, neighbour_us, plan.window_s, bare=bare)[1:] for _ in range(plan.runs)]


def _added_ms(alone: Sequence[tuple[int, int]], beside: Sequence[tuple[int, int]]) -> tuple[list[float], list[float]]:
    """What the neighbour adds to p50 and to p99 in each run."""
    p50, p99 = ([(loud[at] - quiet[at]) / 1e6 for quiet, loud in zip(alone, beside, strict=True)] for at in (0, 1))
    return p50, p99


def _latency(device: Device, plan: Plan) -> tuple[Latency, ...]:
    """A victim within its share, one kernel at a time."""
    victim = ("pace", kernel(PACED_US), str(PACED_PERIOD_NS))
    alone, bare_alone = (_latencies(device, victim, None, plan, bare=bare) for bare in (False, True))
    found = []
    for neighbour_us in plan.neighbours_us:
        added = _added_ms(alone, _latencies(device, victim, neighbour_us, plan))
        bare_added = _added_ms(bare_alone, _latencies(device, victim, neighbour_us, plan, bare=True))
        found.append(
            Latency(
                neighbour_us=neighbour_us,
                alone_p50_ms=round(median(quiet[0] for quiet in alone) / 1e6, 3),
                alone_p99_ms=round(median(quiet[1] for quiet in alone) / 1e6, 3),
                added_p50_ms=spread(added[0]),
                added_p99_ms=spread(added[1]),
                bare_added_p99_ms=spread(bare_added[1]),
                allowed_ms=max(QUANTUM_NS / 1e6, neighbour_us / 1e3),
            )
        )
    return tuple(found)


def _vram(device: Device, processes: int) -> Vram:
    """Several programs at once take all that there is, to the byte; what the driver then holds is compared with the limit."""
    device.grant("filled", 50.0, vram_limit_bytes=VRAM_LIMIT_BYTES)
    wanted = [("filled", ("fill", str(VRAM_CHUNK_BYTES)))] * processes
    with device.tenants(wanted) as programs:
        for program in programs:
            program.wait_ready()
        held = device.held_bytes()
        for program in programs:
            program.go()
        taken = sum(program.finish().taken_bytes for program in programs)
    device.take_back("filled")
    return vram_of(processes, VRAM_LIMIT_BYTES, taken, held)


def _weights(device: Device, seconds: float) -> Weights:
    """Three programs of one slice."""
    device.grant("family", VICTIM_SHARE_PCT)
    wanted = [("family", ("work", kernel(VICTIM_US), "0"))] * len(WEIGHTS)
    with device.tenants(wanted, WEIGHTS) as programs:
        pids = [program.pid for program in programs]
        device.watch(pids, SETTLE_S)
        readings = device.watch(pids, seconds)
    device.take_back("family")
    got = [shares_pct((readings[0], readings[-1]), pid, 0)[0] for pid in pids]
    return weights_of(WEIGHTS, got, sum(got))


def _reaction(device: Device, plan: Plan) -> Reaction:
    """The share of one of two tenants is halved and doubled in turn. No share is in force before its record is written."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for name in ("changed", "other"):
        device.grant(name, 40.0)
    wanted = [(name, ("work", kernel(VICTIM_US), "0")) for name in ("changed", "other")]
    with device.tenants(wanted) as programs:
        pids = [programs[0].pid]
        device.watch(pids, SETTLE_S)
        for share in _steps(plan.steps):
            readings = device.watch(pids, STEP_S / 2, READ_FAST_S)
            changed_ns = device.grant("changed", share)
            readings += device.watch(pids, STEP_S, READ_FAST_S)
            try:
                jumped = jump(readings, pids[0], changed_ns, int(STEP_S / 2 * 1e9))
            except ValueError as error:
                raise BenchError(f"share {share:g} % was written and {error}") from None
            found[jumped.then_pct > jumped.before_pct].append(max(0.0, jumped.after_ms))
    for name in ("changed", "other"):
        device.take_back(name)
    return Reaction(raised_ms=spread(found[True]), lowered_ms=spread(found[False]))


def _steps(count: int) -> Iterator[float]:
    for _ in range(count):
        yield 20.0
        yield 40.0
