"""``mica bench slo``: an inference server keeps its promise beside a program that floods the device.

The server answers a stream of requests three times over: alone on the driver; beside the flood on the driver, as two programs
share a device today; and in a slice beside the flood in another, in a whole system with the guard at work. Each run has its three
ways beside one another, and a ratio is of runs of one round. Then the flood comes beside a server whose slice is too small for
it, and the guard has to find out and to do something; an hour in which nothing is wrong is told to the guard on a clock of its
own, and it has to do nothing; and services, tenants and the NATS server are killed while it has work to do.

Invariant: device time is what the device says, latency what the server's clock saw; what is late or missing counts as such.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from mica.bench._columns import shared_memory_dir
from mica.bench._device import Device as SimDevice
from mica.bench._machine import describe_machine
from mica.bench._opencl_device import OpenClDevice
from mica.bench._slo_chaos import run_chaos
from mica.bench._slo_figures import p99_ms, quantile, tpots_ms
from mica.bench._slo_health import HOUR_S, watch_health
from mica.bench._slo_load import SHARES_PPM, Load, from_trace, poisson
from mica.bench._slo_opencl import KERNELS as OPENCL_KERNELS
from mica.bench._slo_opencl import OpenCl, device_apart, on_device
from mica.bench._slo_report import (
    ALONE,
    GUARDED,
    UNGUARDED,
    Device,
    Figures,
    Incident,
    Measured,
    Report,
    device_of,
    figures_of,
    incident_of,
    percent,
)
from mica.bench._slo_run import Command, Meter, Programs, Run, Watch, run_programs
from mica.bench._slo_sim import BooksMeter, Kernels, flood_command, server_command
from mica.bench._slo_system import Order, run_in_system
from mica.events import Slo, Tier

__all__ = ["Plan", "Report", "run"]

SLO_MARGIN: Final = 1.1
"""What is promised: the p99 alone, and a tenth."""
SMALL_PPM: Final = (50_000, 200_000)
"""Of a server whose slice is too small, and a neighbour that may use what it leaves."""
FLOOD_AFTER_S: Final = 8.0
ALONE_S: Final = 3.0


class Plan(Struct, frozen=True, kw_only=True):
    """What to run. ``trace``: the Azure trace, else a Poisson stream. ``rates_hz``, ``incident_hz``: of requests, by device.

    ``kills``: so many deaths, in an order by ``seed``; 0: none.
    """

    trace: Path | None = None
    devices: tuple[str, ...] = ("sim", "opencl")
    runs: int = 3
    seconds: float = 40.0
    incident_s: float = 40.0
    healthy_s: float = HOUR_S
    kills: int = 200
    seed: int = 1
    rates_hz: dict[str, float] = field(default_factory=lambda: {"sim": 8.0, "opencl": 2.0})
    incident_hz: dict[str, float] = field(default_factory=lambda: {"sim": 16.0, "opencl": 6.0})
    sim_kernels: Kernels = Kernels()
    opencl_kernels: Kernels = OPENCL_KERNELS

    def load(self, device: str) -> Load:
        """The requests for one device."""
        rate_hz = self.rates_hz[device]
        return from_trace(self.trace, rate_hz, self.seconds) if self.trace is not None else poisson(rate_hz, self.seconds)


Say = Callable[[str], None]


def run(plan: Plan, say: Say = lambda _: None) -> Report:
    """Carry the benchmark out.

    Raises:
        BenchError: a device, a program or the system did not work.
    """
    health = watch_health(poisson(plan.incident_hz["sim"], plan.healthy_s), plan.sim_kernels, SLO_MARGIN)
    say(f"health: {health.reports} reports, {health.late} of {health.requests} requests late, {health.actions} actions")
    found = {name: _HOUSES[name](plan, say, health.actions) for name in plan.devices}
    first = next(iter(found.values()))
    return Report(
        p99_ms=first.p99_ms,
        slo_attainment_pct=first.slo_attainment_pct,
        utilisation_pct=first.utilisation_pct,
        detect_s=first.detect_s,
        recover_s=first.recover_s,
        actions=first.actions,
        false_actions=first.false_actions,
        devices=found,
        healthy=health,
        chaos=run_chaos(plan.kills, plan.seed, say) if plan.kills else None,
        machine=describe_machine(),
    )


class _House(Struct, frozen=True, kw_only=True):
    """Where the programs of one device run. ``whole``: what a flood alone has of the device, by the meter."""

    name: str
    kernels: Kernels
    server: Callable[[], Command]
    flood: Callable[[], Command]
    meter: Meter
    path: Path
    beat: Callable[[], None]
    ns_per_round: float = 0.0
    whole: float = 1.0


def _sim(plan: Plan, say: Say, false_actions: int) -> Device:
    kernels = plan.sim_kernels
    with shared_memory_dir() as root, SimDevice(root, sorted({kernels.prefill_us, kernels.step_us, kernels.flood_us})) as device:
        environment, path = device.environment(None), root / "requests"
        house = _House(
            name="simulated driver, L4", kernels=kernels, server=lambda: server_command(kernels, path, environment),
            flood=lambda: flood_command(kernels, environment), meter=BooksMeter(device.sim_dir), path=path, beat=device.beat,
        )  # fmt: skip
        return _device(plan, "sim", house, say, false_actions)


def _opencl(plan: Plan, say: Say, false_actions: int) -> Device:
    with shared_memory_dir() as root, device_apart() as apart, OpenClDevice(root, ALONE_S / 3) as device:
        programs = on_device(device, plan.opencl_kernels)
        environment, path = device.environment(None), root / "requests"
        house = _House(
            name=f"{device.name}, {device.version}, {_APART[apart]}", kernels=plan.opencl_kernels,
            server=lambda: programs.server(path, environment),
            flood=lambda: programs.flood(environment), meter=programs, path=path, beat=device.beat,
            ns_per_round=device.ns_per_round,
        )  # fmt: skip
        house = replace(house, whole=_whole(programs, house))
        say(f"opencl: a flood alone has {house.whole:.2f} times what its kernels take one by one")
        return _device(plan, "opencl", house, say, false_actions)


def _whole(programs: OpenCl, house: _House) -> float:
    """What a flood has of the device when nobody else is there: launches that overlap take less than one by one."""
    nobody = replace(poisson(1.0, ALONE_S), requests=poisson(100.0, ALONE_S).requests[-1:])
    ran = asyncio.run(run_programs(nobody, Programs(server=house.server(), flood=house.flood(), meter=programs), house.path))
    within = [each for each in ran.readings if each.at_ns < ran.begin_ns + nobody.requests[0].at_ns]
    return (within[-1].flood_ns - within[0].flood_ns) / (within[-1].at_ns - within[0].at_ns)


def _device(plan: Plan, kind: str, house: _House, say: Say, false_actions: int) -> Device:
    load = plan.load(kind)
    single: dict[str, list[Figures]] = {ALONE: [], UNGUARDED: [], GUARDED: []}
    slo = Slo()
    for index in range(plan.runs):
        alone = _on_driver(load, house, flooded=False)
        slo = slo if slo.p99_ms else Slo(p99_ms=SLO_MARGIN * p99_ms(alone.answers))
        single[ALONE].append(figures_of(alone, load, slo))
        single[UNGUARDED].append(figures_of(_on_driver(load, house, flooded=True), load, slo, whole=house.whole))
        outcome = run_in_system(_order(house, load, slo))
        single[GUARDED].append(figures_of(outcome.run, load, slo, outcome.told, house.whole))
        told = ", ".join(f"{how} {each[-1].p99_ms:.1f} ms" for how, each in single.items())
        say(f"{kind}, run {index + 1} of {plan.runs}: p99 {told}")
    return device_of(
        Measured(
            name=house.name, kind=kind, kernels=house.kernels, load=load, slo_ms=slo.p99_ms or 0.0,
            shares_pct=percent(SHARES_PPM), single=single,
            incidents=[_incident(plan, kind, house, say) for _ in range(plan.runs)],
            false_actions=false_actions,
        )
    )  # fmt: skip


def _incident(plan: Plan, kind: str, house: _House, say: Say) -> Incident:
    """The flood comes in the middle of a steady stream."""
    steady = poisson(plan.incident_hz[kind], plan.incident_s)
    alone = _on_driver(steady, house, flooded=False)
    slo = Slo(tpot_ms=SLO_MARGIN * quantile(tpots_ms(alone.answers), 0.99))
    order = replace(
        _order(house, steady, slo),
        shares_ppm=SMALL_PPM,
        flood_tier=Tier.SPOT,
        flood_after_s=min(FLOOD_AFTER_S, plan.incident_s / 4),
    )
    incident = incident_of(run_in_system(order), order, alone.answers)
    for line in incident.told:
        say(f"{kind}, incident: {line}")
    say(f"{kind}, incident: told after {incident.detect_s} s, over after {incident.recover_s} s")
    return incident


def _on_driver(load: Load, house: _House, *, flooded: bool) -> Run:
    async def beat(_: Watch) -> None:
        house.beat()

    programs = Programs(server=house.server(), flood=house.flood() if flooded else None, meter=house.meter)
    return asyncio.run(run_programs(load, programs, house.path, beat))


def _order(house: _House, load: Load, slo: Slo) -> Order:
    return Order(kernels=house.kernels, load=load, slo=slo, shares_ppm=SHARES_PPM, ns_per_round=house.ns_per_round)


_APART: Final = {True: "one processor of its own", False: "the processor of everything else, too"}
_HOUSES: Final[dict[str, Callable[[Plan, Say, int], Device]]] = {"sim": _sim, "opencl": _opencl}
