"""What a profiled program says of itself, made into measured points. Pure.

Invariant: of several runs the worst counts, and a figure that is no finite number above 0 is an error, not a point.

A program says how it does in a line of its standard output that is a JSON object with ``rate_hz``, ``p99_ms``, or both, and
``ttft_ms`` and ``tpot_ms`` where it generates; the last such line counts. Of one that says nothing the wall time is taken.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from mica.cli._errors import CliError
from mica.events import MeasuredPoint

PLACEHOLDER: Final = "{batch}"
FIGURES: Final = ("rate_hz", "p99_ms", "ttft_ms", "tpot_ms")
FORMAT: Final = 'a line such as {"rate_hz": 120, "p99_ms": 18.5}, with numbers above 0'


class Trial(Struct, frozen=True, kw_only=True):
    """One run at one share and batch: what the program printed, and how long it took."""

    output: str
    wall_s: float


class Used(Struct, frozen=True, kw_only=True):
    """What mica counted for the slice over all its runs; None where no shim counts."""

    vram_peak_bytes: int | None = None
    gpu_ns: int = 0
    throttled_ns: int = 0


class Measured(Struct, frozen=True, kw_only=True):
    """A point, and how it came about."""

    point: MeasuredPoint
    used: Used
    model: str
    by_wall_time: bool


def filled(command: Sequence[str], batch: int) -> list[str]:
    """The command for one batch size."""
    return [word.replace(PLACEHOLDER, str(batch)) for word in command]


def measured(share_ppm: int, batch: int, trials: Sequence[Trial], used: Used, model: str) -> Measured:
    """The point that the runs make: the longest times and the lowest rate.

    Raises:
        CliError: a program says something that is no figure.
    """
    said = [figures_of(each.output) for each in trials]
    by_wall_time = not all(said)
    each_run = [_completed(figures, trial, batch) for figures, trial in zip(said, trials, strict=True)]
    times = {
        name: max(values)
        for name in FIGURES[1:]
        if len(values := [figures[name] for figures in each_run if name in figures]) == len(each_run)
    }
    point = MeasuredPoint(
        share_ppm=share_ppm, batch=batch, rate_hz=min(figures["rate_hz"] for figures in each_run), **times,
        vram_bytes=used.vram_peak_bytes or None,
    )  # fmt: skip
    return Measured(point=point, used=used, model=model, by_wall_time=by_wall_time)


def figures_of(output: str) -> dict[str, float]:
    """The figures of the last line that has some; empty when none has.

    Raises:
        CliError: one of them is no finite number above 0.
    """
    for line in reversed(output.splitlines()):
        found = _object(line)
        figures = {name: found[name] for name in FIGURES if name in found}
        if figures:
            for name, value in figures.items():
                if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
                    raise CliError(f"profile: the program's {name}: got {str(value)[:80]}, allowed: {FORMAT}")
            return {name: float(value) for name, value in figures.items()}
    return {}


def _object(line: str) -> dict[str, Any]:
    if not line.lstrip().startswith("{"):
        return {}
    try:
        found = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        if any(f'"{name}"' in line for name in FIGURES):
            raise CliError(f"profile: the program's figures: got {line[:80]}, allowed: {FORMAT} ({error})") from None
        return {}
    return found if isinstance(found, dict) else {}


def _completed(figures: dict[str, float], trial: Trial, batch: int) -> dict[str, float]:
    """Rate from time, time from rate, both from the wall: with ``batch`` requests at a time, one after the other."""
    if "rate_hz" in figures and "p99_ms" in figures:
        return figures
    wall_ms = max(trial.wall_s * 1e3, 1e-3)
    p99_ms = figures.get("p99_ms") or (batch * 1e3 / figures["rate_hz"] if "rate_hz" in figures else wall_ms)
    return {"p99_ms": p99_ms, "rate_hz": figures.get("rate_hz") or batch * 1e3 / p99_ms} | figures
