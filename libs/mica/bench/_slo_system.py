"""A run of ``mica bench slo`` in a whole system: two slices, the programs in them, their reports, and what the guard does.

Runs in a process of its own, because a process can read the books of one simulated node only: an order as JSON on stdin, what
came of it on stdout. Invariant: all moments are of one clock, CLOCK_MONOTONIC.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._regions import monotonic_ns
from mica.bench._slo_figures import NS_PER_S, Answer, Stretch, report_of
from mica.bench._slo_load import Load
from mica.bench._slo_opencl import OpenCl
from mica.bench._slo_run import Programs, Run, Watch, run_programs
from mica.bench._slo_sim import BooksMeter, Kernels, flood_command, node_toml, plain_environment, server_command
from mica.bench._stack import Stack, running_stack
from mica.bus import Bus, JetStreamBus
from mica.events import PPM, AskedLimits, Mode, RequestSlice, Runtime, Slo, SloActed, SloBreached, SloMeasured, Tier
from mica.region import RuntimeDir

SERVER: Final = "server"
FLOOD: Final = "flood"
GIB: Final = 1 << 30
REPORT_EVERY_S: Final = 0.5
AFTER_S: Final = 1.0
"""For what the guard says of the last windows."""
PATIENCE_S: Final = 900.0


class Order(Struct, frozen=True, kw_only=True):
    """What to run. ``shares_ppm``: of the server and the flood. ``ns_per_round``: on OpenCL, 0 on the simulated driver."""

    kernels: Kernels
    load: Load
    slo: Slo
    shares_ppm: tuple[int, int]
    flood_tier: Tier = Tier.SPOT
    flood_after_s: float | None = None
    ns_per_round: float = 0.0


class Told(Struct, frozen=True, kw_only=True):
    """What the guard told, and when it was heard (CLOCK_MONOTONIC, ns)."""

    at_ns: int
    kind: str
    action: str = ""
    target: str = ""
    action_id: str = ""
    message: str = ""
    helped: bool = False
    undone: bool = False


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of it."""

    run: Run
    told: tuple[Told, ...]


def run_in_system(order: Order) -> Outcome:
    """Have the order carried out.

    Raises:
        BenchError: the system did not come up, or a program failed.
    """
    command = [sys.executable, "-m", "mica.bench._slo_system"]
    done = subprocess.run(command, input=msgspec.json.encode(order), capture_output=True, check=False, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise BenchError(f"the whole system could not be measured: {done.stderr.decode().strip()[-800:]}")
    return msgspec.json.decode(done.stdout, type=Outcome)


def _carry_out(order: Order) -> Outcome:
    with running_stack(node_toml(order.kernels, "bench"), opencl=bool(order.ns_per_round)) as stack:
        return asyncio.run(_measure(stack, order))


async def _measure(stack: Stack, order: Order) -> Outcome:
    bus = await JetStreamBus.connect(stack.url)
    try:
        await grant(bus, order)
        listener = Listener(bus)
        heard = asyncio.create_task(listener.listen())
        await listener.ready.wait()
        reporter = Reporter(bus, order)
        path = stack.runtime_dir.parent / "requests"
        run = await run_programs(order.load, _programs(stack, order, path), path, reporter.on_tick)
        await asyncio.sleep(AFTER_S)
        heard.cancel()
        with suppress(asyncio.CancelledError):
            await heard
        return Outcome(run=run, told=tuple(listener.told))
    finally:
        await bus.close()


async def grant(bus: Bus, order: Order) -> None:
    """Ask for both slices; the flood may use whatever the server leaves, and the server what the flood does."""
    runtime = Runtime.OPENCL if order.ns_per_round else Runtime.CUDA
    tiers = {SERVER: Tier.GUARANTEED, FLOOD: order.flood_tier}
    async with bus.following("slice.ready.*", "slice.rejected.*", "slice.failed.*") as answers:
        for (slice_id, tier), share_ppm in zip(tiers.items(), order.shares_ppm, strict=True):
            slo = order.slo if slice_id == SERVER else None
            wanted = RequestSlice(
                id=slice_id,
                tenant=slice_id,
                vram_bytes=GIB // 4,
                share_ppm=share_ppm,
                tier=tier,
                mode=Mode.FCSP,
                runtime=runtime,
                slo=slo,
                limits=AskedLimits(ceiling_ppm=PPM),
            )
            await bus.publish(wanted)
        missing = set(tiers)
        async for heard in answers:
            if not heard.subject.startswith("slice.ready."):
                raise BenchError(f"{heard.subject}: {heard.event}")
            missing.discard(heard.subject.rpartition(".")[2])
            if not missing:
                return


class _Attach(Struct):
    env: dict[str, str]


def environment_in(stack: Stack, slice_id: str) -> Mapping[str, str]:
    """What a program needs to start inside a slice."""
    path = RuntimeDir(stack.runtime_dir).attach_path(slice_id)
    return plain_environment() | msgspec.json.decode(path.read_bytes(), type=_Attach).env


def _programs(stack: Stack, order: Order, path: Path) -> Programs:
    inside = {slice_id: environment_in(stack, slice_id) for slice_id in (SERVER, FLOOD)}
    if order.ns_per_round:
        device = OpenCl(order.kernels, order.ns_per_round)
        server, flood = device.server(path, inside[SERVER]), device.flood(inside[FLOOD])
        return Programs(server=server, flood=flood, meter=device, flood_after_s=order.flood_after_s)
    server, flood = server_command(order.kernels, path, inside[SERVER]), flood_command(order.kernels, inside[FLOOD])
    return Programs(server=server, flood=flood, meter=BooksMeter(stack.sim_dir), flood_after_s=order.flood_after_s)


class Reporter:
    """Says for the server how it fares, as any program can say it for itself."""

    def __init__(self, bus: Bus, order: Order) -> None:
        self._bus = bus
        self._slo = order.slo
        self._due_ns = 0
        self._reported = 0

    async def on_tick(self, watch: Watch) -> None:
        """Publish a window when it is over."""
        now_ns = monotonic_ns()
        if not self._due_ns:
            self._due_ns = watch.begin_ns + int(REPORT_EVERY_S * NS_PER_S)
        if now_ns < self._due_ns:
            return
        answers: list[Answer] = watch.answers[self._reported :]
        self._reported += len(answers)
        self._due_ns += int(REPORT_EVERY_S * NS_PER_S)
        waiting = watch.arrived(now_ns) - len(watch.answers)
        stretch = Stretch(seconds=REPORT_EVERY_S, answers=answers, waiting=waiting)
        await self._bus.publish(report_of(SERVER, stretch, self._slo, time.time_ns()))


class Listener:
    """Hears what the guard tells."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.ready = asyncio.Event()
        self.told: list[Told] = []

    async def listen(self) -> None:
        """Until cancelled."""
        async with self._bus.following("slo.breached.*", "slo.action.*", "slo.measured.*") as facts:
            self.ready.set()
            async for heard in facts:
                self.told.append(_told(heard.event))


def _told(event: object) -> Told:
    at_ns = monotonic_ns()
    match event:
        case SloBreached():
            message = f"{event.objective} {event.observed:g}, promised {event.promised:g}"
            return Told(at_ns=at_ns, kind="breached", message=message)
        case SloActed():
            kind = "action" if not event.dry_run else "dry run"
            return Told(
                at_ns=at_ns, kind=kind, action=event.action, target=event.target, action_id=event.action_id, message=event.message
            )
        case SloMeasured():
            return Told(
                at_ns=at_ns, kind="measured", action=event.action, target=event.target, action_id=event.action_id,
                message=event.message, helped=event.helped, undone=event.undone,
            )  # fmt: skip
        case _:
            return Told(at_ns=at_ns, kind=type(event).__name__)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_carry_out(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))))
