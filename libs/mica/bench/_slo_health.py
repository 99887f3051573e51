"""An hour in which nothing is wrong, told to the guard itself on a clock of its own: whatever it does there is a false action.

The server of the benchmark is simulated (the same batching, kernels of the same length), and its promise is the one that the
benchmark makes: a tenth above its p99. So about one request in two hundred is late, bursts make series of them, and a neighbour
comes and goes all the while.

Invariant: the same arguments give the same hour.
"""

import json
import random
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._slo_figures import NS_PER_S, Answer, Stretch, p99_ms, report_of
from mica.bench._slo_load import SHARES_PPM, Load, Request
from mica.bench._slo_sim import Kernels
from mica.events import PPM, SliceSampled, Slo, SloReported

HOUR_S: Final = 3600.0
START_NS: Final = 1_700_000_000_000_000_000
REPORT_EVERY_S: Final = 0.5
DEVICE: Final = "GPU-1"
SEED: Final = 11
PATIENCE_S: Final = 900.0


class Health(Struct, frozen=True, kw_only=True):
    """What the guard made of it. ``late``: requests that broke the promise."""

    seconds: float
    requests: int
    late: int
    reports: int
    breaches: int
    actions: int


Underway = tuple[int, Request, int, int]
"""A request's number, itself, when its first token came (ns), and how many have come."""


def simulated(load: Load, kernels: Kernels) -> list[Answer]:
    """The answers of the inference server alone on a device whose kernels take exactly as long as they are said to."""
    waiting: deque[tuple[int, Request]] = deque(enumerate(load.requests))
    active: list[Underway] = []
    found: list[Answer] = []
    now = 0
    while waiting or active:
        if not active:
            now = max(now, waiting[0][1].at_ns)
        while len(active) < kernels.batch and waiting and waiting[0][1].at_ns <= now:
            number, request = waiting.popleft()
            now += request.prefills * kernels.prefill_us * 1000
            active.append((number, request, now, 1))
        active = _swept(active, now, found)
        if active:
            now += kernels.step_us * 1000
            active = _swept([(number, request, first, given + 1) for number, request, first, given in active], now, found)
    return found


def _swept(active: list[Underway], now: int, found: list[Answer]) -> list[Underway]:
    """Those that have tokens to come; the others are answered."""
    for number, request, first, given in active:
        if given >= request.tokens:
            found.append(Answer(number, request.at_ns, first, now, request.tokens))
    return [each for each in active if each[3] < each[1].tokens]


def watch_health(load: Load, kernels: Kernels, margin: float) -> Health:
    """Have the guard look at the load's time.

    Raises:
        BenchError: the guard could not be run.
    """
    answers = sorted(simulated(load, kernels), key=lambda answer: answer.ended_ns)
    slo = Slo(p99_ms=margin * p99_ms(answers))
    reports = list(_reports(load, answers, slo))
    lines = [*_places(slo), *(msgspec.json.encode(event).decode() for event in _events(load, answers, reports, kernels))]
    command = [sys.executable, "-m", "mica.slo_guard.rehearsing"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise BenchError(f"the guard could not be run over an hour of health: {done.stderr.strip()[-500:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return Health(
        seconds=load.seconds,
        requests=len(answers),
        late=sum(not answer.keeps(slo) for answer in answers),
        reports=len(reports),
        breaches=len(told["breaches"]),
        actions=len(told["actions"]),
    )


def _places(slo: Slo) -> list[str]:
    server = {"id": "server", "device_id": DEVICE, "share_ppm": SHARES_PPM[0], "slo": msgspec.to_builtins(slo)}
    rest = {"ceiling_ppm": PPM}
    flood = {"id": "flood", "device_id": DEVICE, "share_ppm": SHARES_PPM[1], "tier": "spot", "limits": rest}
    return [json.dumps({"place": place}) for place in (server, flood)]


def _reports(load: Load, answers: list[Answer], slo: Slo) -> Iterator[SloReported]:
    ends = deque(answers)
    for index in range(round(load.seconds / REPORT_EVERY_S)):
        until = int((index + 1) * REPORT_EVERY_S * NS_PER_S)
        ended = []
        while ends and ends[0].ended_ns <= until:
            ended.append(ends.popleft())
        waiting = sum(answer.arrived_ns <= until for answer in list(ends)[:64])
        yield report_of("server", Stretch(seconds=REPORT_EVERY_S, answers=ended, waiting=waiting), slo, START_NS + until)


def _events(
    load: Load, answers: list[Answer], reports: list[SloReported], kernels: Kernels
) -> Iterator[SloReported | SliceSampled]:
    """Reports and, once a second, what telemetry says of both slices; the neighbour works for minutes and rests for minutes."""
    chance = random.Random(SEED)  # noqa: S311 - a neighbour's moods
    busy = {"server": 0, "flood": 0}
    ends = deque(answers)
    mood, until_s = 0.0, 0.0
    for report in reports:
        at_s = (report.at - START_NS) / NS_PER_S
        if abs(at_s - round(at_s)) < REPORT_EVERY_S / 2:
            if at_s >= until_s:
                mood, until_s = chance.choice((0.0, 0.3, 0.8)), at_s + chance.uniform(20, 300)
            spent = 0
            while ends and ends[0].ended_ns <= at_s * NS_PER_S:
                spent += load.requests[ends.popleft().number].prefills * kernels.prefill_us * 1000
            busy["server"] += spent
            busy["flood"] += int(mood * max(0, NS_PER_S - spent))
            for slice_id, gpu_ns in busy.items():
                yield _sample(slice_id, gpu_ns, report.at)
        yield report


def _sample(slice_id: str, gpu_ns: int, at: int) -> SliceSampled:
    return SliceSampled(
        at=at, id=slice_id, tenant=slice_id, node="n1", device_id=DEVICE, vram_used_bytes=0, vram_peak_bytes=0,
        vram_limit_bytes=1 << 28, gpu_ns=gpu_ns, launches=gpu_ns // 1_000_000, processes=1,
    )  # fmt: skip
