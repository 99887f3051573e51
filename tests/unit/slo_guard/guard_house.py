"""A guard in one process, with a slice that was promised something and whoever a test puts beside it."""

from msgspec.structs import replace

from mica.events import (
    ControlSlice,
    Guarding,
    GuardState,
    ResizeSlice,
    SliceSampled,
    Slo,
    SloActed,
    SloReported,
)
from mica.slo_guard.rehearsing import START_NS, Place, Rehearsal

SECOND = 1_000_000_000
NO_CEILING = Guarding(ceiling=())
S1 = Place(id="s1", share_ppm=200_000, slo=Slo(p99_ms=50))


class World(Rehearsal):
    """Slice s1, which was promised 50 ms, and whoever else a test wants beside it."""

    def __init__(self, *others: Place, policy: Guarding = NO_CEILING, s1: Place = S1) -> None:
        super().__init__((s1, *others), policy)
        self.at = START_NS
        self.id = "s1"

    async def report(self, p99_ms: float = 90.0, id_: str = "") -> None:
        """One window of a second."""
        self.at += SECOND
        await self.say(SloReported(at=self.at, id=id_ or self.id, p99_ms=p99_ms, requests=10))

    async def counted(self, p99_ms: float, late: int = 0) -> None:
        """One window of half a second with few requests, and how many of them were late."""
        self.at += SECOND // 2
        report = SloReported(at=self.at, id=self.id, window_s=0.5, p99_ms=p99_ms, requests=6, late=late, inflight=1)
        await self.say(report)

    async def stuck(self, overdue: int) -> None:
        """One window of half a second in which nothing ended of four requests that are being answered."""
        self.at += SECOND // 2
        await self.say(SloReported(at=self.at, id=self.id, window_s=0.5, late=0, inflight=4, overdue=overdue))

    async def breach(self, count: int = 3) -> None:
        """So many bad windows."""
        for _ in range(count):
            await self.report()

    async def peace(self, count: int) -> None:
        """So many good ones."""
        for _ in range(count):
            await self.report(p99_ms=10.0)

    def actions(self) -> list[tuple[str, int | None]]:
        return [(event.action, event.share_ppm) for event in self.told(SloActed)]

    def shares(self) -> list[int | None]:
        return [command.share_ppm for command in self.commands if isinstance(command, ResizeSlice)]

    def controls(self) -> list[tuple[str, str]]:
        return [(command.id, str(command.control)) for command in self.commands if isinstance(command, ControlSlice)]

    async def state(self, id_: str = "s1") -> GuardState | None:
        entry = await self.bus.state.get(f"guard.{id_}", GuardState)
        return entry.value if entry else None

    async def change(self, id_: str = "s1", **changes: object) -> None:
        await self.write(replace(self.records[id_], **changes))

    async def restart(self) -> None:
        """Another replica, which knows what is in KV and no more."""
        self.guard = self.replica()
        watch = self.bus.state.watch("guard.*", GuardState)
        self.guard.on_states(await anext(watch))
        await watch.aclose()  # type: ignore[attr-defined]


async def world(*others: Place, **options: object) -> World:
    """A world that is in place."""
    made = World(*others, **options)  # type: ignore[arg-type]
    await made.start()
    return made


async def throttled(w: World) -> None:
    """A flood beside s1, found and stopped, and measured to have helped."""
    await blame(w, 0.1, seconds=30)
    for _ in range(4):
        await blame(w, 0.7)
        await w.breach(1)
    assert w.controls() == [("batch", "throttle")]
    await w.peace(4)


async def blame(w: World, gpu: float, seconds: int = 1) -> None:
    """So many seconds of the neighbour's work, as telemetry sees it, and of waiting slices beside it."""
    if not hasattr(w, "worked"):
        w.worked = {"batch": 0.0, "s1": 0.0, "s2": 0.0}  # type: ignore[attr-defined]
    for second in range(seconds):
        at = w.at + (second - seconds + 1 + (seconds == 1)) * SECOND
        w.worked["batch"] += gpu  # type: ignore[attr-defined]
        for id_, worked in w.worked.items():  # type: ignore[attr-defined]
            waited = (at - START_NS) // 2 if id_ != "batch" else 0
            sample = SliceSampled(
                at=at + 60 * SECOND, id=id_, tenant="t", node="n1", device_id="GPU-1", vram_used_bytes=0, vram_peak_bytes=0,
                vram_limit_bytes=1, gpu_ns=int(worked * 1e9), share_ppm=300_000, throttled_ns=max(0, waited + 30 * SECOND),
            )  # fmt: skip
            w.guard.sightings.see(sample, at / SECOND)
