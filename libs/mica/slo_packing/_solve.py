"""The integer programme, and the deployment that it stands for.

Owns the method. Invariant: what is returned has passed the check; ``bound`` comes from the programme without any margin.

Of all points of a service at one size only the fastest that is quick enough matters: with it, no other is ever needed. So the
unknowns are how many instances of each size each service has, and how many devices have each layout:

    least sum(layouts)  such that  sum over sizes(count * rate) >= promised rate, for each service
                                   sum over services(count) <= what the layouts have, for each size
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from mica.hardware import Model
from mica.slo_packing._check import violations
from mica.slo_packing._layouts import Layout, layouts_of
from mica.slo_packing._problem import (
    PROCESSES_MAX,
    Deployment,
    Instance,
    Point,
    Service,
    SloPackingError,
    Unservable,
    latency_limit_ms,
)
from mica.slo_packing._solver import solver

LIMIT_S: Final = 10.0
MARGIN: Final = 1e-5
"""By so much rates are exceeded where the solver's tolerance has left one short."""
ROUNDING: Final = 1e-6


class _Solution(Struct, frozen=True):
    """How many instances by service and size, how many devices by layout, and that fewer than ``bound`` do not do."""

    instances: Mapping[tuple[str, int], int]
    layouts: Sequence[int]
    bound: int


def pack(services: Sequence[Service], model: Model, *, limit_s: float = LIMIT_S) -> Deployment | Unservable:
    """The fewest devices of ``model`` for all services, or which promise none of its partitions can keep.

    Args:
        limit_s: seconds for the solver; when they are over, the best that was found is returned with its bound.

    Raises:
        SloPackingError: two services of one name, a model without partitions, or no deployment within ``limit_s``.
    """
    if len({each.name for each in services}) < len(services):
        raise SloPackingError("services: two of one name, allowed: each once")
    if not services:
        return Deployment((), 0)
    layouts = layouts_of(model)
    best = {each.name: _best_points(each) for each in services}
    unservable = next((_unservable(each) for each in services if not best[each.name]), None)
    if unservable is not None:
        return unservable
    bound = 0
    for margin in (0.0, MARGIN):
        solution = _solve(services, best, layouts, (margin, limit_s))
        bound = bound or solution.bound
        devices = _devices(solution, best, layouts)
        if not violations(devices, services, model):
            return Deployment(devices, bound)
    raise SloPackingError("services: got rates beyond the solver's precision, allowed: rates of similar magnitude")


def _best_points(service: Service) -> dict[int, Point]:
    """By size, the fastest point that is quick enough; of equals the one with the least latency."""
    best: dict[int, Point] = {}
    for each in service.points:
        if each.processes <= PROCESSES_MAX and each.latency_ms < latency_limit_ms(service.slo_ms):
            before = best.get(each.size)
            if before is None or (each.rate_hz, -each.latency_ms) > (before.rate_hz, -before.latency_ms):
                best[each.size] = each
    return best


def _unservable(service: Service) -> Unservable:
    fastest = min((each.latency_ms for each in service.points if each.processes <= PROCESSES_MAX), default=math.inf)
    allowed = f"more than {fastest / latency_limit_ms(1.0):g} ms" if math.isfinite(fastest) else "a service with measured points"
    return Unservable(service.name, "slo_ms", f"{service.slo_ms:g}", allowed)


def _solve(
    services: Sequence[Service], best: Mapping[str, Mapping[int, Point]], layouts: Sequence[Layout], how: tuple[float, float]
) -> _Solution:
    """``how``: the margin on rates, and the seconds that it may take."""
    from highspy import HighsModelStatus

    margin, limit_s = how
    highs = solver(limit_s)
    counts = [highs.addIntegral(lb=0, obj=1) for _ in layouts]
    chosen = {(name, size): highs.addIntegral(lb=0) for name, points in best.items() for size in points}
    for each in services:
        parts = [(point.rate_hz / each.rate_hz) * chosen[each.name, size] for size, point in best[each.name].items()]
        highs.addConstr(highs.qsum(parts) >= 1.0 + margin)
    for size in sorted({size for _, size in chosen}):
        wanted = [variable for (_, its), variable in chosen.items() if its == size]
        room = [sum(slot.size == size for slot in layout) * count for layout, count in zip(layouts, counts, strict=True)]
        highs.addConstr(highs.qsum(wanted) - highs.qsum(room) <= 0)
    highs.run()
    status, info = highs.getModelStatus(), highs.getInfo()
    if status not in (HighsModelStatus.kOptimal, HighsModelStatus.kTimeLimit) or not info.primal_solution_status:
        raise SloPackingError(
            f"limit_s: got {limit_s:g}, allowed: enough to find a deployment ({highs.modelStatusToString(status)})"
        )
    return _Solution(
        {key: round(highs.val(variable)) for key, variable in chosen.items()},
        [round(highs.val(count)) for count in counts],
        math.ceil(info.mip_dual_bound - ROUNDING),
    )


def _devices(
    solution: _Solution, best: Mapping[str, Mapping[int, Point]], layouts: Sequence[Layout]
) -> tuple[tuple[Instance, ...], ...]:
    """The counts as devices: each layout's room is filled in the order of services; a device that stays empty is left out."""
    waiting = [
        Instance(service=name, start=0, point=best[name][size])
        for (name, size), count in solution.instances.items()
        for _ in range(count)
    ]
    devices = []
    for layout, count in zip(layouts, solution.layouts, strict=True):
        for _ in range(count):
            device = []
            for slot in layout:
                index = next((i for i, each in enumerate(waiting) if each.point.size == slot.size), None)
                if index is not None:
                    each = waiting.pop(index)
                    device.append(Instance(service=each.service, start=slot.start, point=each.point))
            if device:
                devices.append(tuple(device))
    return tuple(devices)
