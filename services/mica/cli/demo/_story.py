"""What happens in the demo, act by act. Invariant: every act leaves the system as the next one expects it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from rich.console import Console
from rich.progress import Progress

from mica.audit import Sources, audit
from mica.bus import Bus
from mica.cli._answers import ask, say
from mica.cli._quantities import show_bytes, show_share
from mica.cli.commands.change import CHANGED, ENDED, outcome
from mica.cli.demo._checks import Checks
from mica.cli.demo._clients import CudaClient, cuda_client, nvml_client, opencl_client
from mica.cli.demo._stack import Stack
from mica.events import (
    Decision,
    Mode,
    Placement,
    ReleaseSlice,
    RequestSlice,
    ResizeSlice,
    Runtime,
    SliceReady,
    SliceRecord,
    SliceRejected,
)
from mica.hardware import Books, read_books
from mica.region import RuntimeDir, read_usage

GIB: Final = 1 << 30
MIB: Final = 1 << 20
WAIT_S: Final = 30.0
FLOOD_S: Final = 6.0
SETTLE_S: Final = 1.0
MEASURED_S: Final = 4.0
POINTS_ALLOWED: Final = 5.0

REQUESTS: Final = (
    RequestSlice(tenant="alice", id="train", name="training", vram_bytes=36 * GIB),
    RequestSlice(tenant="alice", id="tune", name="fine-tuning", vram_bytes=36 * GIB),
    RequestSlice(tenant="bob", id="chat", name="chat model", vram_bytes=12 * GIB, share_ppm=700_000),
    RequestSlice(tenant="carol", id="search", name="embeddings", vram_bytes=8 * GIB, share_ppm=300_000),
    RequestSlice(tenant="carol", id="batch", name="nightly batch", vram_bytes=8 * GIB),
)
COMPUTING: Final = (
    RequestSlice(
        tenant="dave", id="matrix", name="matrix products", vram_bytes=256 * MIB, share_ppm=600_000, runtime=Runtime.OPENCL
    ),
    RequestSlice(tenant="erin", id="sum", name="reductions", vram_bytes=128 * MIB, share_ppm=300_000, runtime=Runtime.OPENCL),
    RequestSlice(tenant="frank", id="blur", name="image filter", vram_bytes=64 * MIB, share_ppm=100_000, runtime=Runtime.OPENCL),
)
COMPUTE_S: Final = 3.0
TOO_LARGE: Final = RequestSlice(tenant="bob", id="dream", name="too large", vram_bytes=500 * GIB)
MODES: Final = {"train": Mode.HARDWARE, "tune": Mode.HARDWARE, "batch": Mode.TIMESLICE}
"""All others are to be fcsp."""
RESIZED_BYTES: Final = 14 * GIB


class Line(Struct, frozen=True):
    """One slice in the final table."""

    id: str
    tenant: str
    placement: Placement
    decision: Decision
    seen_bytes: int
    is_real: bool
    """Its kernels computed."""


class Story:
    """The demo under way."""

    def __init__(self, stack: Stack, bus: Bus, examples: Path, console: Console) -> None:
        self._stack, self._bus, self._examples, self._console = stack, bus, examples, console
        self.checks = Checks(console)
        self.placed: dict[str, SliceRecord] = {}
        self.seen: dict[str, int] = {}

    async def play(self) -> None:
        """All acts."""
        await self._act("Before anything", self._audited)
        await self._act("Three tenants ask for slices; nobody names a device or a mode", lambda: self._ask(REQUESTS))
        await self._act("One asks for more than there is", self._ask_too_much)
        async with AsyncExitStack() as clients:
            running: dict[str, CudaClient] = {}

            async def start() -> None:
                for request in REQUESTS:
                    await self._start(clients, running, str(request.id))

            await self._act("A pynvml and a cuda-bindings program start in each slice, unmodified", start)
            await self._act("bob's program asks for more than its slice has", lambda: self._overreach(running))
            await self._act("bob and carol flood the device they share, 70 % to 30 %", lambda: self._flood(running))
            await self._act("bob's slice grows while his program runs", lambda: self._grow(running["chat"]))
            await self._act(
                "dave, erin and frank ask for this machine's own processor: 60, 30 and 10 %", lambda: self._ask(COMPUTING)
            )
            await self._act("Their PyOpenCL programs compute side by side, unmodified", self._compute)
            await self._act("Everything is running", self._audited)
            self._console.print()
            self.checks.expect(all(client.running for client in running.values()), f"all {len(running)} programs are still alive")
        await self._act("Everything is released", self._release)
        await self._act("Afterwards", self._audited)

    def models(self) -> dict[str, str]:
        """What each device is, by its id."""
        placed = (record.placements[0] for record in self.placed.values())
        return {device.uuid: device.name for device in self._books().devices} | {each.device_id: each.model for each in placed}

    def lines(self) -> list[Line]:
        """The final table."""
        return [
            Line(
                slice_id,
                record.request.tenant,
                record.placements[0],
                record.decision or Decision(summary=""),
                self.seen[slice_id],
                is_real=record.request.runtime is Runtime.OPENCL,
            )
            for slice_id, record in self.placed.items()
            if slice_id in self.seen
        ]

    async def _act(self, title: str, act: Callable[[], Awaitable[None]]) -> None:
        self._console.print(f"\n[bold]{title}[/bold]", highlight=False)
        await act()

    async def _audited(self) -> None:
        stack = self._stack
        sources = Sources(bus=self._bus, runtime_dir=stack.runtime_dir, sim_dir=stack.sim_dir, node=stack.node)
        report = await audit(sources)
        for finding in report.findings:
            self._console.print(f"    {finding}", highlight=False)
        self.checks.expect(report.clean, f"mica audit: {report.checks} checks, {len(report.findings)} disagreements")

    async def _ask(self, requests: Sequence[RequestSlice]) -> None:
        with Progress(console=self._console, transient=True, disable=not self._console.is_terminal) as progress:
            task = progress.add_task("requests", total=len(requests))
            for request in requests:
                answer = (await ask(self._bus, request, WAIT_S, self._console.print))[1]
                progress.advance(task)
                if not isinstance(answer, SliceReady):
                    self.checks.expect(False, f"{request.tenant}'s {request.id} is ready (got {answer})")  # noqa: FBT003 - it is not
                    continue
                entry = await self._bus.state.get(f"slice.{request.id}", SliceRecord)
                assert entry is not None
                self.placed[str(request.id)] = entry.value
                placement, wanted = answer.placements[0], MODES.get(str(request.id), Mode.FCSP)
                asked = show_bytes(request.vram_bytes or 0)
                what = f"{request.tenant} asks {asked} for {request.id}: {placement.mode} on {placement.model}"
                self.checks.expect(placement.mode is wanted, what if placement.mode is wanted else f"{what}, expected {wanted}")

    async def _ask_too_much(self) -> None:
        refused = (await ask(self._bus, TOO_LARGE, WAIT_S, self._console.print))[1]
        rejected = isinstance(refused, SliceRejected) and refused.field == "vram_bytes"
        why = refused.message if isinstance(refused, SliceRejected) else str(refused)
        self.checks.expect(rejected, f"bob asks 500GiB for dream: rejected, and told why ({why})")

    async def _start(self, clients: AsyncExitStack, running: dict[str, CudaClient], slice_id: str) -> None:
        granted = self.placed[slice_id].placements[0].vram_bytes
        watched = await nvml_client(self._stack, self._examples, slice_id)
        client = running[slice_id] = await clients.enter_async_context(cuda_client(self._stack, self._examples, slice_id))
        seen = {watched["total_bytes"], client.first_look["total_bytes"], client.first_look["device_bytes"]}
        self.seen[slice_id] = int(client.first_look["total_bytes"])
        shown = " or ".join(show_bytes(total) for total in sorted(seen))
        exact = seen == {granted}
        self.checks.expect(exact, f"{slice_id}: NVML and CUDA both show {shown}, granted were {show_bytes(granted)}")

    async def _at_work(self, ids: list[str], seconds: float) -> list[dict[str, Any]]:
        """All of OpenCL's programs at once; what they say at their end."""
        return await asyncio.gather(*(opencl_client(self._stack, self._examples, id_, id_, seconds) for id_ in ids))

    async def _compute(self) -> None:
        ids = [str(request.id) for request in COMPUTING if str(request.id) in self.placed]
        await self._at_work(ids, 0.0)  # once each, so that none of them compiles while the others compute
        begun = {slice_id: self._device_ns(slice_id) for slice_id in ids}
        for slice_id, said in zip(ids, await self._at_work(ids, COMPUTE_S), strict=True):
            granted = self.placed[slice_id].placements[0].vram_bytes
            self.seen[slice_id] = said["memory_bytes"]
            shown = show_bytes(said["memory_bytes"])
            what = f"{slice_id}: {said['rounds']} results, all as NumPy computes them; OpenCL shows {shown}"
            self.checks.expect(said["correct"] and said["memory_bytes"] == granted, what)
        spent = {slice_id: self._device_ns(slice_id) - begun[slice_id] for slice_id in ids}
        parts = ", ".join(f"{slice_id} {100 * ns / max(1, sum(spent.values())):.0f} %" for slice_id, ns in spent.items())
        self._console.print(
            f"    of the device time that they used: {parts}; sum's kernels are too short to fill its share", highlight=False
        )

    def _device_ns(self, slice_id: str) -> int:
        """Device time that the slice's programs have been charged."""
        placement = self.placed[slice_id].placements[0]
        return read_usage(RuntimeDir(self._stack.runtime_dir).usage_path(slice_id, placement.device_id)).gpu_ns

    async def _overreach(self, running: dict[str, CudaClient]) -> None:
        bob, others = running["chat"], {name: client for name, client in running.items() if name != "chat"}
        before = {name: await client.ask("look") for name, client in others.items()}
        within = await bob.ask("allocate", 11 * GIB)
        self.checks.expect(within["result"] == "CUDA_SUCCESS", f"11GiB of 12GiB: {within['result']}")
        beyond = await bob.ask("allocate", 2 * GIB)
        self.checks.expect(beyond["result"] == "CUDA_ERROR_OUT_OF_MEMORY", f"2GiB more than that: {beyond['result']}")
        account = self._account(bob)
        exact = account is not None and account == 11 * GIB
        self.checks.expect(exact, f"the driver's books: {show_bytes(account or 0)} for bob's program, to the byte")
        after = {name: await client.ask("look") for name, client in others.items()}
        self.checks.expect(before == after, f"nobody else notices: the other {len(others)} programs see what they saw")
        carol = await running["search"].ask("allocate", 8 * GIB)
        self.checks.expect(
            carol["result"] == "CUDA_SUCCESS", f"carol, on the same device, still gets all her 8GiB: {carol['result']}"
        )
        await running["search"].ask("free")

    async def _flood(self, running: dict[str, CudaClient]) -> None:
        pair = [running["chat"], running["search"]]
        floods = [asyncio.ensure_future(client.ask("flood", FLOOD_S)) for client in pair]
        await asyncio.sleep(SETTLE_S)
        before = self._books()
        with Progress(console=self._console, transient=True, disable=not self._console.is_terminal) as progress:
            task = progress.add_task("measuring in the driver's books", total=MEASURED_S)
            for _ in range(20):
                await asyncio.sleep(MEASURED_S / 20)
                progress.advance(task, MEASURED_S / 20)
        after = self._books()
        await asyncio.gather(*floods)
        spent = [kernel_ns(after, client.pid) - kernel_ns(before, client.pid) for client in pair]
        parts = [100 * ns / max(1, sum(spent)) for ns in spent]
        error = abs(parts[0] - 70)
        busy = 100 * sum(spent) / (after.now_ns - before.now_ns)
        got = f"asked 70.0 / 30.0, got {parts[0]:.1f} / {parts[1]:.1f}"
        self.checks.expect(
            error <= POINTS_ALLOWED,
            f"{got}: error {error:.1f} points (device {busy:.0f} % busy; at most {POINTS_ALLOWED:g} allowed)",
        )

    async def _grow(self, client: CudaClient) -> None:
        command = ResizeSlice(id=client.slice_id, vram_bytes=RESIZED_BYTES, reason="demo")
        async with say(self._bus, command, (f"slice.*.{client.slice_id}",)) as conversation:
            fact = await conversation.first(lambda heard: outcome(heard, CHANGED, 1), WAIT_S)
        what = f"resized from 12GiB to {show_bytes(RESIZED_BYTES)}: {type(fact).__name__}"
        self.checks.expect(isinstance(fact, CHANGED), what)
        look = await client.ask("look")
        same = look["pid"] == client.first_look["pid"]
        self.checks.expect(
            same and look["total_bytes"] == RESIZED_BYTES,
            f"the same process now sees {show_bytes(look['total_bytes'])}, no restart",
        )
        again = await client.ask("allocate", 2 * GIB)
        self.checks.expect(again["result"] == "CUDA_SUCCESS", f"the 2GiB that were refused: {again['result']}")

    async def _release(self) -> None:
        for slice_id in self.placed:
            command = ReleaseSlice(id=slice_id)
            async with say(self._bus, command, (f"slice.*.{slice_id}",)) as conversation:
                fact = await conversation.first(lambda heard: outcome(heard, ENDED, 0), WAIT_S)
            name = str(type(fact).__struct_config__.tag) if fact is not None else f"no answer in {WAIT_S:g} s"
            self.checks.expect(name == "slice.released", f"{slice_id}: {name}")
        books = self._books()
        held = sum(device.spent_bytes for device in books.devices)
        instances = sum(len(device.instances) for device in books.devices)
        self.checks.expect(held == 0, f"the driver's books: {held} bytes in use on {len(books.devices)} devices")
        self.checks.expect(instances == 0, f"the driver's books: {instances} MIG instances left")

    def _books(self) -> Books:
        return read_books(self._stack.sim_dir)

    def _account(self, client: CudaClient) -> int | None:
        process = self._books().process(client.pid)
        return sum(account.requested_bytes for account in process.accounts) if process else None


def kernel_ns(books: Books, pid: int) -> int:
    """Device time that the driver has booked for a process."""
    process = books.process(pid)
    return sum(account.kernel_ns for account in process.accounts) if process else 0


def table_rows(lines: Sequence[Line], models: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The final table, as text; ``models`` names a device for people."""
    return [
        (
            line.id,
            line.tenant,
            f"{line.placement.model}\n{line.placement.mode}",
            f"{show_bytes(line.placement.vram_bytes)}\n{show_share(line.placement.share_ppm)}",
            show_bytes(line.seen_bytes),
            "real" if line.is_real else "simulated",
            why(line.decision, models),
        )
        for line in lines
    ]


def why(decision: Decision, models: Mapping[str, str]) -> str:
    """The planner's reason, and what stood against the alternatives."""
    reason = decision.summary.partition(": ")[2] or decision.summary
    return "\n".join(
        [reason, *(f"not {models.get(other.device_id, other.device_id)}: {other.reason}" for other in decision.rejected)]
    )
