"""Puts the system together: NATS, the five services, and the moment when it can be used.

Invariant: the services end before NATS does, so that their last writes arrive.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.cli.commands.service import SERVICES
from mica.cli.up._nats import HOST, nats_program
from mica.cli.up._supervisor import Program, StartError, Supervised

READY_S: Final = 60.0


class Plan(Struct, frozen=True, kw_only=True):
    """What to start and where. ``sim_dir`` is None on a real node.

    ``opencl``: this machine's own OpenCL devices are there, its processor among them; a simulated node has none otherwise.

    ``claims`` are the descriptors that keep others out of the directories.
    """

    node: str
    pool: str
    port: int
    runtime_dir: Path
    data_dir: Path
    sim_dir: Path | None
    opencl: bool
    claims: tuple[int, ...]

    @property
    def url(self) -> str:
        """Where the embedded server listens."""
        return f"nats://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a service, and whoever wants to speak to this system, needs."""
        environment = {
            "MICA_NATS_URL": self.url,
            "MICA_NODE": self.node,
            "MICA_POOL": self.pool,
            "MICA_RUNTIME_DIR": str(self.runtime_dir),
        }
        if self.sim_dir:
            environment |= {"MICA_SIM_DIR": str(self.sim_dir), "MICA_OPENCL": "off"}
        return environment | ({"MICA_OPENCL": "cpu"} if self.opencl else {})


def programs(plan: Plan, on_line: Callable[[str], None]) -> tuple[Program, ...]:
    """The services, ready to be started."""
    inherited = {name: value for name, value in os.environ.items() if name != "MICA_SIM_DIR"}
    return tuple(
        Program(
            name=name,
            command=(sys.executable, "-m", "mica.cli", "service", name),
            environment=inherited | plan.environment,
            ready=f"mica-{name} ready",
            claims=plan.claims,
            on_line=on_line,
        )
        for name in SERVICES
    )


async def serve(plan: Plan, stopped: asyncio.Event, on_ready: Callable[[int], None], say: Callable[[str], None]) -> None:
    """Run everything until ``stopped``; ``on_ready`` hears how many devices there are once requests can be placed.

    Raises:
        StartError: a part can't start, or is not ready in time.
    """
    nats = Supervised(nats_program(plan.data_dir, plan.port, plan.claims, say), say)
    services = [Supervised(program, say) for program in programs(plan, say)]
    try:
        async with asyncio.TaskGroup() as outer:
            server = outer.create_task(nats.run())
            async with asyncio.TaskGroup() as inner:
                tasks = [inner.create_task(service.run()) for service in services]
                tasks.append(inner.create_task(_announce(plan, [nats, *services], on_ready)))
                await stopped.wait()
                for task in tasks:
                    task.cancel()
            server.cancel()
    except* StartError as group:
        raise first(group) from None


async def _announce(plan: Plan, parts: list[Supervised], on_ready: Callable[[int], None]) -> None:
    try:
        async with asyncio.timeout(READY_S):
            for part in parts:
                await part.ready.wait()
            on_ready(await _devices(plan))
    except TimeoutError:
        late = ", ".join(part.program.name for part in parts if not part.ready.is_set()) or "the inventory"
        raise StartError(f"{late}: not ready within {READY_S:g} s") from None


async def _devices(plan: Plan) -> int:
    """How many devices the node has, from the inventory that discovery wrote."""
    from mica.bus import JetStreamBus
    from mica.events import Inventory

    bus = await JetStreamBus.connect(plan.url, name="mica-up")
    try:
        async for changes in bus.state.watch(f"inventory.{plan.node}", Inventory):
            for change in changes:
                if change.value is not None:
                    return len(change.value.devices)
    finally:
        await bus.close()
    return 0


def first(group: BaseExceptionGroup[StartError]) -> StartError:
    """The first error in a group, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StartError)
    return error
