"""``mica bench scale``: what a placement costs in a fleet of thousands of nodes, and how that grows.

The planner measures itself, in processes of its own (``mica.planner.scaling``), which are started by name. Invariant: every fleet
is measured in a fresh process, so that its memory is its own; replicas run at the same time.
"""

import subprocess
import sys
from collections.abc import Callable
from typing import Final

from msgspec import DecodeError, Struct, json

from mica.bench._errors import BenchError
from mica.bench._machine import Machine, describe_machine

MODULE: Final = "mica.planner.scaling"
GROWTH: Final = (100, 300, 1_000, 3_000, 10_000)
LIMIT_S: Final = 3_000.0


class Plan(Struct, frozen=True, kw_only=True):
    """What to run. ``growth``: smaller fleets, too. ``replicas``: so many at once, each of them with the whole fleet."""

    nodes: int = 10_000
    placements: int = 20_000
    seed: int = 42
    growth: bool = True
    replicas: int = 2


class FleetFigures(Struct, frozen=True, kw_only=True):
    """One fleet, as the planner's process measured it.

    ``placements_per_s`` counts what was placed; times are of all requests, in the state that the fleet was filled to;
    ``held_percent``: of its memory.
    """

    nodes: int
    devices: int
    placements_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    rss_mib: float
    cold_start_s: float
    placed: int
    refused: int
    held_percent: float


class Report(Struct, frozen=True, kw_only=True):
    """The fleet that was asked for; ``growth``: smaller ones; ``replicas``: placements/s of all that ran at once, and of each."""

    placements_per_s: float
    p99_ms: float
    rss_mib: float
    cold_start_s: float
    fleet: FleetFigures
    growth: tuple[FleetFigures, ...]
    replicas: tuple[FleetFigures, ...]
    replicas_per_s: float
    machine: Machine
    device: str = "none: decisions of the planner on inventories from the catalogue"


def run(plan: Plan, told: Callable[[str], None] = lambda _: None) -> Report:
    """Measure. Raises BenchError: a process failed."""
    sizes = [nodes for nodes in GROWTH if nodes < plan.nodes] if plan.growth else []
    growth = []
    for nodes in sizes:
        growth += _measured(plan, nodes, ["1/1"])
        told(_line(growth[-1]))
    [fleet] = _measured(plan, plan.nodes, ["1/1"])
    told(_line(fleet))
    homes = [f"{number}/{plan.replicas}" for number in range(1, plan.replicas + 1)]
    replicas = _measured(plan, plan.nodes, homes) if plan.replicas > 1 else []
    for each in replicas:
        told(f"at once: {_line(each)}")
    return Report(
        placements_per_s=fleet.placements_per_s,
        p99_ms=fleet.p99_ms,
        rss_mib=fleet.rss_mib,
        cold_start_s=fleet.cold_start_s,
        fleet=fleet,
        growth=(*growth, fleet) if growth else (),
        replicas=tuple(replicas),
        replicas_per_s=round(sum(each.placements_per_s for each in replicas), 1),
        machine=describe_machine(),
    )


def _measured(plan: Plan, nodes: int, homes: list[str]) -> list[FleetFigures]:
    command = [
        sys.executable,
        "-m",
        MODULE,
        "--nodes",
        str(nodes),
        "--placements",
        str(plan.placements),
        "--seed",
        str(plan.seed),
    ]
    running = [subprocess.Popen([*command, "--home", home], stdout=subprocess.PIPE) for home in homes]
    try:
        return [_read(each) for each in running]
    finally:
        for each in running:
            each.kill()
            each.wait()


def _read(process: "subprocess.Popen[bytes]") -> FleetFigures:
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
        return json.decode(output, type=FleetFigures)
    except (subprocess.TimeoutExpired, DecodeError) as error:
        raise BenchError(f"{MODULE}: got no report ({error}), allowed: one within {LIMIT_S:g} s") from error


def _line(fleet: FleetFigures) -> str:
    speed = f"{fleet.placements_per_s:g} placements/s, p50 {fleet.p50_ms:g} ms, p99 {fleet.p99_ms:g} ms"
    return f"{fleet.nodes} nodes: {speed}, {fleet.rss_mib:g} MiB, ready in {fleet.cold_start_s:g} s"


HEAD: Final = ("NODES", "DEVICES", "PLACEMENTS/S", "P50 MS", "P99 MS", "P99.9 MS", "RSS MIB", "COLD START S", "HELD %")


def rows(report: Report) -> list[tuple[str, ...]]:
    """The report as a table."""
    fleets = [("", each) for each in report.growth or (report.fleet,)]
    fleets += [(f" ({number} of {len(report.replicas)} at once)", each) for number, each in enumerate(report.replicas, start=1)]
    return [
        (
            f"{each.nodes}{words}", str(each.devices), f"{each.placements_per_s:g}", f"{each.p50_ms:g}",
            f"{each.p99_ms:g}", f"{each.p999_ms:g}", f"{each.rss_mib:g}", f"{each.cold_start_s:g}", f"{each.held_percent:g}",
        )
        for words, each in fleets
    ]  # fmt: skip
