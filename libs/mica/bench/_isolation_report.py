"""What ``mica bench isolation`` reports, as JSON and as a table. Invariant: a target stands beside every figure that has one."""

from collections.abc import Sequence
from statistics import median
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.bench._machine import Machine


class Spread(Struct, frozen=True):
    """The middle and the ends of several runs."""

    median: float
    least: float
    most: float
    runs: int


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(round(median(values), 3), round(min(values), 3), round(max(values), 3), len(values))


class ShareError(Struct, frozen=True):
    """How far from its share a tenant was in a window, in points (percent of the device), over all windows."""

    mean: float
    max: float


class Tenant(Struct, frozen=True, kw_only=True):
    """One tenant of a scenario, with its error in each window.

    ``withheld_pct``: for what part of each window the machine withheld processors from the scenario's programs; those of
    several threads add up.
    """

    share_pct: float
    measured_pct: float
    kernels_us: tuple[int, ...]
    window_s: float
    errors_pct: tuple[float, ...]
    withheld_pct: tuple[float, ...]


class Scenario(Struct, frozen=True, kw_only=True):
    """Several tenants at once."""

    tenants: tuple[Tenant, ...]
    jain: float


class Noise(Struct, frozen=True, kw_only=True):
    """A victim that has more to do than it may: its part of the device alone and beside a flood of such kernels."""

    neighbour_us: int
    window_s: float
    alone_pct: float
    beside_pct: float
    lost_pct: Spread


class Latency(Struct, frozen=True, kw_only=True):
    """A victim within its share: from its launch to the end of its kernel, and what the flood adds to that.

    ``bare_added_p99_ms``: the same two programs on the driver itself, where it alone shares the device out.
    """

    neighbour_us: int
    alone_p50_ms: float
    alone_p99_ms: float
    added_p50_ms: Spread
    added_p99_ms: Spread
    bare_added_p99_ms: Spread
    allowed_ms: float


class Weights(Struct, frozen=True, kw_only=True):
    """Programs of one slice, each with more to do than it may: what each weighs, and its part of what the slice got (%)."""

    weights: tuple[int, ...]
    due_pct: tuple[float, ...]
    measured_pct: tuple[float, ...]
    slice_pct: float


class Vram(Struct, frozen=True, kw_only=True):
    """What programs could take of a limit, all at the same time, and what the driver says that they hold."""

    processes: int
    limit_bytes: int
    taken_bytes: int
    held_bytes: int
    accuracy_pct: float


def vram_of(processes: int, limit_bytes: int, taken_bytes: int, held_bytes: int) -> Vram:
    """How near both came to the limit."""
    off = max(abs(held_bytes - limit_bytes), abs(taken_bytes - limit_bytes))
    return Vram(
        processes=processes,
        limit_bytes=limit_bytes,
        taken_bytes=taken_bytes,
        held_bytes=held_bytes,
        accuracy_pct=round(100.0 - 100.0 * off / limit_bytes, 6),
    )


def weights_of(weights: tuple[int, ...], got: Sequence[float], slice_pct: float) -> Weights:
    """Of programs of one slice that got so much of it each, in whatever unit."""
    return Weights(
        weights=weights,
        due_pct=tuple(round(100.0 * weight / sum(weights), 2) for weight in weights),
        measured_pct=tuple(round(100.0 * each / sum(got), 2) for each in got),
        slice_pct=round(slice_pct, 2),
    )


class Reaction(Struct, frozen=True, kw_only=True):
    """From a new record until the driver's books follow the new rate."""

    raised_ms: Spread
    lowered_ms: Spread


class Resize(Struct, frozen=True, kw_only=True):
    """From ``slice.resize`` until the record is written, until ``slice.resized`` is heard, and until the books follow."""

    record_ms: Spread
    fact_ms: Spread
    books_ms: Spread


class Lending(Struct, frozen=True, kw_only=True):
    """From a neighbour's stop until a burst slice uses his time; from his going on until it no longer does, and he is served.

    0: at once, as where what he saved up meanwhile comes on top of his share.
    """

    lent_ms: Spread
    withdrawn_ms: Spread
    neighbour_ms: Spread


class System(Struct, frozen=True, kw_only=True):
    """The same device behind a planner and an enforcer."""

    resize: Resize
    lending: Lending


class Target(Struct, frozen=True):
    """A figure's target, and whether it is met."""

    figure: float
    target: str
    holds: bool


class Report(Struct, frozen=True, kw_only=True):
    """What came out. ``reaction_ms`` is the slower of raising and lowering a share."""

    share_error_pct: ShareError
    jain: float
    noisy_neighbour_pct: float
    vram_accuracy_pct: float
    reaction_ms: float
    windows: int
    targets: dict[str, Target] = {}
    holds: bool = False
    scenarios: tuple[Scenario, ...]
    noise: tuple[Noise, ...]
    latency: tuple[Latency, ...]
    vram: tuple[Vram, ...]
    weights: Weights
    reaction: Reaction
    system: System | None = None
    machine: Machine
    device: str = "simulated driver"


SHARE_MEAN_PCT: Final = 0.5
SHARE_MAX_PCT: Final = 1.5
JAIN: Final = 0.999
LOST_PCT: Final = 1.0
REACTION_MS: Final = 50.0
LENDING_MS: Final = 100.0
"""One period of lending."""


def targets_of(report: Report) -> Report:
    """The report with its targets filled in."""
    error = report.share_error_pct
    targets = {
        "share error, mean": at_most(error.mean, SHARE_MEAN_PCT, "points"),
        "share error, worst window": at_most(error.max, SHARE_MAX_PCT, "points"),
        "Jain's index": Target(report.jain, f"at least {JAIN}", report.jain >= JAIN),
        "throughput lost to a flood": at_most(report.noisy_neighbour_pct, LOST_PCT, "%"),
        "VRAM accuracy": Target(report.vram_accuracy_pct, "100 %", report.vram_accuracy_pct == 100.0),
        "a new share in force": at_most(report.reaction_ms, REACTION_MS, "ms"),
    }
    for each in report.latency:
        name = f"p99 latency added by a flood of {each.neighbour_us} us"
        targets[name] = at_most(each.added_p99_ms.median, each.allowed_ms, "ms")
    if report.system is not None:
        resize, lending = report.system.resize, report.system.lending
        targets["a new share in force after slice.resize"] = at_most(resize.books_ms.median, REACTION_MS, "ms")
        targets["a loan withdrawn"] = at_most(lending.withdrawn_ms.median, LENDING_MS, "ms")
    return replace(report, targets=targets, holds=all(target.holds for target in targets.values()))


def at_most(figure: float, most: float, unit: str) -> Target:
    """A figure that is to be small."""
    return Target(figure, f"at most {most:g} {unit}".rstrip(), figure <= most)


def at_least(figure: float, least: float, unit: str) -> Target:
    """A figure that is to be large."""
    return Target(figure, f"at least {least:g} {unit}".rstrip(), figure >= least)


FED_PCT: Final = 10.0
"""Of a window, summed over all threads: what some programs that wake up thousands of times wait anyway."""
TARGET_HEAD: Final = ("", "measured", "target", "")
SHARE_HEAD: Final = ("tenants", "kernels (us)", "share %", "measured %", "window s", "worst error")


def target_rows(report: Report) -> list[tuple[str, ...]]:
    """Every target as a line."""
    return [
        (name, f"{target.figure:g}", target.target, "holds" if target.holds else "MISSED")
        for name, target in report.targets.items()
    ]


def share_rows(report: Report) -> list[tuple[str, ...]]:
    """Every tenant of every scenario as a line."""
    return [
        (
            str(len(scenario.tenants)) if index == 0 else "",
            ", ".join(str(each) for each in tenant.kernels_us),
            f"{tenant.share_pct:g}",
            f"{tenant.measured_pct:.2f}",
            f"{tenant.window_s:g} x {len(tenant.errors_pct)}",
            f"{max(tenant.errors_pct):.2f}",
        )
        for scenario in report.scenarios
        for index, tenant in enumerate(scenario.tenants)
    ]


def _worst_window(report: Report) -> str:
    every = [
        window for each in report.scenarios for t in each.tenants for window in zip(t.errors_pct, t.withheld_pct, strict=True)
    ]
    error, withheld = max(every)
    fed = [error for error, withheld in every if withheld <= FED_PCT]
    return (
        f"in the worst window ({error:g} points) processors were withheld from the programs for {withheld:g} % of it; "
        f"of {len(every)} windows {len(fed)} had at most {FED_PCT:g} %, the worst of them {max(fed, default=0.0):g} points"
    )


def remarks(report: Report) -> list[str]:
    """The rest, in a line each."""
    lines = [_worst_window(report)]
    lines += [
        f"beside a flood of {each.neighbour_us} us kernels, for {each.window_s:g} s: {each.beside_pct:g} % "
        f"against {each.alone_pct:g} % alone, lost {text_of(each.lost_pct, '%')}"
        for each in report.noise
    ]
    lines += [
        f"launch to end, flood of {each.neighbour_us} us: alone p50 {each.alone_p50_ms:g} p99 {each.alone_p99_ms:g} ms, "
        f"added p50 {text_of(each.added_p50_ms, 'ms')}, p99 {text_of(each.added_p99_ms, 'ms')}; "
        f"without slices p99 {text_of(each.bare_added_p99_ms, 'ms')}"
        for each in report.latency
    ]
    lines += [f"{each.processes} programs took {each.taken_bytes} of {each.limit_bytes} bytes" for each in report.vram]
    weights = report.weights
    got, due = _list(weights.measured_pct), _list(weights.due_pct)
    lines.append(f"programs of one slice that weigh {_list(weights.weights)} got {got} % of it, due {due}")
    reaction = report.reaction
    lines.append(f"a share raised: {text_of(reaction.raised_ms, 'ms')}; lowered: {text_of(reaction.lowered_ms, 'ms')}")
    if report.system is not None:
        resize, lending = report.system.resize, report.system.lending
        lines.append(
            f"idle time: lent {text_of(lending.lent_ms, 'ms')}, withdrawn {text_of(lending.withdrawn_ms, 'ms')}, "
            f"the neighbour served {text_of(lending.neighbour_ms, 'ms')}"
        )
        lines.append(
            f"slice.resize: record {text_of(resize.record_ms, 'ms')}, slice.resized {text_of(resize.fact_ms, 'ms')}, "
            f"books {text_of(resize.books_ms, 'ms')}"
        )
    machine = report.machine
    lines.append(f"{machine.cores} cores, {machine.cpu}, load {machine.load_1m}; device: {report.device}")
    return lines


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def text_of(values: Spread, unit: str) -> str:
    """The middle, and the ends in brackets."""
    return f"{values.median:g} {unit}".rstrip() + f" ({values.least:g} to {values.most:g} in {values.runs} runs)"
