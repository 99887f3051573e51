"""What ``mica bench shim`` says. Invariant: a target and whether it holds stand beside the figure that decides it."""

from collections.abc import Sequence
from statistics import fmean

from msgspec import UNSET, Struct, UnsetType

from mica.bench._machine import Machine, percentiles

BATCH_CALLS = 1000


class Figure(Struct, frozen=True, kw_only=True):
    """A sample of batch averages: the middle, the tail and the mean over batches, in the unit that its field's name ends in."""

    p50: float
    p99: float
    mean: float


class Spread(Struct, frozen=True, kw_only=True):
    """The least and the greatest p50 that one repetition found."""

    min: float
    max: float


class Call(Struct, frozen=True, kw_only=True):
    """One call, in nanoseconds. ``added`` is the difference between the columns' figures, not a figure of differences."""

    native_ns: Figure
    shim_ns: Figure
    added_ns: Figure
    added_spread_ns: Spread
    target_ns: float | None
    holds: bool | None
    preload_ns: Figure | UnsetType = UNSET
    preload_added_ns: Figure | UnsetType = UNSET


class Init(Struct, frozen=True, kw_only=True):
    """The first cuInit of a fresh process, in microseconds; with it the shim opens the driver and attaches to the slice.

    Without a shim, a program has opened the driver before: ``opened_and_init_added`` is what the shim adds to opening the
    library and cuInit together.
    """

    native: Figure
    shim: Figure
    added: Figure
    added_spread: Spread
    opened_and_init_added: Figure
    target_us: float
    holds: bool
    processes: int
    preload: Figure | UnsetType = UNSET
    preload_added: Figure | UnsetType = UNSET


class Report(Struct, frozen=True, kw_only=True):
    """What came out."""

    calls: dict[str, Call]
    init_us: Init
    contended: dict[str, Call]
    """An allocation and its free, by how many processes of one slice at once."""
    floor_ns: dict[str, Figure]
    """What nothing can be cheaper than: words and clocks of this machine, measured in the same run."""
    holds: bool
    driver: str
    preload: str | None
    repetitions: int
    batches: int
    batch_calls: int
    core: int
    machine: Machine


class Samples(Struct, frozen=True):
    """Batch averages of one call, by column and repetition."""

    native: list[list[float]]
    shim: list[list[float]]
    preload: list[list[float]]

    @classmethod
    def empty(cls) -> "Samples":
        """Nothing measured yet."""
        return cls([], [], [])

    def of(self, column: str) -> list[list[float]]:
        """The repetitions of a column, by its name."""
        return {"native": self.native, "shim": self.shim, "preload": self.preload}[column]


def figure(sample: Sequence[float], scale: float = 1.0) -> Figure:
    """The figure of at least two batches."""
    values = [value * scale for value in sample]
    found = percentiles(values)
    return Figure(p50=round(found.p50, 2), p99=round(found.p99, 2), mean=round(fmean(values), 2))


def _pooled(repetitions: list[list[float]], scale: float) -> Figure:
    return figure([value for repetition in repetitions for value in repetition], scale)


def _difference(a: Figure, b: Figure) -> Figure:
    return Figure(p50=round(a.p50 - b.p50, 2), p99=round(a.p99 - b.p99, 2), mean=round(a.mean - b.mean, 2))


def _spread(samples: Samples, scale: float) -> Spread:
    added = [percentiles(shim).p50 - percentiles(native).p50 for native, shim in zip(samples.native, samples.shim, strict=True)]
    return Spread(min=round(min(added) * scale, 2), max=round(max(added) * scale, 2))


def call_of(samples: Samples, target_ns: float | None) -> Call:
    """One line of the report."""
    native, shim = _pooled(samples.native, 1.0), _pooled(samples.shim, 1.0)
    added = _difference(shim, native)
    other = _pooled(samples.preload, 1.0) if samples.preload else None
    return Call(
        native_ns=native,
        shim_ns=shim,
        added_ns=added,
        added_spread_ns=_spread(samples, 1.0),
        target_ns=target_ns,
        holds=None if target_ns is None else added.p50 <= target_ns,
        preload_ns=other or UNSET,
        preload_added_ns=_difference(other, native) if other else UNSET,
    )


def init_of(samples: Samples, opened: Samples, target_us: float) -> Init:
    """The line of cuInit; samples are in nanoseconds, ``opened`` of opening the library and cuInit together."""
    scale = 1e-3
    native, shim = _pooled(samples.native, scale), _pooled(samples.shim, scale)
    added = _difference(shim, native)
    other = _pooled(samples.preload, scale) if samples.preload else None
    return Init(
        native=native,
        shim=shim,
        added=added,
        added_spread=_spread(samples, scale),
        opened_and_init_added=_difference(_pooled(opened.shim, scale), _pooled(opened.native, scale)),
        target_us=target_us,
        holds=added.p50 <= target_us,
        processes=sum(map(len, samples.shim)),
        preload=other or UNSET,
        preload_added=_difference(other, native) if other else UNSET,
    )


HEAD = ("ns a call", "native", "shim", "added", "added p99", "repetitions", "target", "", "other added")


def rows(report: Report) -> list[list[str]]:
    """The report as a table under HEAD."""
    calls = list(report.calls.items()) + [(f"alloc+free, {count} processes", call) for count, call in report.contended.items()]
    lines = [[name, *_call_cells(call)] for name, call in calls]
    return [*lines, ["cuInit, first attach, in us", *_init_cells(report.init_us)]]


def remarks(report: Report) -> list[str]:
    """What stands below the table."""
    machine = report.machine
    floors = ", ".join(f"{name} {found.p50}" for name, found in report.floor_ns.items())
    amount = f"{report.repetitions} repetitions of {report.batches} batches of {report.batch_calls} calls on core {report.core}"
    other = "" if report.preload is None else f"; the other: {report.preload}"
    size = f"{machine.cores} cores, {machine.memory_gib} GiB, kernel {machine.kernel}, load {machine.load_1m}"
    return [
        f"floor of this machine, ns: {floors}",
        f"p50 over {amount}; cuInit over {report.init_us.processes} processes",
        f"opening the library and cuInit together: {report.init_us.opened_and_init_added.p50:.1f} us added",
        f"driver: {report.driver}{other}",
        f"machine: {machine.cpu}, {size}",
    ]


def _call_cells(call: Call) -> list[str]:
    spread = f"{call.added_spread_ns.min:.1f}..{call.added_spread_ns.max:.1f}"
    target = "" if call.target_ns is None else f"{call.target_ns:.0f}"
    verdict = {True: "holds", False: "MISSED", None: ""}[call.holds]
    figures = [call.native_ns.p50, call.shim_ns.p50, call.added_ns.p50, call.added_ns.p99]
    other = "" if isinstance(call.preload_added_ns, UnsetType) else f"{call.preload_added_ns.p50:.1f}"
    return [*(f"{value:.1f}" for value in figures), spread, target, verdict, other]


def _init_cells(init: Init) -> list[str]:
    spread = f"{init.added_spread.min:.0f}..{init.added_spread.max:.0f}"
    figures = [init.native.p50, init.shim.p50, init.added.p50, init.added.p99]
    other = "" if isinstance(init.preload_added, UnsetType) else f"{init.preload_added.p50:.1f}"
    return [*(f"{value:.1f}" for value in figures), spread, f"{init.target_us:.0f}", "holds" if init.holds else "MISSED", other]
