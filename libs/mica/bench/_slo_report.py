"""What ``mica bench slo`` reports, as JSON and as a table. Invariant: a target stands beside every figure that has one."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.bench._isolation_report import Spread, spread
from mica.bench._machine import Machine
from mica.bench._slo_chaos import Chaos
from mica.bench._slo_figures import NS_PER_S, Answer, attained_pct, busy_seconds, late_of, p99_ms, recovered_s, windows
from mica.bench._slo_health import Health
from mica.bench._slo_load import Load
from mica.bench._slo_run import Run
from mica.bench._slo_sim import Kernels
from mica.bench._slo_system import Order, Outcome, Told
from mica.events import PPM, Slo

ALONE, UNGUARDED, GUARDED = "alone", "shared_unguarded", "shared_guarded"
VALID_RATIO: Final = 1.5
"""A neighbour that costs less unguarded proves nothing."""
QUIET_S: Final = 3.0
DETECT_MOST_S, RECOVER_MOST_S = 2.0, 5.0
ATTAIN_LEAST_PCT: Final = 99.0
SIM_RATIO_MOST: Final = 1.05
KEPT_LEAST_PCT: Final = {"sim": 80.0, "opencl": 60.0}


class Figures(Struct, frozen=True, kw_only=True):
    """One run in numbers. ``server_pct``, ``flood_pct``: of the device's time while there were requests.

    ``kept_pct``: of the time that the server left, what the flood had; None: it was alone.
    """

    p99_ms: float
    attained_pct: float
    server_pct: float
    flood_pct: float
    kept_pct: float | None = None
    unanswered: int = 0
    actions: int = 0

    @property
    def busy_pct(self) -> float:
        """Of the device, both together."""
        return self.server_pct + self.flood_pct


class Incident(Struct, frozen=True, kw_only=True):
    """A flood that comes beside a server whose slice is too small, and what the guard made of it (seconds).

    ``detect_s``: from its beginning until the breach was told; ``recover_s``: from then until the last of the late requests
    ended, 3 s without any after it; those that are late without a flood as well (``late_alone``) do not count. ``began_s``: when
    it came. What is None did not come about. ``promised_ms``: from token to token; ``latency_ms`` and ``tpot_ms`` are p99s of
    half seconds.
    """

    load: dict[str, float | str]
    promised_ms: float
    shares_pct: tuple[float, float]
    began_s: float
    detect_s: float | None
    recover_s: float | None
    late_alone: int
    attained_pct: float
    actions: int
    told: tuple[str, ...]
    seconds: tuple[float, ...]
    latency_ms: tuple[float, ...]
    tpot_ms: tuple[float, ...]
    server_at_s: tuple[float, ...]
    server_pct: tuple[float, ...]
    flood_pct: tuple[float, ...]
    marks: tuple[tuple[float, str], ...]


class Target(Struct, frozen=True, kw_only=True):
    """A figure and what it is to be."""

    name: str
    value: float | None
    wanted: str
    held: bool


class Device(Struct, frozen=True, kw_only=True):
    """Everything about one kind of device. ``p99_ms``, ``slo_attainment_pct``, ``utilisation_pct``: medians, by how it is shared.

    ``ratio``, ``longer_ms``: p99 of a run against that of the run alone in its round, and how much longer it is. ``valid``:
    unguarded it was at least 1.5 times as long. ``detect_s``, ``recover_s``: medians of the incidents' (``detects_s``,
    ``recovers_s``); ``incident`` is one in the middle of them, ``actions`` are those of all.
    """

    device: str
    kernels: Kernels
    load: dict[str, float | str]
    slo_ms: float
    shares_pct: tuple[float, float]
    runs: int
    p99_ms: dict[str, float]
    slo_attainment_pct: dict[str, float]
    utilisation_pct: dict[str, float]
    batch_kept_pct: dict[str, float]
    ratio: dict[str, Spread]
    longer_ms: dict[str, Spread]
    single: dict[str, tuple[Figures, ...]]
    detect_s: float | None
    recover_s: float | None
    detects_s: tuple[float | None, ...]
    recovers_s: tuple[float | None, ...]
    actions: int
    false_actions: int
    valid: bool
    incident: Incident
    targets: tuple[Target, ...]


class Report(Struct, frozen=True, kw_only=True):
    """The whole. The simulated device's figures stand at the top, too."""

    p99_ms: dict[str, float]
    slo_attainment_pct: dict[str, float]
    utilisation_pct: dict[str, float]
    detect_s: float | None
    recover_s: float | None
    actions: int
    false_actions: int
    devices: dict[str, Device]
    healthy: Health
    chaos: Chaos | None
    machine: Machine

    @property
    def held(self) -> bool:
        """Whether no target is missed."""
        met = all(target.held for device in self.devices.values() for target in device.targets)
        return met and (self.chaos is None or self.chaos.clean)


def figures_of(run: Run, load: Load, slo: Slo, told: Sequence[Told] = (), whole: float = 1.0) -> Figures:
    """A run in numbers. ``whole``: what a flood alone has of the device's time, by whoever counts it."""
    inside = [each for each in run.readings if each.server_ns or each.at_ns < run.begin_ns + load.seconds * NS_PER_S]
    first = next((each for each in inside if each.at_ns >= run.begin_ns), inside[0])
    last = inside[-1]
    span_ns = max(1, last.at_ns - first.at_ns)
    server_pct = 100.0 * (last.server_ns - first.server_ns) / span_ns
    flood_pct = 100.0 * (last.flood_ns - first.flood_ns) / span_ns / whole
    return Figures(
        p99_ms=round(p99_ms(run.answers), 2),
        attained_pct=round(attained_pct(run.answers, slo) * len(run.answers) / len(load.requests), 3),
        server_pct=round(server_pct, 2),
        flood_pct=round(flood_pct, 2),
        kept_pct=round(100.0 * flood_pct / max(1e-9, 100.0 - server_pct), 2) if flood_pct else None,
        unanswered=run.unanswered,
        actions=acted(told),
    )


def acted(told: Sequence[Told]) -> int:
    """How often the guard has done something."""
    return sum(each.kind == "action" and each.action != "none" for each in told)


def incident_of(outcome: Outcome, order: Order, alone: Sequence[Answer]) -> Incident:
    """What became of the flood that came. ``alone``: the same requests, answered without it."""
    run, load, slo = outcome.run, order.load, order.slo
    began = run.flood_ns
    breached = next((each.at_ns for each in outcome.told if each.kind == "breached" and each.at_ns >= began), None)
    stretches = windows(run.answers, run.begin_ns, load.seconds, 0.5, slo)
    server = list(busy_seconds([(each.at_ns, each.server_ns) for each in run.readings[::5]]))
    flood = list(busy_seconds([(each.at_ns, each.flood_ns) for each in run.readings[::5]]))
    without = late_of(alone, slo)
    recovered = recovered_s(run.answers, breached, slo, QUIET_S, without) if breached is not None else None
    return Incident(
        load=described(load),
        promised_ms=slo.tpot_ms or 0.0,
        shares_pct=percent(order.shares_ppm),
        began_s=round((began - run.begin_ns) / NS_PER_S, 3),
        detect_s=round((breached - began) / NS_PER_S, 3) if breached is not None else None,
        recover_s=round(recovered, 3) if recovered is not None else None,
        late_alone=len(without),
        attained_pct=round(attained_pct(_after(run.answers, began), slo), 3),
        actions=acted(outcome.told),
        told=tuple(f"{(each.at_ns - run.begin_ns) / NS_PER_S:.2f} s: {sentence(each)}" for each in outcome.told),
        seconds=tuple(each.at_s for each in stretches),
        latency_ms=tuple(round(each.latency_ms, 2) for each in stretches),
        tpot_ms=tuple(round(each.tpot_ms, 2) for each in stretches),
        server_at_s=tuple(round((at_ns - run.begin_ns) / NS_PER_S, 2) for at_ns, _ in server),
        server_pct=tuple(round(part, 2) for _, part in server),
        flood_pct=tuple(round(part, 2) for _, part in flood),
        marks=tuple(
            (round((each.at_ns - run.begin_ns) / NS_PER_S, 2), each.action or each.kind)
            for each in outcome.told
            if each.kind in ("breached", "action")
        ),
    )


def _after(answers: Sequence[Answer], from_ns: int) -> list[Answer]:
    return [answer for answer in answers if answer.ended_ns >= from_ns]


def sentence(told: Told) -> str:
    """What the guard told, in a line."""
    what = " ".join(filter(None, (told.kind, told.action, f"of {told.target}" if told.target else "")))
    ended = ", undone" if told.undone else ", helped" if told.helped else ""
    return f"{what}{ended}: {told.message}"


class Measured(Struct, frozen=True, kw_only=True):
    """All that was measured on one kind of device."""

    name: str
    kind: str
    kernels: Kernels
    load: Load
    slo_ms: float
    shares_pct: tuple[float, float]
    single: dict[str, list[Figures]]
    incidents: list[Incident]
    false_actions: int


def device_of(measured: Measured) -> Device:
    """All runs together."""
    single, load, incidents = measured.single, measured.load, measured.incidents
    ratio = {how: _ratios(single[how], single[ALONE]) for how in (UNGUARDED, GUARDED)}
    detects_s, recovers_s = [each.detect_s for each in incidents], [each.recover_s for each in incidents]
    steady = sum(each.actions for each in single[GUARDED])
    device = Device(
        device=measured.name,
        kernels=measured.kernels,
        slo_ms=round(measured.slo_ms, 2),
        shares_pct=measured.shares_pct,
        runs=len(single[ALONE]),
        load=described(load) | {"device_pct": median(each.server_pct for each in single[ALONE])},
        p99_ms={how: median(each.p99_ms for each in runs) for how, runs in single.items()},
        slo_attainment_pct={how: median(each.attained_pct for each in runs) for how, runs in single.items()},
        utilisation_pct={how: round(median(each.busy_pct for each in runs), 2) for how, runs in single.items()},
        batch_kept_pct={how: median(each.kept_pct or 0.0 for each in single[how]) for how in (UNGUARDED, GUARDED)},
        ratio=ratio,
        longer_ms={how: _longer(single[how], single[ALONE]) for how in (UNGUARDED, GUARDED)},
        single={how: tuple(runs) for how, runs in single.items()},
        detect_s=_middle(detects_s),
        recover_s=_middle(recovers_s),
        detects_s=tuple(detects_s),
        recovers_s=tuple(recovers_s),
        actions=sum(each.actions for each in incidents) + steady,
        false_actions=measured.false_actions + steady,
        valid=ratio[UNGUARDED].median >= VALID_RATIO,
        incident=sorted(incidents, key=lambda each: _or_never(each.recover_s))[len(incidents) // 2],
        targets=(),
    )
    return replace(device, targets=tuple(_targets(measured.kind, device)))


def described(load: Load) -> dict[str, float | str]:
    """Where a load is from, and how much it is."""
    return {
        "source": load.source,
        "requests": len(load.requests),
        "seconds": load.seconds,
        "rate_hz": round(load.rate_hz, 2),
    }


def percent(shares_ppm: tuple[int, int]) -> tuple[float, float]:
    """Shares as they are shown."""
    server, flood = shares_ppm
    return 100.0 * server / PPM, 100.0 * flood / PPM


def _ratios(runs: Sequence[Figures], alone: Sequence[Figures]) -> Spread:
    return spread([each.p99_ms / by_itself.p99_ms for each, by_itself in zip(runs, alone, strict=True)])


def _longer(runs: Sequence[Figures], alone: Sequence[Figures]) -> Spread:
    return spread([each.p99_ms - by_itself.p99_ms for each, by_itself in zip(runs, alone, strict=True)])


def _middle(seconds: Sequence[float | None]) -> float | None:
    """The median, where None is later than all others."""
    found = median(map(_or_never, seconds))
    return None if math.isinf(found) else found


def _or_never(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds


def _targets(kind: str, device: Device) -> list[Target]:
    ratio, kept, attained = device.ratio, device.batch_kept_pct[GUARDED], device.slo_attainment_pct[GUARDED]
    return [
        _least("unguarded p99 against alone", ratio[UNGUARDED].median, VALID_RATIO),
        _most("guarded p99 against alone", ratio[GUARDED].median, SIM_RATIO_MOST) if kind == "sim" else _one_kernel(device),
        _least("kept of what is left, %", kept, KEPT_LEAST_PCT[kind]),
        _least("SLO attained, %", attained, ATTAIN_LEAST_PCT),
        _most("detected after, s", device.detect_s, DETECT_MOST_S),
        _most("recovered after, s", device.recover_s, RECOVER_MOST_S),
        _most("actions without a reason", device.false_actions, 0),
    ]


def _one_kernel(device: Device) -> Target:
    """Where nothing preempts, a request may come a kernel of the neighbour's later."""
    return _most(
        "guarded p99 later than alone, ms (one kernel)", device.longer_ms[GUARDED].median, device.kernels.flood_us / 1000
    )


def _least(name: str, value: float, least: float) -> Target:
    return Target(name=name, value=value, wanted=f">= {least:g}", held=value >= least)


def _most(name: str, value: float | None, most: float) -> Target:
    return Target(name=name, value=value, wanted=f"<= {most:g}", held=value is not None and value <= most)


def rows(device: Device) -> list[tuple[str, ...]]:
    """A line for each way of sharing."""
    found: list[tuple[str, ...]] = []
    for how, runs in device.single.items():
        ratio = device.ratio.get(how)
        found.append(
            (
                how.replace("_", " "), f"{device.p99_ms[how]:.1f}",
                f"{ratio.median:.3f} ({ratio.least:.3f} to {ratio.most:.3f})" if ratio is not None else "1",
                f"{device.slo_attainment_pct[how]:.2f}", f"{device.utilisation_pct[how]:.1f}",
                f"{device.batch_kept_pct[how]:.1f}" if how in device.batch_kept_pct else "-", str(len(runs)),
            )
        )  # fmt: skip
    return found


HEAD: Final = ("SHARED", "P99 MS", "AGAINST ALONE", "SLO %", "DEVICE BUSY %", "BATCH KEPT %", "RUNS")
