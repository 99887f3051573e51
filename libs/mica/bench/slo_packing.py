"""``mica bench slo-packing``: how few A100s serve the published scenarios, and how long finding that out takes.

Owns the reading of the measured profiles, which are given by path. Invariant: no device is touched, and every answer is checked
against the rules by code that shares nothing with the solver. Data and rules: ParvaGPU (SC'24).
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.bench._csv_files import number, rows
from mica.bench._errors import BenchError
from mica.bench._machine import Machine, describe_machine
from mica.hardware import Catalogue, Model
from mica.slo_packing import Deployment, Point, Service, SloPackingError, Unservable, pack, violations

DEVICE: Final = "A100-SXM-80GB"
SCENARIOS: Final = "scenarios.csv"
PROFILE_COLUMNS: Final = ("Mig instance", "Batch size", "Workload Number", "Throughput", "Latency")
SCENARIO_COLUMNS: Final = ("scenario", "model", "rate_rps", "slo_ms")
PUBLISHED: Final = {"S1": 2, "S2": 3, "S3": 5, "S5": 13}
"""GPUs of the authors' own deployments."""


class Scenario(Struct, frozen=True, kw_only=True):
    """What came out for one scenario. ``published``: what the authors deploy, 0 where they say nothing."""

    gpus: int
    bound: int
    proven: bool
    violations: int
    seconds: float
    published: int = 0


class Report(Struct, frozen=True, kw_only=True):
    """All scenarios; ``seconds`` is the sum of theirs and of reading the data."""

    scenarios: dict[str, Scenario]
    seconds: float
    machine: Machine
    device: str = f"no device is used; measured profiles of {DEVICE}"


def run(profiles: Path) -> Report:
    """Solve every scenario of the directory.

    Raises:
        BenchError: a file is missing or says something impossible, or a scenario can not be served.
    """
    begun = time.perf_counter()
    try:
        scenarios = _scenarios(profiles)
        model = Catalogue.load().model(DEVICE)
        solved = {name: _scenario(name, services, model) for name, services in scenarios.items()}
    except SloPackingError as error:
        raise BenchError(str(error)) from error
    return Report(scenarios=solved, seconds=round(time.perf_counter() - begun, 3), machine=describe_machine())


def _scenario(name: str, services: Sequence[Service], model: Model) -> Scenario:
    begun = time.perf_counter()
    answer = pack(services, model)
    seconds = time.perf_counter() - begun
    if isinstance(answer, Unservable):
        raise BenchError(f"{name}: {answer.service}: {answer.field}: got {answer.given}, allowed: {answer.allowed}")
    assert isinstance(answer, Deployment)
    return Scenario(
        gpus=len(answer.devices),
        bound=answer.bound,
        proven=answer.proven,
        violations=len(violations(answer.devices, services, model)),
        seconds=round(seconds, 3),
        published=PUBLISHED.get(name, 0),
    )


def _scenarios(profiles: Path) -> dict[str, list[Service]]:
    measured: dict[str, tuple[Point, ...]] = {}
    found: dict[str, list[Service]] = {}
    for where, row in rows(profiles / SCENARIOS, SCENARIO_COLUMNS):
        model = row["model"]
        if model not in measured:
            measured[model] = tuple(read_points(profiles / f"prof_data_{Path(model).name}.csv"))
        service = Service(
            name=model, rate_hz=number(where, row, "rate_rps"), slo_ms=number(where, row, "slo_ms"), points=measured[model]
        )
        found.setdefault(row["scenario"], []).append(service)
    if not found:
        raise BenchError(f"{profiles / SCENARIOS}: got no scenario, allowed: at least one")
    return found


def read_points(path: Path) -> Iterator[Point]:
    """The rows that are no 0, which means that the model did not fit."""
    for where, row in rows(path, PROFILE_COLUMNS):
        size, batch, processes, rate_hz, latency_s = (number(where, row, column) for column in PROFILE_COLUMNS)
        if rate_hz and latency_s:
            yield Point(
                size=int(size),
                batch=int(batch),
                processes=int(processes),
                rate_hz=rate_hz * processes,
                latency_ms=latency_s * 1e3,
            )
