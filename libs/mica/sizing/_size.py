"""A profile and a promise, made into the size of a slice.

Owns the order in which sources are believed: what is asked for, what was measured, what a formula says. Invariant: nothing that
was assumed is left unsaid, and what contradicts itself gets no size.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from msgspec import Struct

from mica.events import PPM, Mode, Profile, Slo
from mica.sizing._answers import Need, Unsizable, gib
from mica.sizing._estimate import BANDWIDTH_PART, COMPUTE_PART, Times, times_of
from mica.sizing._interference import SLOWDOWN
from mica.sizing._memory import MIB, SPARE, Memory, memory_of, weight_bytes
from mica.sizing._points import Chosen, best, contradiction, smallest_share, unmeasured
from mica.sizing._speeds import known_speeds
from mica.sizing._workload import Workload, workload_of

KEPT: Final = 4096
"""Answers that are kept: a request that waits is sized anew at every change of the fleet."""
BOUNDS: Final = ("p99_ms", "ttft_ms", "tpot_ms", "rate_hz")
ROOFLINE: Final = (
    f"{COMPUTE_PART:.0%} of a device's peak arithmetic and {BANDWIDTH_PART:.0%} of its bandwidth, not measured, may be off by a"
    " factor of two: `mica profile` measures"
)
NO_VRAM: Final = (
    "a number of bytes, here or in profile.vram_bytes; or a known profile.model, or profile.parameters and profile.kind"
)


class Asked(Struct, frozen=True, kw_only=True):
    """What is to be sized. ``vram_bytes`` and ``share_ppm``: what was asked for outright. ``devices`` hold the model together."""

    profile: Profile | None = None
    slo: Slo | None = None
    vram_bytes: int | None = None
    share_ppm: int | None = None
    mode: Mode | None = None
    devices: int = 1


def need_of(asked: Asked) -> Need | Unsizable:
    """What a slice has to have, with everything that was assumed, or which field stands in the way."""
    if asked.profile is None and asked.slo is None and asked.vram_bytes is not None:
        return Need(vram_bytes=asked.vram_bytes, share_ppm=asked.share_ppm)
    return _need_of(asked)


@lru_cache(maxsize=KEPT)
def _need_of(asked: Asked) -> Need | Unsizable:
    profile, slo = asked.profile or Profile(), _promise(asked.slo)
    wrong = check_profile(profile) or (_check_slo(slo) if slo is not None else None)
    if wrong is not None:
        return wrong
    work = workload_of(profile)
    chosen = smallest_share(profile.points, slo, asked.mode) if slo is not None and profile.points else None
    if slo is not None and profile.points and chosen is None and asked.share_ppm is None:
        return Unsizable("slo", promise_text(slo), "what the profile measured: " + best(profile.points))
    memory = _vram(asked, profile, work, chosen)
    if isinstance(memory, Unsizable):
        return memory
    vram_bytes, said = memory
    if asked.share_ppm is not None or slo is None:
        return Need(vram_bytes=vram_bytes, share_ppm=asked.share_ppm, said=said)
    return _with_share(asked, Need(vram_bytes=vram_bytes, said=said), chosen, work)


def check_profile(profile: Profile) -> Unsizable | None:
    """What in a profile contradicts itself, whatever is asked of it."""
    wrong = contradiction(profile)
    if wrong is not None:
        return wrong
    if profile.heads is not None and profile.kv_heads is not None and profile.heads % profile.kv_heads:
        return Unsizable("profile.kv_heads", str(profile.kv_heads), f"a divisor of profile.heads, {profile.heads}")
    work = workload_of(profile)
    if isinstance(work, Unsizable):
        return work if work.field != "profile.kind" and not work.given.startswith("nothing") else None
    if work is None or profile.vram_bytes is None:
        return None
    return _too_small("profile.vram_bytes", profile.vram_bytes, work, 1)


def promise_text(slo: Slo) -> str:
    """A promise for people."""
    units = {"p99_ms": "p99 {:g} ms", "ttft_ms": "ttft {:g} ms", "tpot_ms": "tpot {:g} ms", "rate_hz": "{:g} Hz"}
    given = [units[name].format(value) for name in BOUNDS if (value := getattr(slo, name)) is not None]
    return ", ".join(given) + f", with {slo.headroom_ppm / 1e4:g} % headroom"


def _promise(slo: Slo | None) -> Slo | None:
    return slo if slo is not None and any(getattr(slo, name) is not None for name in BOUNDS) else None


def _check_slo(slo: Slo) -> Unsizable | None:
    for name in BOUNDS:
        value = getattr(slo, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            return Unsizable(f"slo.{name}", str(value), "a finite number above 0")
    if slo.p99_ms is not None and slo.ttft_ms is not None and slo.ttft_ms > slo.p99_ms:
        return Unsizable(
            "slo.ttft_ms", f"{slo.ttft_ms:g}", f"at most slo.p99_ms, {slo.p99_ms:g}: the first token comes before the last"
        )
    return None


def _vram(
    asked: Asked, profile: Profile, work: Workload | Unsizable | None, chosen: Chosen | None
) -> tuple[int, tuple[str, ...]] | Unsizable:
    """The memory, and what it rests on."""
    for field, given in (("vram_bytes", asked.vram_bytes), ("profile.vram_bytes", profile.vram_bytes)):
        if given is not None:
            wrong = _too_small(field, given, work, asked.devices) if isinstance(work, Workload) else None
            return wrong or (given, ())
    peaks = [each.vram_bytes for each in profile.points if each.vram_bytes is not None]
    measured = chosen.vram_bytes if chosen is not None else max(peaks) if len(peaks) == len(profile.points) and peaks else None
    if measured is not None:
        vram_bytes = math.ceil(measured * (1 + SPARE) / MIB) * MIB
        return vram_bytes, (f"{gib(vram_bytes)}: {gib(measured)} measured in use + {SPARE:.0%}",)
    if isinstance(work, Unsizable):
        return work
    if work is None:
        known = f" (profile.model {profile.model!r} is not known)" if profile.model else ""
        return Unsizable("vram_bytes", "nothing" + known, NO_VRAM)
    memory: Memory = memory_of(work, asked.devices)
    split = (f"weights and cache split over {asked.devices} devices",) if asked.devices > 1 else ()
    return memory.total, (memory.text, *work.said, *split)


def _too_small(field: str, vram_bytes: int, work: Workload, devices: int) -> Unsizable | None:
    weights = math.ceil(weight_bytes(work.shape, work.dtype) / devices)
    if vram_bytes >= weights:
        return None
    return Unsizable(
        field, str(vram_bytes), f"at least {weights}, the weights alone ({work.shape.parameters} parameters in {work.dtype})"
    )


def _with_share(asked: Asked, need: Need, chosen: Chosen | None, work: Workload | Unsizable | None) -> Need | Unsizable:
    """The memory's need with a share for the promise: the larger of what was measured and what has to be estimated."""
    slo, profile = _promise(asked.slo), asked.profile or Profile()
    assert slo is not None
    said, shares, share_ppm = list(need.said), dict[str, int](), None
    left = [name for name in BOUNDS if getattr(slo, name) is not None]
    if chosen is not None:
        left = unmeasured(profile.points, slo)
        said += chosen.said
        shares, where = _at_least_as_fast(profile.device, chosen.share_ppm)
        said += where
        share_ppm = chosen.share_ppm
    if left and isinstance(work, Workload) and work.shape.layers:
        only = Slo(**{name: getattr(slo, name) for name in left}, headroom_ppm=slo.headroom_ppm)
        estimated = _estimated(work, only, asked)
        if isinstance(estimated, Unsizable):
            return estimated
        shares = _both(shares, estimated, share_ppm)
        enough = [each for each in shares.values() if each]
        if not enough:
            return Unsizable("slo", promise_text(slo), f"what a device at least as fast as {profile.device} may do")
        share_ppm = min(enough)
        said += [*work.said, f"{', '.join(left)} estimated by {ROOFLINE}", f"headroom {slo.headroom_ppm / 1e4:g} %"]
    elif left:
        said.append(f"nothing says which share {', '.join(left)} needs: `mica profile` measures, the guard watches")
    return Need(vram_bytes=need.vram_bytes, share_ppm=share_ppm, shares=shares, said=tuple(dict.fromkeys(said)))


def _at_least_as_fast(device: str, share_ppm: int) -> tuple[dict[str, int], tuple[str, ...]]:
    """Where points that were measured on ``device`` hold."""
    if not device:
        return {}, ("measured on a device that is not named; taken to hold on any",)
    speeds = known_speeds()
    own = speeds.get(device)
    if own is None:
        return {device: share_ppm}, (f"measured on {device}, of which no speed is known: holds there only",)
    faster = {name: share_ppm for name, each in speeds.items() if each.flops >= own.flops and each.bytes_per_s >= own.bytes_per_s}
    return faster | {device: share_ppm}, (f"measured on {device}: taken to hold on devices at least as fast",)


def _estimated(work: Workload, slo: Slo, asked: Asked) -> dict[str, int] | Unsizable:
    """By device, the share that keeps the promise; 0 where the whole device would not."""
    times = {name: times_of(work, speed, asked.devices) for name, speed in known_speeds().items()}
    shares = {name: _share(each, slo, asked.mode) for name, each in times.items()}
    if any(shares.values()):
        return shares
    fastest = min(times, key=lambda name: times[name].share(slo))
    return Unsizable("slo", promise_text(slo), f"what a whole {fastest} may do: {_text(times[fastest], slo)}")


def _share(times: Times, slo: Slo, mode: Mode | None) -> int:
    """The least share s with ``s >= part * slowdown(s)``, in ppm; 0 for none."""
    part = times.share(slo) / (1 - slo.headroom_ppm / PPM)
    if part > 1:
        return 0
    beside = 0.0 if mode is Mode.HARDWARE else SLOWDOWN
    return max(1, min(PPM, math.ceil(part * (1 + beside) / (1 + part * beside) * PPM)))


def _text(times: Times, slo: Slo) -> str:
    values = [
        f"{name.removesuffix('_ms')} {getattr(times, name):.3g} ms" for name in BOUNDS[:3] if getattr(slo, name) is not None
    ]
    return ", ".join(values + ([f"{times.rate_hz:.3g} Hz"] if slo.rate_hz is not None else [])) + ", estimated"


def _both(measured: Mapping[str, int], estimated: Mapping[str, int], share_ppm: int | None) -> dict[str, int]:
    """The larger of both where both know the device; points that hold anywhere hold where there is an estimate."""
    if share_ppm is None:
        return dict(estimated)
    if not measured:
        return {name: each and max(each, share_ppm) for name, each in estimated.items()}
    return {name: estimated[name] and max(estimated[name], each) for name, each in measured.items() if name in estimated}
