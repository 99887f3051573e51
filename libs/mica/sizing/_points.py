"""What was measured, as functions of the share: monotone, and never better than the measurements.

Owns the interpolation. Invariant: between two points a time is at least, and a rate at most, what the chord says and what every
larger share was measured to reach; outside of the points there is nothing. A time that falls like 1/share and a rate that grows
ever more slowly lie on the safe side of their chords. Error on ParvaGPU's data, each inner point from its neighbours: times from
0 to 34 % too long (5th to 95th percentile), rates from 14 % too low to 9 % too high (docs/guides/sizing.md).
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from mica.events import MeasuredPoint, Mode, Profile, Slo
from mica.sizing._answers import Unsizable
from mica.sizing._interference import slowdown

TOLERANCE: Final = 0.15
"""By so much a larger share may have been measured slower than a smaller one; more is a contradiction, less is noise (the worst
step backwards in ParvaGPU's points is 11 %)."""
TIMES: Final = ("p99_ms", "ttft_ms", "tpot_ms")


class Chosen(Struct, frozen=True):
    """The smallest share that keeps a promise, the batch with which, and what to say about it."""

    share_ppm: int
    batch: int
    vram_bytes: int | None
    said: tuple[str, ...]


class _Curve(Struct, frozen=True):
    """The points of one batch by ascending share, made monotone from the largest share down."""

    batch: int
    points: tuple[MeasuredPoint, ...]

    def at(self, share_ppm: int, field: str) -> float | None:
        """The value at a share inside of the points; None where not every point has it."""
        values = [getattr(each, field) for each in self.points]
        if any(value is None for value in values):
            return None
        worst = min if field == "rate_hz" else max
        safe = [worst(values[index:]) for index in range(len(values))]
        index = bisect_left([each.share_ppm for each in self.points], share_ppm)
        if self.points[index].share_ppm == share_ppm:
            return float(safe[index])
        left, right = self.points[index - 1].share_ppm, self.points[index].share_ppm
        part = (share_ppm - left) / (right - left)
        return float(safe[index - 1] + (safe[index] - safe[index - 1]) * part)


def contradiction(profile: Profile) -> Unsizable | None:
    """What is wrong with the points: no number, one share twice, or slower with more."""
    for index, each in enumerate(profile.points):
        for field in (*TIMES, "rate_hz"):
            value = getattr(each, field)
            if value is not None and not (math.isfinite(value) and value > 0):
                return Unsizable(f"profile.points[{index}].{field}", str(value), "a finite number above 0")
        if profile.vram_bytes is not None and each.vram_bytes is not None and each.vram_bytes > profile.vram_bytes:
            allowed = f"at least what was measured in use, {each.vram_bytes}"
            return Unsizable("profile.vram_bytes", str(profile.vram_bytes), allowed)
    return next((bad for curve in _curves(profile.points) if (bad := _backwards(curve)) is not None), None)


def _backwards(curve: _Curve) -> Unsizable | None:
    for less, more in zip(curve.points, curve.points[1:], strict=False):
        where = f"{less.share_ppm} and {more.share_ppm} ppm, batch {curve.batch}"
        if less.share_ppm == more.share_ppm:
            return Unsizable(
                "profile.points", f"two at {less.share_ppm} ppm, batch {curve.batch}", "one for each share and batch"
            )
        for field in TIMES:
            before, after = getattr(less, field), getattr(more, field)
            if before is not None and after is not None and after > before * (1 + TOLERANCE):
                return Unsizable(
                    "profile.points", f"{field} {before:g}, then {after:g} at {where}", "no slower with more compute"
                )
        if more.rate_hz < less.rate_hz * (1 - TOLERANCE):
            given = f"rate_hz {less.rate_hz:g}, then {more.rate_hz:g} at {where}"
            return Unsizable("profile.points", given, "no lower with more compute")
    return None


def _curves(points: Iterable[MeasuredPoint]) -> list[_Curve]:
    by_batch: dict[int, list[MeasuredPoint]] = {}
    for each in points:
        by_batch.setdefault(each.batch, []).append(each)
    return [_Curve(batch, tuple(sorted(its, key=lambda p: p.share_ppm))) for batch, its in sorted(by_batch.items())]


def smallest_share(points: Sequence[MeasuredPoint], slo: Slo, mode: Mode | None) -> Chosen | None:
    """The smallest share at which some measured batch keeps every bound, with headroom; None where none does, however large."""
    found = [(share, curve) for curve in _curves(points) if (share := _smallest(curve, slo, mode)) is not None]
    if not found:
        return None
    share, curve = min(found, key=lambda each: (each[0], -(each[1].at(each[0], "rate_hz") or 0.0)))
    return Chosen(share, curve.batch, _vram(curve, share), _said(curve, share, slo, mode))


def value_at(points: Iterable[MeasuredPoint], share_ppm: int, field: str) -> float | None:
    """What the points of one batch say of ``field`` at a share; None outside of them, or where not all of them have it."""
    (curve,) = _curves(points)
    inside = curve.points[0].share_ppm <= share_ppm <= curve.points[-1].share_ppm
    return curve.at(share_ppm, field) if inside else None


def unmeasured(points: Iterable[MeasuredPoint], slo: Slo) -> list[str]:
    """The bounds of which the points say nothing."""
    listed = list(points)
    return [name for name in TIMES if getattr(slo, name) is not None and any(getattr(each, name) is None for each in listed)]


def best(points: Sequence[MeasuredPoint]) -> str:
    """The most that was ever measured."""
    texts = [
        f"{name.removesuffix('_ms')} down to {min(values):g} ms"
        for name in TIMES
        if (values := [value for each in points if (value := getattr(each, name)) is not None])
    ]
    return ", ".join([*texts, f"up to {max(each.rate_hz for each in points):g} Hz"])


def _smallest(curve: _Curve, slo: Slo, mode: Mode | None) -> int | None:
    """By bisection: what holds at a share holds at every larger one."""
    low, high = curve.points[0].share_ppm, curve.points[-1].share_ppm
    if not _holds(curve, high, slo, mode):
        return None
    while low < high:
        middle = (low + high) // 2
        if _holds(curve, middle, slo, mode):
            high = middle
        else:
            low = middle + 1
    return low


def _holds(curve: _Curve, share_ppm: int, slo: Slo, mode: Mode | None) -> bool:
    slower, spare = slowdown(share_ppm, mode), 1 - slo.headroom_ppm / 1e6
    for name in TIMES:
        bound, value = getattr(slo, name), curve.at(share_ppm, name)
        if bound is not None and value is not None and value * slower > bound * spare:
            return False
    rate_hz = curve.at(share_ppm, "rate_hz")
    return slo.rate_hz is None or (rate_hz is not None and rate_hz / slower * spare >= slo.rate_hz)


def _vram(curve: _Curve, share_ppm: int) -> int | None:
    """The most of the two points around; None where one was not measured."""
    shares = [each.share_ppm for each in curve.points]
    index = bisect_left(shares, share_ppm)
    around = curve.points[max(0, index - (shares[index] != share_ppm)) : index + 1]
    known = [each.vram_bytes for each in around]
    return None if any(each is None for each in known) else max(each for each in known if each is not None)


def _said(curve: _Curve, share_ppm: int, slo: Slo, mode: Mode | None) -> tuple[str, ...]:
    exact = any(each.share_ppm == share_ppm for each in curve.points)
    values = [f"{name.removesuffix('_ms')} {value:.4g} ms" for name in TIMES if (value := curve.at(share_ppm, name)) is not None]
    batch = f" with batch {curve.batch}" if curve.batch > 1 else ""
    how = "measured" if exact else "interpolated between measured points"
    said = [f"{share_ppm} ppm{batch}: {', '.join(values)} at {curve.at(share_ppm, 'rate_hz'):.4g} Hz, {how}"]
    if share_ppm == curve.points[0].share_ppm:
        said.append("the smallest share that was measured; less may do")
    said.append(f"headroom {slo.headroom_ppm / 1e4:g} %")
    slower = slowdown(share_ppm, mode)
    if slower > 1:
        said.append(f"{(slower - 1) * 100:.1f} % slower assumed beside busy neighbours")
    return tuple(said)
