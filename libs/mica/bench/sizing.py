"""``mica bench sizing``: how far the formulas of ``mica.sizing`` are off, on measured profiles that are given by path.

Owns the comparison; docs/guides/sizing.md has its results. Invariant: a point is never predicted from itself, and every error is
reported, the ones on the unsafe side by themselves.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench.slo_packing import DEVICE, read_points
from mica.events import PPM, MeasuredPoint
from mica.sizing import COMPUTE_PART, Shape, count_parameters, known_models, known_speeds, value_at
from mica.slo_packing import Point, SloPackingError

SLICES: Final = 7
HEADROOM: Final = 0.1
FILES: Final = "prof_data_*.csv"


class Errors(Struct, frozen=True, kw_only=True):
    """Relative errors in percent; above 0 the formula says more than was measured.

    ``unsafe_pct``: how many are on the side that breaks promises, ``beyond_headroom_pct`` by more than a tenth.
    """

    count: int
    p5: float
    p50: float
    p95: float
    unsafe_pct: float
    beyond_headroom_pct: float


class Report(Struct, frozen=True, kw_only=True):
    """What was compared.

    ``parameters_pct``: the worst of the table, by whether models have gates. ``convolutional``: by model, how many times longer
    than its operations take by the formula it was measured to take (the median of its points).
    """

    parameters_pct: dict[str, float]
    p99_ms: Errors
    rate_hz: Errors
    convolutional: dict[str, float]


def run(profiles: Path) -> Report:
    """Compare every point of the directory.

    Raises:
        BenchError: there is none, or a file says something impossible.
    """
    try:
        measured = {path.stem.removeprefix("prof_data_"): list(read_points(path)) for path in sorted(profiles.glob(FILES))}
    except SloPackingError as error:
        raise BenchError(str(error)) from error
    inner = [each for points in measured.values() for each in _left_out(points)]
    if len(inner) < 2:
        raise BenchError(f"profiles: got {profiles}, allowed: a directory with {FILES} of at least three sizes each")
    shapes = {name: shape for models in known_models().values() for name, shape in models.items()}
    return Report(
        parameters_pct=_parameters(shapes),
        p99_ms=_errors([said / true.p99_ms - 1 for said, _, true in inner], unsafe=-1),
        rate_hz=_errors([said / true.rate_hz - 1 for _, said, true in inner], unsafe=1),
        convolutional={
            name: _slowness(points, shapes[name])
            for name, points in measured.items()
            if name in shapes and not shapes[name].layers
        },
    )


def _left_out(points: list[Point]) -> Iterator[tuple[float, float, MeasuredPoint]]:
    """For each point that has neighbours, what these say of its time and rate, and the point."""
    curves: dict[tuple[int, int], list[MeasuredPoint]] = {}
    for each in points:
        point = MeasuredPoint(share_ppm=each.size * PPM // SLICES, p99_ms=each.latency_ms, rate_hz=each.rate_hz, batch=each.batch)
        curves.setdefault((each.batch, each.processes), []).append(point)
    for curve in curves.values():
        curve.sort(key=lambda each: each.share_ppm)
        for index in range(1, len(curve) - 1):
            others = curve[:index] + curve[index + 1 :]
            time_ms, rate_hz = (value_at(others, curve[index].share_ppm, field) for field in ("p99_ms", "rate_hz"))
            assert time_ms is not None
            assert rate_hz is not None
            yield time_ms, rate_hz, curve[index]


def _errors(values: list[float], *, unsafe: int) -> Errors:
    cuts = quantiles(values, n=20, method="inclusive")
    return Errors(
        count=len(values),
        p5=round(100 * cuts[0], 1),
        p50=round(100 * median(values), 1),
        p95=round(100 * cuts[18], 1),
        unsafe_pct=round(100 * sum(value * unsafe > 0 for value in values) / len(values), 1),
        beyond_headroom_pct=round(100 * sum(value * unsafe > HEADROOM for value in values) / len(values), 1),
    )


def _parameters(shapes: dict[str, Shape]) -> dict[str, float]:
    worst = {"gated": 0.0, "plain": 0.0}
    for shape in shapes.values():
        if shape.layers:
            error = abs(count_parameters(shape) / shape.parameters - 1) * 100
            key = "gated" if shape.gated else "plain"
            worst[key] = max(worst[key], round(error, 4))
    return worst


def _slowness(points: list[Point], shape: Shape) -> float:
    flops = known_speeds()[DEVICE].flops * COMPUTE_PART / 2
    alone = [each for each in points if each.processes == 1]
    return round(median(each.latency_ms / 1e3 * flops * each.size / SLICES / (shape.flops * each.batch) for each in alone), 1)
