"""A device with an inference slice, its neighbour and a crowd of requests, in closed form: what the guard is tried on without
processes or sleeps.

The victim serves its requests one after the other (M/G/1), at rate ``mu = share it really gets / work``: its 99th percentile is
that of an exponential sojourn, ``ln 100 / (mu - lambda)``, and a queue grows while it is asked more than it can do. The neighbour
takes what its control word, its share and its ceiling leave it. What the victim gets is its share, less ``disturbance`` of what
the neighbour uses, plus what is idle up to its ceiling.
"""

import math
import random
from dataclasses import dataclass, field

from mica.events import PPM, Control, Fact, Guarding, Mode, SliceSampled, Slo, SloReported, Tier
from mica.slo_guard.rehearsing import NODE, START_NS, Place, Rehearsal

PROMISE_MS = 100.0
QUIET = 0.05
"""What a neighbour does of the device before anything happens."""
WORK_S = 0.004
"""Device time of a request."""


@dataclass
class Load:
    """What is asked, until the next change: of the victim in requests a second, of the neighbour in parts of the device."""

    victim_hz: float = 40.0
    neighbour: float = 0.0
    copies: float = 0.0
    launches_hz: float = 0.0


@dataclass
class Plant:
    """The device; ``backlog`` is the victim's queue in requests. ``stepped``: counts what is to be reported and sampled."""

    places: tuple[Place, ...]
    rehearsal: Rehearsal
    disturbance: float = 0.6
    unnoticed: float = 0.0
    counted: bool = True
    period_s: float = 0.5
    seed: int = 1
    load: Load = field(default_factory=Load)
    at_s: float = 0.0
    backlog: float = 0.0
    served_hz: float = 0.0
    history: list[tuple[float, float]] = field(default_factory=list)
    reports: bool = True
    samples: bool = True

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.counters = {
            place.id: dict.fromkeys(("gpu_ns", "copied_bytes", "launches", "throttled_ns"), 0) for place in self.places
        }

    async def run(self, seconds: float, load: Load | None = None) -> None:
        """Let so much time pass under that load."""
        self.load = load or self.load
        until = self.at_s + seconds
        while self.at_s + self.period_s <= until + 1e-9:
            self.at_s += self.period_s
            p99_ms = self._step()
            self.history.append((self.at_s, p99_ms))
            whole = self.samples and abs(self.at_s - round(self.at_s)) < self.period_s / 2
            events: list[Fact] = self._samples() if whole else []
            await self.rehearsal.say(*events, *([self.report(p99_ms)] if self.reports else []))

    def now(self) -> int:
        """The time as events tell it."""
        return START_NS + int(self.at_s * 1e9)

    def report(self, p99_ms: float) -> SloReported:
        """What a gate would say of the last period."""
        requests = max(1, round(self.served_hz * self.period_s))
        late_part = 1.0 if self.backlog > 1 else math.exp(-math.log(100) * PROMISE_MS / p99_ms)
        late = sum(self.random.random() < late_part for _ in range(requests))
        return SloReported(
            at=self.now(), id=self.places[0].id, window_s=self.period_s, requests=requests, p99_ms=p99_ms,
            late=late if self.counted else None, queued=round(self.backlog),
        )  # fmt: skip

    def _step(self) -> float:
        """One period: who gets what, and the victim's 99th percentile in ms."""
        neighbour = self._neighbour_gets()
        gets = self._victim_gets(neighbour)
        mu, asked = gets / WORK_S, self.load.victim_hz
        before = self.backlog
        self.backlog = max(0.0, before + (asked - mu) * self.period_s)
        self.served_hz = asked + (before - self.backlog) / self.period_s
        self._count(self.places[0].id, gpu=self.served_hz * WORK_S, throttled=max(0.0, 1 - (mu - asked) / mu) if mu > 0 else 1.0)
        if len(self.places) > 1:
            wanted = self.load.neighbour
            self._count(self.places[1].id, gpu=neighbour, throttled=1.0 if wanted > neighbour + 1e-9 else 0.0)
            self.counters[self.places[1].id]["copied_bytes"] += int(self.load.copies * self.period_s)
            self.counters[self.places[1].id]["launches"] += int(self.load.launches_hz * self.period_s)
        waiting_s = self.backlog / mu if mu > 0 else 10.0
        spare = max(mu - asked, 1.0)
        return min(60_000.0, 1000 * (waiting_s + math.log(100) / spare))

    def _neighbour_gets(self) -> float:
        if len(self.places) < 2:
            return 0.0
        record = self.rehearsal.records[self.places[1].id]
        first = record.placements[0]
        here = record.phase == "placed" and first.device_id == self.places[1].device_id
        if not here or record.control is Control.PAUSE:
            return 0.0
        burst = record.request.tier is Tier.BURST and record.control is Control.RUN
        most = 1.0 - self._victim_share() if burst else first.share_ppm / PPM
        return min(self.load.neighbour, most)

    def _victim_gets(self, neighbour: float) -> float:
        first = self.rehearsal.records[self.places[0].id].placements[0]
        share = first.share_ppm / PPM
        ceiling = max(share, (first.limits.ceiling_ppm or 0) / PPM)
        idle = max(0.0, 1.0 - share - neighbour)
        over = max(0.0, neighbour - self._neighbour_share())
        copies = min(0.5, self.load.copies / (20 << 30))
        gets = share * (1 - min(0.9, self.disturbance * (over / max(share, 0.05)) + copies))
        return min(gets + min(idle, ceiling - share), 1.0) if first.device_id == self.places[0].device_id else share

    def _victim_share(self) -> float:
        return self.rehearsal.records[self.places[0].id].placements[0].share_ppm / PPM

    def _neighbour_share(self) -> float:
        """What the neighbour may use without anybody noticing: a burst slice's own share, ``unnoticed`` of a spot slice."""
        place = self.places[1] if len(self.places) > 1 else None
        return place.share_ppm / PPM if place is not None and place.tier is not Tier.SPOT else self.unnoticed

    def _count(self, slice_id: str, *, gpu: float, throttled: float) -> None:
        self.counters[slice_id]["gpu_ns"] += int(gpu * self.period_s * 1e9)
        self.counters[slice_id]["throttled_ns"] += int(throttled * self.period_s * 1e9)
        self.counters[slice_id]["launches"] += int(100 * gpu * self.period_s)

    def _samples(self) -> list[Fact]:
        return [
            SliceSampled(
                at=self.now(), id=place.id, tenant=place.tenant, node=NODE, device_id=place.device_id, vram_used_bytes=0,
                vram_peak_bytes=0, vram_limit_bytes=1 << 30, share_ppm=place.share_ppm, **self.counters[place.id],
            )
            for place in self.places
        ]  # fmt: skip


async def plant(
    *, neighbour: Tier | None = Tier.BURST, policy: Guarding | None = None, mode: Mode = Mode.FCSP, **options: object
) -> Plant:
    """The victim with 40 % of a device, perhaps with a neighbour that has 30 %, in steady state."""
    victim = Place(id="chat", share_ppm=400_000, mode=mode, slo=Slo(p99_ms=PROMISE_MS))
    others = (Place(id="batch", share_ppm=300_000, tier=neighbour, mode=mode, tenant="other"),) if neighbour else ()
    rehearsal = Rehearsal((victim, *others), policy or Guarding())
    await rehearsal.start()
    made = Plant((victim, *others), rehearsal, **options)  # type: ignore[arg-type]
    await made.run(30, Load(neighbour=QUIET))
    return made
