"""The arithmetic of ``mica bench isolation``: from readings of the driver's books to shares, errors and moments.

Invariant: pure, and about the driver's own figures alone: nothing that a shim says of itself goes in.
"""

from collections.abc import Mapping, Sequence
from statistics import linear_regression

from msgspec import Struct

PERCENT = 100.0


class Reading(Struct, frozen=True):
    """The books at one moment: ``at_ns`` of CLOCK_MONOTONIC, and by process what its kernels have taken so far (ns).

    ``withheld_ns``: the processor time that the programs wanted and did not get so far.
    """

    at_ns: int
    kernel_ns: Mapping[int, int]
    withheld_ns: int = 0


class Window(Struct, frozen=True):
    """A process's part of the device in one window (percent), how long that was, and the processor time withheld in it (ns)."""

    share_pct: float
    length_ns: int
    withheld_ns: int


class Jump(Struct, frozen=True):
    """When a new rate was in force, ``after_ms`` its change, and the rates before and after (percent of the device)."""

    after_ms: float
    before_pct: float
    then_pct: float


def shares_pct(readings: Sequence[Reading], process: int, window_ns: int) -> list[float]:
    """The process's part of the device in percent, in each of `windows`."""
    return [window.share_pct for window in windows(readings, process, window_ns)]


def windows(readings: Sequence[Reading], process: int, window_ns: int) -> list[Window]:
    """Windows of at least ``window_ns`` that follow each other.

    A window ends at the first reading that makes it long enough; what is left over at the end is in none.
    """
    found: list[Window] = []
    begin = readings[0]
    for reading in readings[1:]:
        length_ns = reading.at_ns - begin.at_ns
        if length_ns >= window_ns:
            share_pct = PERCENT * (reading.kernel_ns[process] - begin.kernel_ns[process]) / length_ns
            found.append(Window(share_pct, length_ns, reading.withheld_ns - begin.withheld_ns))
            begin = reading
    return found


def jain(parts: Sequence[float]) -> float:
    """Jain's index of what each got of its due: 1 when all are served alike, 1/n when one has it all.

    Source: R. Jain, D. Chiu, W. Hawe, DEC TR-301 (1984).
    """
    squares = sum(part * part for part in parts)
    return sum(parts) ** 2 / (len(parts) * squares) if squares else 0.0


def jump(readings: Sequence[Reading], process: int, changed_ns: int, settled_ns: int) -> Jump:
    """Where the line through the readings before ``changed_ns`` meets the one through those ``settled_ns`` and more after it.

    Both are lines of kernel time over time, so that their slopes are the rates, and a rate that changes at once meets at the
    change itself. A burst that is spent or saved up on the way moves the meeting by what it is worth.

    Raises:
        ValueError: the rates are the same, or there are too few readings to draw a line through.
    """
    before = [reading for reading in readings if reading.at_ns <= changed_ns]
    then = [reading for reading in readings if reading.at_ns >= changed_ns + settled_ns]
    first, second = _line(before, process, changed_ns), _line(then, process, changed_ns)
    if abs(second.slope - first.slope) < 1e-6:
        raise ValueError(f"the rate did not change: {first.slope:.4f} before, {second.slope:.4f} after")
    meeting_ns = (first.intercept - second.intercept) / (second.slope - first.slope)
    return Jump(meeting_ns / 1e6, PERCENT * first.slope, PERCENT * second.slope)


class _Line(Struct, frozen=True):
    slope: float
    intercept: float


def _line(readings: Sequence[Reading], process: int, origin_ns: int) -> _Line:
    if len(readings) < 3:
        raise ValueError(f"{len(readings)} readings, at least 3 are needed for a line")
    base = readings[0].kernel_ns[process]
    slope, intercept = linear_regression(
        [float(reading.at_ns - origin_ns) for reading in readings],
        [float(reading.kernel_ns[process] - base) for reading in readings],
    )
    return _Line(slope, intercept + base)
