"""One slice of each size, the program inside it, and what mica counted. Owns the slices that profiling makes.

Invariant: every slice that was asked for is given back before the next one is asked for, whatever happened in it.
"""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.bus import Bus, Heard
from mica.cli._answers import ask, say
from mica.cli._errors import CliError
from mica.cli._profiling import Measured, Trial, Used, filled, measured
from mica.events import Ledger, Placement, ReleaseSlice, RequestSlice, SliceEvicted, SliceReady, SliceReleased
from mica.region import RegionError, RuntimeDir, read_usage

ANSWER_S: Final = 30.0
GIVEN_BACK_S: Final = 30.0
SAID_MAX: Final = 2000
ATTEMPTS: Final = 20
AGAIN_S: Final = 0.25


class Plan(Struct, frozen=True, kw_only=True):
    """What to run: ``command`` once for each of ``runs`` in a slice like ``request`` of each share and for each batch."""

    command: tuple[str, ...]
    request: RequestSlice
    shares_ppm: tuple[int, ...]
    batches: tuple[int, ...]
    runs: int
    limit_s: float
    runtime_dir: Path


async def carry_out(bus: Bus, plan: Plan, tell: Callable[[str], None]) -> list[Measured]:
    """Every point of the plan, by share and batch.

    Raises:
        CliError: a slice was refused, is not on this node or on another model than the first, or the program failed.
    """
    found: list[Measured] = []
    for share_ppm in plan.shares_ppm:
        for batch in plan.batches:
            point = await _point(bus, plan, (share_ppm, batch), found[0].model if found else "", tell)
            twin = next((each for each in found if _key(each) == _key(point)), None)
            if twin is not None:
                tell(f"{share_ppm} ppm gets {point.point.share_ppm} ppm as before; left out")
                continue
            found.append(point)
    return sorted(found, key=_key)


def _key(each: Measured) -> tuple[int, int]:
    return each.point.share_ppm, each.point.batch


async def _point(bus: Bus, plan: Plan, size: tuple[int, int], model: str, tell: Callable[[str], None]) -> Measured:
    """One point on ``model``, or on any where that is empty. What was given back may count a moment longer: it is tried again."""
    for attempt in range(ATTEMPTS):
        await asyncio.sleep(AGAIN_S if attempt else 0)
        point = await _try(bus, plan, size, model, tell)
        if isinstance(point, Measured):
            return point
    allowed = f"{model}, as the first; --pool, --vendor or --mode hold them together"
    raise CliError(f"profile: {size[0]} ppm: got a slice on {point}, allowed: {allowed}")


async def _try(bus: Bus, plan: Plan, size: tuple[int, int], model: str, tell: Callable[[str], None]) -> Measured | str:
    """The point, or the other model on which its slice was."""
    share_ppm, batch = size
    name = f"profile-{share_ppm}-{batch}-{secrets.token_hex(4)}"
    async with _slice(bus, replace(plan.request, id=name, share_ppm=share_ppm), tell) as placement:
        if model not in ("", placement.model):
            return placement.model
        beside = await _beside(bus, placement, name)
        if beside:
            tell(f"beside {beside} other slices on {placement.device_id}: what they do is in the figures")
        trials = [await _run(plan, name, filled(plan.command, batch)) for _ in range(plan.runs)]
        point = measured(placement.share_ppm, batch, trials, _used(plan.runtime_dir, name, placement), placement.model)
    told = point.point
    tell(f"{told.share_ppm} ppm, batch {batch}: {told.rate_hz:.4g} Hz, p99 {told.p99_ms:.4g} ms")
    return point


@asynccontextmanager
async def _slice(bus: Bus, request: RequestSlice, tell: Callable[[str], None]) -> AsyncIterator[Placement]:
    """A slice that is ready, given back at the end."""
    _, answer = await ask(bus, request, ANSWER_S + request.queue_s, tell)
    try:
        if answer is None:
            raise CliError(f"profile: slice {request.id}: no answer in {ANSWER_S + request.queue_s:g} s")
        if not isinstance(answer, SliceReady):
            raise CliError(f"profile: a slice of {request.share_ppm} ppm: {answer.message}")
        yield answer.placements[0]
    finally:
        if answer is None or isinstance(answer, SliceReady):
            await _give_back(bus, request.id or "")


async def _give_back(bus: Bus, slice_id: str) -> None:
    def gone(heard: Heard) -> bool | None:
        return isinstance(heard.event, SliceReleased | SliceEvicted) or None

    async with say(bus, ReleaseSlice(id=slice_id, grace_s=0.0), (f"slice.*.{slice_id}",)) as conversation:
        await conversation.first(gone, GIVEN_BACK_S)


async def _beside(bus: Bus, placement: Placement, slice_id: str) -> int:
    entry = await bus.state.get(f"ledger.{placement.node}", Ledger)
    return len(set(entry.value.devices.get(placement.device_id, {})) - {slice_id}) if entry is not None else 0


async def _run(plan: Plan, slice_id: str, command: Sequence[str]) -> Trial:
    """The command, as ``mica run`` starts it. What it says on stderr is the user's to see."""
    inside = (sys.executable, "-m", "mica.cli", "run", "--runtime-dir", str(plan.runtime_dir), slice_id, "--", *command)
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*inside, stdout=asyncio.subprocess.PIPE, env=dict(os.environ))
    try:
        async with asyncio.timeout(plan.limit_s):
            output, _ = await process.communicate()
    except TimeoutError:
        raise CliError(f"profile: {command[0]}: got no end in {plan.limit_s:g} s, allowed: --timeout") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        said = output.decode(errors="replace")[-SAID_MAX:].strip().rpartition("\n")[2]
        raise CliError(
            f"profile: {command[0]}: got exit status {process.returncode}, allowed: 0" + (f" ({said})" if said else "")
        )
    return Trial(output=output.decode(errors="replace"), wall_s=time.perf_counter() - begun)


def _used(runtime_dir: Path, slice_id: str, placement: Placement) -> Used:
    """From the slice's own usage region; a partition has none."""
    try:
        usage = read_usage(RuntimeDir(runtime_dir).usage_path(slice_id, placement.device_id))
    except RegionError:
        return Used()
    return Used(vram_peak_bytes=usage.vram_peak_bytes, gpu_ns=usage.gpu_ns, throttled_ns=usage.throttled_ns)
