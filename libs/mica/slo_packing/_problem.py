"""The problem and its answers, as data. Invariant: what a ``Service`` or a ``Point`` says is finite and above 0."""

import math
from typing import Final

from msgspec import Struct

PROCESSES_MAX: Final = 5
"""Processes that may share an instance. Source: ParvaGPU (SC'24), which measured as many."""
LATENCY_PART: Final = 0.9 / 2
"""The part of its SLO that a request may spend being computed: it waits as long as that for its batch, and a tenth is kept back.
Source: ParvaGPU (SC'24)."""


class SloPackingError(ValueError):
    """An input that makes no sense: says what, what was given and what is allowed."""


class Point(Struct, frozen=True, kw_only=True):
    """What an instance of ``size`` compute slices does: requests/s of all its processes together, ms from start to end."""

    size: int
    batch: int
    processes: int
    rate_hz: float
    latency_ms: float

    def __post_init__(self) -> None:
        """Raises SloPackingError."""
        for field in self.__struct_fields__:
            _positive(f"point {self.size}/{self.batch}/{self.processes}: {field}", getattr(self, field))


class Service(Struct, frozen=True, kw_only=True):
    """A workload with its promise, and what was measured of it."""

    name: str
    rate_hz: float
    slo_ms: float
    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        """Raises SloPackingError."""
        _positive(f"{self.name}: rate_hz", self.rate_hz)
        _positive(f"{self.name}: slo_ms", self.slo_ms)


class Instance(Struct, frozen=True, kw_only=True):
    """One partition of a device, at memory slot ``start``, with what runs in it."""

    service: str
    start: int
    point: Point


class Deployment(Struct, frozen=True):
    """What to run, device by device. No deployment has fewer than ``bound`` devices."""

    devices: tuple[tuple[Instance, ...], ...]
    bound: int

    @property
    def proven(self) -> bool:
        """Whether fewer devices would not do."""
        return len(self.devices) == self.bound


class Unservable(Struct, frozen=True):
    """A promise that no instance can keep: ``field`` of ``service`` was ``given`` where ``allowed`` would have passed."""

    service: str
    field: str
    given: str
    allowed: str


def latency_limit_ms(slo_ms: float) -> float:
    """An instance's latency has to stay below this."""
    return LATENCY_PART * slo_ms


def _positive(what: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise SloPackingError(f"{what}: got {value}, allowed: a finite number above 0")
