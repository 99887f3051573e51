"""What ``mica bench isolation --backend opencl`` reports: the keys of the simulated backend, and what only real compute shows.

Invariant: a target stands beside every figure that has one; ratios are of figures of one run.
"""

from statistics import median
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.bench._isolation_report import Report, Spread, Target, at_least, at_most, text_of


class Throughput(Struct, frozen=True, kw_only=True):
    """A scenario's tenants together, in percent of what each does alone on the driver itself, and that figure alone.

    ``alone_per_s``: launches a second of each tenant alone, before and after. ``slices_pct``: what each got of that, by run.
    ``error_pct``: how far the tenant furthest from its part of what all got was from it, by run (points).
    """

    kernels_us: tuple[int, ...]
    shares_pct: tuple[float, ...]
    borrows: bool
    alone_per_s: tuple[tuple[float, float], ...]
    slices_pct: tuple[tuple[float, ...], ...]
    total_pct: Spread
    error_pct: Spread
    target_pct: float


class Solo(Struct, frozen=True, kw_only=True):
    """One slice that may use all of the device, alone on it: its throughput in percent of no layer."""

    kernel_us: int
    pct: Spread


class Reply(Struct, frozen=True, kw_only=True):
    """A tenant of 30 % that asks at random for half of that: from its asking to its kernel's end, beside a flood and alone.

    ``parts``: both have a part of the device to themselves. ``bare``: no layer. ``times``: by what the flood multiplies p50, p99.
    ``kernels``: p99 beside the flood in kernels of the flood.
    """

    kernel_us: int
    neighbour_us: int
    parts: bool
    alone_p50_ms: Spread
    alone_p99_ms: Spread
    times_p50: Spread
    times_p99: Spread
    bare_times_p50: Spread
    bare_times_p99: Spread
    kernels_p99: Spread


class Killed(Struct, frozen=True, kw_only=True):
    """A tenant is killed while its kernel runs: from then until another's next kernel ends, less the kernel's own time."""

    kernel_us: int
    delay_ms: Spread


class Moves(Struct, frozen=True, kw_only=True):
    """A second tenant comes to a device that the first had to itself, and goes: when the first has what it then should have."""

    before_pct: float
    beside_pct: float
    after_pct: float
    arrived_ms: Spread
    left_ms: Spread


class Added(Struct, frozen=True, kw_only=True):
    """What the layer adds to a launch that is waited for, and to one of many that are not (us)."""

    trip_us: Spread
    bare_trip_us: Spread
    enqueue_us: Spread
    bare_enqueue_us: Spread


class OpenClReport(Report, frozen=True, kw_only=True):
    """What came out. ``system`` is measured by the simulated backend."""

    throughput: tuple[Throughput, ...]
    solo: tuple[Solo, ...]
    replies: tuple[Reply, ...]
    killed: Killed
    moves: Moves
    added: Added


JAIN: Final = 0.998
SOLO_PCT: Final = 98.0
SAME_P50: Final = 1.7
SAME_P99: Final = 2.0
LONGER_KERNELS: Final = 3.0
PARTS: Final = 1.1
KILLED_MS: Final = 50.0
TRIP_US: Final = 5.0
ENQUEUE_US: Final = 0.7


def targets_of(report: OpenClReport) -> OpenClReport:
    """The report with its targets filled in."""
    targets: dict[str, Target] = {}
    for each in report.throughput:
        name = _name(each)
        targets[f"relative share error, {name}"] = at_most(each.error_pct.median, _error_of(each), "points")
        targets[f"throughput together, {name}"] = at_least(each.total_pct.median, each.target_pct, "% of one unlimited tenant")
    targets["Jain's index"] = at_least(report.jain, JAIN, "")
    for solo in report.solo:
        targets[f"one slice alone, {solo.kernel_us} us"] = at_least(solo.pct.median, SOLO_PCT, "% of no layer")
    for reply in report.replies:
        targets |= _of_reply(reply)
    targets["delay by a killed tenant"] = at_most(report.killed.delay_ms.median, KILLED_MS, "ms")
    targets["VRAM accuracy"] = Target(report.vram_accuracy_pct, "100 %", report.vram_accuracy_pct == 100.0)
    added = report.added
    targets["added to a round trip"] = at_most(added.trip_us.median, TRIP_US, "us")
    targets["added to a pipelined enqueue"] = at_most(added.enqueue_us.median, ENQUEUE_US, "us")
    return replace(report, targets=targets, holds=all(target.holds for target in targets.values()))


def _of_reply(reply: Reply) -> dict[str, Target]:
    name = f"{reply.kernel_us} us beside {reply.neighbour_us} us" + (", in parts" if reply.parts else "")
    if reply.parts:
        return {
            f"latency, p50, {name}": at_most(reply.times_p50.median, PARTS, "times alone"),
            f"latency, p99, {name}": at_most(reply.times_p99.median, PARTS, "times alone"),
        }
    if reply.neighbour_us > reply.kernel_us:
        return {f"latency, p99, {name}": at_most(reply.kernels_p99.median, LONGER_KERNELS, "of the neighbour's kernels")}
    return {
        f"latency, p50, {name}": at_most(reply.times_p50.median, SAME_P50, "times alone"),
        f"latency, p99, {name}": at_most(reply.times_p99.median, SAME_P99, "times alone"),
    }


def _error_of(each: Throughput) -> float:
    return 1.0 if len(set(each.kernels_us)) == 1 else 2.0


def _name(each: Throughput) -> str:
    kernels = sorted(set(each.kernels_us))
    shares = "/".join(f"{share:g}" for share in each.shares_pct)
    return f"{shares} % of {'/'.join(str(us) for us in kernels)} us" + (", borrowing" if each.borrows else "")


def remarks(report: OpenClReport) -> list[str]:
    """The rest, in a line each."""
    lines = [
        f"together, {_name(each)}: {text_of(each.total_pct, '%')}; alone before and after "
        + ", ".join(f"{first:.0f} and {last:.0f}/s" for first, last in dict.fromkeys(each.alone_per_s))
        for each in report.throughput
    ]
    lines += [f"one slice alone, {each.kernel_us} us: {text_of(each.pct, '%')} of no layer" for each in report.solo]
    lines += [
        f"{each.kernel_us} us beside a flood of {each.neighbour_us} us{' in parts' if each.parts else ''}: alone p50 "
        f"{each.alone_p50_ms.median:g} p99 {each.alone_p99_ms.median:g} ms; times p50 {text_of(each.times_p50, '')}, p99 "
        f"{text_of(each.times_p99, '')}; without layer p50 {each.bare_times_p50.median:g}, "
        f"p99 {each.bare_times_p99.median:g} times"
        for each in report.replies
    ]
    lines.append(
        f"a tenant killed in a kernel of {report.killed.kernel_us} us delays the other by {text_of(report.killed.delay_ms, 'ms')}"
    )
    moves = report.moves
    lines.append(
        f"alone {moves.before_pct:g} %, beside another {moves.beside_pct:g} %, alone again {moves.after_pct:g} %; in force "
        f"{text_of(moves.arrived_ms, 'ms')} after the other came, {text_of(moves.left_ms, 'ms')} after it went"
    )
    lines += [f"{each.processes} programs took {each.taken_bytes} of {each.limit_bytes} bytes" for each in report.vram]
    added = report.added
    lines.append(
        f"a round trip of {added.bare_trip_us.median:g} us takes {text_of(added.trip_us, 'us')} more, "
        f"a pipelined enqueue of {added.bare_enqueue_us.median:g} us {text_of(added.enqueue_us, 'us')}"
    )
    withheld = [part for scenario in report.scenarios for tenant in scenario.tenants for part in tenant.withheld_pct]
    lines.append(
        f"processors were withheld from the programs for {median(withheld):.1f} % of a window, {max(withheld):.1f} % at most"
    )
    machine = report.machine
    lines.append(f"{machine.cores} cores, {machine.cpu}, load {machine.load_1m}; device: {report.device}")
    return lines
