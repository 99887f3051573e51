"""A node that lives through random steps, with the real planner, enforcer, regions and vendors' adapters on simulated libraries.

``python random_life.py NODE.toml DIRECTORY STEPS SEED`` prints what it did as JSON, and ends with 1 at the first finding of the
audit. A process can map one simulated node only, so that each node gets one of its own. With STORY set it tells
every step, and with BLIND set nobody looks at the partitions again: a control that must fail.
"""

import asyncio
import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import json as msgspec_json

from mica.audit import Sources, World, check_world, read_world, settled
from mica.bus import MemoryBus, SystemClock
from mica.discovery.inventory import Identity, take_stock
from mica.discovery.probe import Probe
from mica.enforcer.__main__ import libraries, serve
from mica.enforcer.handlers import Enforcer, take_over
from mica.enforcer.hardware import VendorCheckpoints, VendorOccupants, VendorPartitions
from mica.enforcer.processes import NodeProcesses
from mica.enforcer.region_files import RegionFiles
from mica.enforcer.world import World as Site
from mica.events import Inventory, Ledger, Mode, Observed, ReleaseSlice, RequestSlice
from mica.hardware import BooksReader, ControlError, DeviceBooks, NodeFile, write_node_desc
from mica.observability import PassingTracer
from mica.planner.service import Planner
from mica.planner.service import World as Fleet
from mica.region import RuntimeDir
from mica.vendors import VendorDriver, open_drivers

QUIET_S = 20.0
ANSWER_S = 60.0
"""How long a library may take to answer: nothing here hangs, and a busy machine is not a dead device."""
SLICES_MAX = 40
OCCUPIERS_MAX = 2
AUDIT_STEPS = 5 if os.environ.get("BLIND") else 100

OCCUPIER = """
import sys
from pathlib import Path
from mica.hardware import BooksReader
BooksReader(Path(sys.argv[1])).control(f"occupy {sys.argv[2]} 1048576")
print("in", flush=True)
sys.stdin.read()
"""


class FindingError(Exception):
    """The audit found something, or the node did not come to rest."""


class Shared:
    """The enforcer's driver, for discovery too: two services are two processes; not every library opens twice in one."""

    def __init__(self, driver: VendorDriver) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def close(self) -> None:
        """The enforcer still has it."""


class Node:
    """One simulated node and all that is needed to run slices on it."""

    def __init__(self, file: NodeFile, directory: Path, seed: int) -> None:
        self.name = file.name
        self.sim = directory / "sim"
        self.runtime = RuntimeDir(directory / "run")
        os.environ["MICA_SIM_DIR"] = str(self.sim)
        write_node_desc(file, self.sim)
        self.books = BooksReader(self.sim)
        self.random = random.Random(seed)
        self.bus, self.clock = MemoryBus(), SystemClock()
        self.drivers = open_drivers()
        self.probe = Probe({driver.name: partial(Shared, driver) for driver in self.drivers}, deadline_s=ANSWER_S)
        self.enforcer: Enforcer | None = None
        self.stack = AsyncExitStack()
        self.tasks: list[asyncio.Task[None]] = []
        self.boot = 0
        self.asked = 0
        self.living: list[str] = []
        self.occupiers: list[asyncio.subprocess.Process] = []
        self.done: Counter[str] = Counter()

    # --- Life ---

    async def begin(self) -> None:
        await self.discover()
        ready = asyncio.Event()
        fleet = Fleet(self.bus, self.clock, PassingTracer(), 1_000_000)
        self.tasks.append(asyncio.create_task(Planner(fleet).run(ready.set)))
        await self.start_enforcer()
        await ready.wait()

    async def discover(self) -> None:
        """What discovery does, without its pauses."""
        survey = await asyncio.to_thread(self.probe.read)
        entry = await self.bus.state.get(f"inventory.{self.name}", Inventory)
        identity = Identity(node=self.name, pool="default", boot_id=f"boot-{self.boot}")
        inventory = take_stock(identity, entry.value if entry else None, survey)
        await self.bus.state.put(f"inventory.{self.name}", inventory)

    async def start_enforcer(self) -> None:
        self.stack = AsyncExitStack()
        regions = RegionFiles(self.runtime, self.clock)
        self.stack.callback(regions.close)
        site = Site(
            bus=self.bus, regions=regions, partitions=VendorPartitions(self.drivers), processes=NodeProcesses(self.runtime),
            occupants=VendorOccupants(self.drivers), clock=self.clock, tracer=PassingTracer(), runtime=self.runtime,
            libraries=libraries(self.sim), node=self.name, boot_id=f"boot-{self.boot}",
            checkpoints=VendorCheckpoints(self.drivers),
        )  # fmt: skip
        self.enforcer = await take_over(site)
        self.stack.callback(self.enforcer.close)
        self.serving = asyncio.create_task(serve(self.enforcer, site))

    async def stop_enforcer(self) -> None:
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
        await self.stack.aclose()

    async def end(self) -> None:
        await self.end_occupiers()
        await self.stop_enforcer()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.probe.close()
        for driver in self.drivers:
            driver.close()

    async def rest(self) -> None:
        """Until every command is settled and the node is as its ledger wants it.

        Raises:
            FindingError: it does not come to rest.
        """
        try:
            async with asyncio.timeout(QUIET_S):
                while not await self.is_at_rest():
                    await asyncio.sleep(0.001)
        except TimeoutError:
            raise FindingError(f"no rest after {QUIET_S:g} s: {await self.story()}") from None

    async def is_at_rest(self) -> bool:
        assert self.enforcer is not None
        if self.serving.done():
            self.serving.result()
        ledger, observed = await self.documents()
        busy = self.enforcer.due.is_set() or self.enforcer.telling_due.is_set() or self.enforcer.node.jobs
        unsettled = self.bus._consumers["COMMANDS", "planner"].open
        told = {(d, s): each.generation for d, found in observed.devices.items() for s, each in found.items()}
        wanted = {(d, s): each.generation for d, found in ledger.devices.items() for s, each in found.items()}
        pending = busy or unsettled or ledger.departures or ledger.held or ledger.fenced
        return not pending and observed.generation == ledger.generation and told == wanted

    async def documents(self) -> tuple[Ledger, Observed]:
        ledger = await self.bus.state.get(f"ledger.{self.name}", Ledger)
        observed = await self.bus.state.get(f"observed.{self.name}", Observed)
        return (
            ledger.value if ledger else Ledger(node=self.name),
            observed.value if observed else Observed(node=self.name, boot_id=""),
        )

    async def story(self) -> str:
        assert self.enforcer is not None
        ledger, observed = await self.documents()
        return msgspec_json.encode([ledger, observed, str(self.enforcer.node.jobs), str(self.enforcer.node.failed)]).decode()

    async def audit(self) -> None:
        """What `mica audit` does: what disagrees is read again, so that a change in flight is no finding.

        Raises:
            FindingError: something disagrees for good.
        """
        report = await settled(self.read_world, check_world, self.clock)
        self.done["checks"] += report.checks
        self.done["readings"] += report.readings
        if not report.clean:
            raise FindingError("\n".join(str(each) for each in report.findings))

    async def read_world(self) -> World:
        sources = Sources(bus=self.bus, runtime_dir=self.runtime.root, sim_dir=self.sim, node=self.name)
        return await read_world(sources)

    def tell(self, what: str) -> None:
        if os.environ.get("STORY"):
            print(f"-- {what}", file=sys.stderr)

    # --- Steps ---

    async def step(self) -> None:
        steps: list[tuple[int, Callable[[], Any]]] = [
            (420, self.request), (380, self.release), (40, self.remove_by_hand), (40, self.make_by_hand),
            (30, self.switch_by_hand), (15, self.restart_enforcer), (5, self.reboot), (8, self.occupy), (20, self.refuse),
            (30, self.look),
        ]  # fmt: skip
        chosen = self.random.choices([each for _, each in steps], [weight for weight, _ in steps])[0]
        self.done[chosen.__name__] += 1
        self.tell(chosen.__name__)
        await chosen()
        await self.rest()

    async def request(self) -> None:
        if len(self.living) >= SLICES_MAX:
            await self.release()
            return
        inventory = await self.inventory()
        device = self.random.choice(inventory.devices)
        sizes = [profile.vram_bytes for profile in device.profiles] or [device.vram_bytes // part for part in (1, 2, 4, 8)]
        self.asked += 1
        mode = self.random.choice([None, None, None, Mode.HARDWARE, Mode.FCSP])
        vram_bytes = max(1, int(self.random.choice(sizes) * self.random.uniform(0.6, 1.0)))
        pick = {"vendor": device.vendor} if self.random.random() < 0.5 else {}
        body = RequestSlice(tenant="t1", id=f"s{self.asked}", vram_bytes=vram_bytes, mode=mode, **pick)
        self.tell(f"{body.id} {body.mode} {body.vram_bytes}")
        await self.bus.publish(body)
        self.living.append(f"s{self.asked}")

    async def inventory(self) -> Inventory:
        entry = await self.bus.state.get(f"inventory.{self.name}", Inventory)
        assert entry is not None
        return entry.value

    async def release(self) -> None:
        if self.living:
            await self.bus.publish(ReleaseSlice(id=self.living.pop(self.random.randrange(len(self.living))), grace_s=0.0))

    async def remove_by_hand(self) -> None:
        """Somebody destroys a partition."""
        found = [(device, each) for device in self.devices() for each in device.instances if not each.layout]
        if found:
            device, instance = self.random.choice(found)
            await self.by_hand(f"destroy {device.index} {instance.start}")

    async def make_by_hand(self) -> None:
        """Somebody makes a partition."""
        device = self.random.choice(self.devices())
        profiles = [each for each in (await self.profiles(device.uuid)) if not each.layout]
        if profiles:
            profile = self.random.choice(profiles)
            await self.by_hand(f"create {device.index} {profile.name} {self.random.choice(profile.starts)}")

    async def switch_by_hand(self) -> None:
        """Somebody lays a device out, or switches its MIG mode."""
        device = self.random.choice(self.devices())
        layouts = sorted({each.layout for each in await self.profiles(device.uuid) if each.layout})
        verb = (
            f"layout {device.index} {self.random.choice([*layouts, '-'])}"
            if layouts
            else f"mode {device.index} {self.random.randrange(2)}"
        )
        await self.by_hand(verb)

    async def profiles(self, device_id: str) -> tuple[Any, ...]:
        return next((each.profiles for each in (await self.inventory()).devices if each.id == device_id), ())

    def devices(self) -> tuple[DeviceBooks, ...]:
        return self.books.read().devices

    async def by_hand(self, command: str) -> None:
        """What the node refuses is refused; the enforcer then sees what became of it, and discovery too."""
        self.tell(command)
        try:
            self.books.control(command)
        except ControlError:
            self.done["refused by the node"] += 1
        await self.look()

    async def look(self) -> None:
        assert self.enforcer is not None
        await self.discover()
        if not os.environ.get("BLIND"):
            await self.enforcer.look_at_partitions()

    async def restart_enforcer(self) -> None:
        if os.environ.get("BLIND"):
            return
        await self.stop_enforcer()
        await self.start_enforcer()

    async def reboot(self) -> None:
        """Everything that is not on a disk is gone."""
        if os.environ.get("BLIND"):
            return
        await self.end_occupiers()
        await self.stop_enforcer()
        shutil.rmtree(self.runtime.root)
        self.books.control("reboot")
        self.boot += 1
        await self.discover()
        await self.start_enforcer()

    async def end_occupiers(self) -> None:
        for occupier in self.occupiers:
            with suppress(ProcessLookupError):  # the enforcer ends those of a slice that is released
                occupier.kill()
            await occupier.wait()
        self.occupiers.clear()

    async def refuse(self) -> None:
        """A device refuses its next partition."""
        self.books.control(f"set {self.random.choice(self.devices()).index} refusals 1")

    async def occupy(self) -> None:
        """A process enters a slice's partition; it stays until the slice is released or the node is rebooted."""
        _, observed = await self.documents()
        owned = {(d, each.partition.start) for d, found in observed.devices.items() for each in found.values() if each.partition}
        found = [
            each.compute[0].uuid
            for device in self.devices()
            for each in device.instances
            if each.compute and (device.uuid, each.start) in owned
        ]
        if not found or len(self.occupiers) >= OCCUPIERS_MAX:
            return
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OCCUPIER, str(self.sim), self.random.choice(found),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        await process.stdout.readline()
        self.occupiers.append(process)


async def live(file: Path, directory: Path, steps: int, seed: int) -> dict[str, int]:
    """Everything that happened, by name."""
    node = Node(NodeFile.load(file), directory, seed)
    await node.begin()
    try:
        for number in range(1, steps + 1):
            await node.step()
            if number % AUDIT_STEPS == 0 or number == steps:
                await node.audit()
                node.occupiers = [each for each in node.occupiers if each.returncode is None]
    finally:
        await node.end()
    return dict(node.done)


if __name__ == "__main__":
    file, directory, steps, seed = sys.argv[1:]
    try:
        print(json.dumps(asyncio.run(live(Path(file), Path(directory), int(steps), int(seed)))))
    except FindingError as error:
        print(error)
        sys.exit(1)
