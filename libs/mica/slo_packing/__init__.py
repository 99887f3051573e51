"""The fewest partitioned devices that serve a set of services within their SLOs, with a proof or a bound.

Owns the offline problem: which instances, at which batch and with how many processes, on how many devices. Invariant: pure; an
answer that breaks a rate, a latency or a layout is never returned.
"""

from mica.slo_packing._check import violations
from mica.slo_packing._layouts import Slot, layouts_of
from mica.slo_packing._problem import (
    LATENCY_PART,
    PROCESSES_MAX,
    Deployment,
    Instance,
    Point,
    Service,
    SloPackingError,
    Unservable,
    latency_limit_ms,
)
from mica.slo_packing._solve import pack
from mica.slo_packing._solver import solver

__all__ = [
    "LATENCY_PART",
    "PROCESSES_MAX",
    "Deployment",
    "Instance",
    "Point",
    "Service",
    "SloPackingError",
    "Slot",
    "Unservable",
    "latency_limit_ms",
    "layouts_of",
    "pack",
    "solver",
    "violations",
]
