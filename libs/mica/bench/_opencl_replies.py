"""How long a tenant within its share waits for its kernel, beside a flood and alone. Invariant: both in one run, in turns."""

from collections.abc import Mapping
from statistics import quantiles
from typing import Any, Final

from mica.bench._errors import BenchError
from mica.bench._isolation_report import spread
from mica.bench._opencl_device import Job, OpenClDevice
from mica.bench._opencl_plan import Plan
from mica.bench._opencl_report import Reply
from mica.events import PPM
from mica.region import Spatial

SHARE_PCT: Final = 30.0
OFFERED_PCT: Final = 15.0
"""Half its share."""
DEPTH: Final = 4
HALVES: Final = tuple(
    {"quantum_ns": 0, "spatial_kind": Spatial.SUBDEVICE, "spatial_ppm": PPM // 2, "spatial_offset_ppm": offset}
    for offset in (0, PPM // 2)
)
"""Each tenant has a half of the device to itself."""


def measure_replies(device: OpenClDevice, plan: Plan) -> tuple[Reply, ...]:
    """Each pair of kernels, in turns or in parts."""
    in_turns = [_reply(device, *pair, plan, parts=False) for pair in plan.replies_us]
    return (*in_turns, *(_reply(device, *pair, plan, parts=True) for pair in plan.replies_in_parts_us))


def _grant(device: OpenClDevice, *, parts: bool) -> None:
    limits: tuple[Mapping[str, Any], ...] = HALVES if parts else ({}, {})
    shares = (50.0, 50.0) if parts else (SHARE_PCT, 100.0 - SHARE_PCT)
    for name, share, own in zip(("asks", "floods"), shares, limits, strict=True):
        device.grant(name, share, **own)


def _reply(device: OpenClDevice, kernel_us: int, neighbour_us: int, plan: Plan, *, parts: bool) -> Reply:
    _grant(device, parts=parts)

    def look(*, beside: bool, bare: bool = False) -> tuple[float, float]:
        asks = Job(
            kind="pace",
            kernel_us=kernel_us,
            argument=int(kernel_us * 1000 * 100 / OFFERED_PCT),
            slice_id=None if bare else "asks",
        )
        floods = Job(kind="work", kernel_us=neighbour_us, argument=DEPTH, slice_id=None if bare else "floods")
        _, (said, *_) = device.run([asks, floods] if beside else [asks], plan.reply_s)
        return _middle_and_tail([each / 1e6 for each in said.latency_ns])

    alone, beside, bare_alone, bare_beside = [], [], [], []
    for _ in range(plan.runs):
        alone.append(look(beside=False))
        beside.append(look(beside=True))
        bare_alone.append(look(beside=False, bare=True))
        bare_beside.append(look(beside=True, bare=True))
    for name in ("asks", "floods"):
        device.take_back(name)

    def times(loud: list[tuple[float, float]], quiet: list[tuple[float, float]], at: int) -> list[float]:
        return [one[at] / other[at] for one, other in zip(loud, quiet, strict=True)]

    return Reply(
        kernel_us=kernel_us,
        neighbour_us=neighbour_us,
        parts=parts,
        alone_p50_ms=spread([each[0] for each in alone]),
        alone_p99_ms=spread([each[1] for each in alone]),
        times_p50=spread(times(beside, alone, 0)),
        times_p99=spread(times(beside, alone, 1)),
        bare_times_p50=spread(times(bare_beside, bare_alone, 0)),
        bare_times_p99=spread(times(bare_beside, bare_alone, 1)),
        kernels_p99=spread([each[1] * 1000 / neighbour_us for each in beside]),
    )


def _middle_and_tail(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        raise BenchError(f"a tenant asked for {len(values)} kernels in the time that it was looked at, at least 2 are needed")
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]
