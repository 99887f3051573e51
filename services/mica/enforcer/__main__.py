"""Wires the enforcer: the bus, the runtime directory, the vendor's library, and the loops that feed the handlers."""

import asyncio
import logging
import os
from contextlib import AsyncExitStack
from pathlib import Path

from mica.bus import Bus, BusError, Clock, ServiceError, Settings, SystemClock, announce_ready, run_service
from mica.enforcer.doorway import AttachSocket, claimed
from mica.enforcer.errors import EnforcerError
from mica.enforcer.handlers import Enforcer, take_over
from mica.enforcer.hardware import VendorCheckpoints, VendorOccupants, VendorPartitions
from mica.enforcer.intruders import LOOK_S
from mica.enforcer.processes import NodeProcesses
from mica.enforcer.region_files import RegionFiles
from mica.enforcer.tenancy import Libraries
from mica.enforcer.turns import LOOK_S as TURNS_S
from mica.enforcer.world import World
from mica.events import Inventory, Ledger, NodePolicy, PoolPolicy
from mica.native import NativeBuildError, opencl_layer, shims, sim_cuda, sim_nvml
from mica.observability import configure_logging, tracer
from mica.policy import follow
from mica.region import RuntimeDir
from mica.vendors import VendorError, open_drivers

BEAT_S = 1.0
RETRY_S = 0.5
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger(__name__)


async def run(bus: Bus, settings: Settings) -> None:
    """Enforce this node's ledger until cancelled."""
    os.umask(0o022)
    runtime = RuntimeDir(settings.runtime_dir.absolute())
    with claimed(runtime):
        async with AsyncExitStack() as stack:
            try:
                world = _world(bus, settings, runtime, stack)
                enforcer = await take_over(world)
            except (EnforcerError, VendorError, NativeBuildError) as error:
                raise ServiceError(str(error)) from None
            stack.callback(enforcer.close)
            stack.callback(AttachSocket(runtime, enforcer.on_attach).close)
            await serve(enforcer, world)


def _world(bus: Bus, settings: Settings, runtime: RuntimeDir, stack: AsyncExitStack) -> World:
    clock = SystemClock()
    regions = RegionFiles(runtime, clock)
    stack.callback(regions.close)
    vendors = open_drivers()
    for vendor in vendors:
        stack.callback(vendor.close)
    spans = tracer("enforcer", settings.otlp_endpoint)
    stack.callback(spans.close)
    return World(
        bus=bus,
        regions=regions,
        partitions=VendorPartitions(vendors),
        processes=NodeProcesses(runtime),
        occupants=VendorOccupants(vendors),
        checkpoints=VendorCheckpoints(vendors),
        clock=clock,
        tracer=spans,
        runtime=runtime,
        libraries=libraries(settings.sim_dir),
        node=settings.node,
        boot_id=BOOT_ID.read_text().strip(),
    )


def libraries(sim_dir: Path | None) -> Libraries:
    """Where the shims are and, in a simulation, the drivers; and what a shim does when something is at fault (MICA_ON_FAULT).

    Raises:
        NativeBuildError: they are not built.
        EnforcerError: MICA_ON_FAULT is neither refuse nor pass.
    """
    on_fault = os.environ.get("MICA_ON_FAULT") or "refuse"
    if on_fault not in ("refuse", "pass"):
        raise EnforcerError(f"MICA_ON_FAULT: {on_fault[:64]!r} is neither refuse nor pass")
    if sim_dir is None:
        return Libraries(shims=shims(), opencl_layer=opencl_layer(), on_fault=on_fault)
    return Libraries(
        shims=shims(),
        opencl_layer=opencl_layer(),
        on_fault=on_fault,
        sim_cuda=sim_cuda(),
        sim_nvml=sim_nvml(),
        sim_dir=sim_dir.absolute(),
    )


async def serve(enforcer: Enforcer, world: World) -> None:
    """Feed the handlers: ledger and inventory, partition jobs, suspending, the heartbeat, turns, the watch for intruders."""
    bus, clock, node = world.bus, world.clock, world.node
    async with asyncio.TaskGroup() as group:
        group.create_task(_settle(enforcer, clock))
        group.create_task(_tell(enforcer, clock))
        group.create_task(_follow_ledger(enforcer, bus, node))
        group.create_task(_follow_inventory(enforcer, bus, node))
        group.create_task(_follow_pools(enforcer, bus))
        group.create_task(_follow_node_policy(enforcer, bus, node))
        group.create_task(_do_jobs(enforcer))
        group.create_task(_do_errands(enforcer))
        group.create_task(_look_for_intruders(enforcer, clock))
        group.create_task(_look_at_partitions(enforcer, clock))
        group.create_task(_beat(enforcer, clock))
        group.create_task(_look_at_turns(enforcer, clock))


async def _settle(enforcer: Enforcer, clock: Clock) -> None:
    while True:
        await enforcer.due.wait()
        try:
            await enforcer.settle()
        except BusError as error:
            log.warning("the ledger can not be applied yet: %s", error)
            await clock.sleep(RETRY_S)
            enforcer.due.set()


async def _tell(enforcer: Enforcer, clock: Clock) -> None:
    ready = False
    while True:
        await enforcer.telling_due.wait()
        try:
            await enforcer.tell()
        except BusError as error:
            log.warning("what was applied can not be told yet: %s", error)
            await clock.sleep(RETRY_S)
            enforcer.due.set()
        else:
            if not ready:
                announce_ready("enforcer")
                ready = True


async def _follow_ledger(enforcer: Enforcer, bus: Bus, node: str) -> None:
    async for changes in bus.state.watch(f"ledger.{node}", Ledger):
        enforcer.on_ledger(changes)


async def _follow_inventory(enforcer: Enforcer, bus: Bus, node: str) -> None:
    async for changes in bus.state.watch(f"inventory.{node}", Inventory):
        for change in changes:
            if change.value is not None:
                enforcer.on_inventory(change.value)


async def _follow_pools(enforcer: Enforcer, bus: Bus) -> None:
    async for changes in follow(bus.policy, "pool.*", PoolPolicy):
        enforcer.on_policies(changes)


async def _follow_node_policy(enforcer: Enforcer, bus: Bus, node: str) -> None:
    async for changes in follow(bus.policy, f"node.{node}", NodePolicy):
        enforcer.on_policies(changes)


async def _do_jobs(enforcer: Enforcer) -> None:
    while True:
        await enforcer.jobs_due.wait()
        await enforcer.do_jobs()


async def _do_errands(enforcer: Enforcer) -> None:
    while True:
        await enforcer.errands_due.wait()
        await enforcer.do_errands()


async def _beat(enforcer: Enforcer, clock: Clock) -> None:
    while True:
        enforcer.on_beat()
        await clock.sleep(BEAT_S)


async def _look_for_intruders(enforcer: Enforcer, clock: Clock) -> None:
    while True:
        await clock.sleep(LOOK_S)
        await enforcer.look_for_intruders()


async def _look_at_partitions(enforcer: Enforcer, clock: Clock) -> None:
    while True:
        await clock.sleep(LOOK_S)
        await enforcer.look_at_partitions()


async def _look_at_turns(enforcer: Enforcer, clock: Clock) -> None:
    while True:
        at_work = enforcer.look_at_turns()
        await clock.sleep(TURNS_S if at_work else BEAT_S)


def main() -> None:
    """Run the service."""
    configure_logging("enforcer")
    run_service("enforcer", run)


if __name__ == "__main__":
    main()
