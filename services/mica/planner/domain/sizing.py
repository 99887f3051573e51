"""How much a request needs: VRAM and compute from its own numbers, its profile and its SLO. Invariant: pure."""

from msgspec import Struct

from mica.events import MeasuredPoint, RequestSlice, Slo
from mica.planner.domain.misfits import Refusal


class Size(Struct, frozen=True):
    """What each member of a slice needs.

    ``share_ppm`` is None when the request leaves it open: then it is the same part of the device's compute as of its memory.
    """

    vram_bytes: int
    share_ppm: int | None
    reason: str = ""


def size_of(request: RequestSlice) -> Size | Refusal:
    """The size of every member of the slice, or which field is missing or can not be met."""
    profile = request.profile
    vram_bytes = request.vram_bytes or (profile.vram_bytes if profile is not None else None)
    if vram_bytes is None:
        return Refusal("vram_bytes", "nothing", "a number of bytes, here or in profile.vram_bytes")
    if request.share_ppm is not None or request.slo is None or profile is None or not profile.points:
        return Size(vram_bytes, request.share_ppm)
    enough = [point for point in profile.points if _meets(point, request.slo)]
    if not enough:
        return Refusal("slo", _promise(request.slo), "what the profile measured: " + _best(profile.points))
    point = min(enough, key=lambda each: each.share_ppm)
    return Size(vram_bytes, point.share_ppm, f"{point.share_ppm} ppm measured {point.p99_ms:g} ms p99 at {point.rate_hz:g} Hz")


def _meets(point: MeasuredPoint, slo: Slo) -> bool:
    """Points measure p99 and rate; promises of TTFT and TPOT are the guard's to watch."""
    return (slo.p99_ms is None or point.p99_ms <= slo.p99_ms) and (slo.rate_hz is None or point.rate_hz >= slo.rate_hz)


def _promise(slo: Slo) -> str:
    parts = [f"p99 {slo.p99_ms:g} ms"] if slo.p99_ms is not None else []
    parts += [f"{slo.rate_hz:g} Hz"] if slo.rate_hz is not None else []
    return " at ".join(parts)


def _best(points: tuple[MeasuredPoint, ...]) -> str:
    fastest = min(points, key=lambda each: each.p99_ms)
    widest = max(points, key=lambda each: each.rate_hz)
    return f"p99 down to {fastest.p99_ms:g} ms, up to {widest.rate_hz:g} Hz"
