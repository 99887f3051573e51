"""``mica bench topology``: whether gangs land on a best-connected set, whatever is free on their node.

Each topology becomes a node on the bus of a private system: its inventory, and an ``observed`` in which slices that are on their
way out hold devices. The running planner is asked (``slice.explain``) where a gang would go, and all sets are tried beside it.

Invariant: the planner is asked as anybody asks it; a node counts only if its inventory gives the document's own paths.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from itertools import combinations
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._gang_oracle import best_by_force, measure
from mica.bench._machine import Machine, Percentiles, describe_machine, percentiles
from mica.bench._stack import running_stack
from mica.bus import Bus, Heard, JetStreamBus
from mica.events import (
    PPM,
    Device,
    ExplainSlice,
    Inventory,
    Mode,
    Observed,
    ObservedSlice,
    ObservedState,
    RequestSlice,
    Runtime,
    SliceExplained,
    Vendor,
)
from mica.topology import PartKind, Topology, TopologyError, from_inventory, path, read_file

GANGS: Final = (2, 4)
STATES: Final = 256
"""Occupancy states of a node: all there are, or so many of them at random."""
SEED: Final = 17
VRAM_BYTES: Final = 80 << 30
LEASE_NS: Final = 3_600_000_000_000
ANSWER_S: Final = 10.0
LOOKS: Final = 200
"""So often a question is asked anew until the planner has seen what is free."""
NODE: Final = """
name = "elsewhere"
[[device]]
model = "L4"
"""


class Gangs(Struct, frozen=True, kw_only=True):
    """Gangs of one size on one node: how many were placed, and how many of them on a best-connected set.

    ``best_in_order``: how many would be, by taking the first devices that are free.
    """

    placed: int
    best: int
    best_in_order: int
    refused: int


class Node(Struct, frozen=True, kw_only=True):
    """One topology. ``skipped`` says why it took no part."""

    devices: int
    states: int = 0
    gangs: dict[str, Gangs] = {}
    skipped: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """What came out."""

    best_percent: float
    in_order_percent: float
    placed: int
    nodes: dict[str, Node]
    explain_ms: Percentiles
    machine: Machine
    misses: tuple[str, ...] = ()


def run(folder: Path, states: int = STATES) -> Report:
    """Ask about every topology in a folder.

    Raises:
        BenchError: there is none, or the system did not come up.
    """
    found = sorted(each for each in folder.glob("*") if each.suffix in (".xml", ".toml"))
    if not found:
        raise BenchError(f"topo: got {folder}, allowed: a folder with NCCL or hwloc XML or node files in it")
    with running_stack(NODE) as stack:
        return asyncio.run(_run(stack.url, found, states))


async def _run(url: str, files: list[Path], states: int) -> Report:
    bus = await JetStreamBus.connect(url)
    nodes: dict[str, Node] = {}
    misses: list[str] = []
    took_ms: list[float] = []
    try:
        for file in files:
            nodes[file.name] = await _try(bus, file, states, (misses, took_ms))
    finally:
        await bus.close()
    all_ = [gangs for node in nodes.values() for gangs in node.gangs.values()]
    placed = sum(each.placed for each in all_)
    if not placed:
        raise BenchError("topo: no topology in the folder has two devices")
    best, in_order = (round(100 * sum(each) / placed, 3) for each in zip(*((a.best, a.best_in_order) for a in all_), strict=True))
    return Report(
        best_percent=best, in_order_percent=in_order, placed=placed, nodes=nodes, explain_ms=percentiles(took_ms),
        machine=describe_machine(), misses=tuple(misses[:20]),
    )  # fmt: skip


async def _try(bus: Bus, file: Path, states: int, found: tuple[list[str], list[float]]) -> Node:
    try:
        topology = read_file(file)
    except TopologyError as error:
        return Node(devices=0, skipped=str(error))
    if len(topology.devices) < 2:
        return Node(devices=len(topology.devices), skipped="fewer than two devices in the document")
    inventory = as_inventory(topology, _name(file))
    await bus.state.put(f"inventory.{inventory.node}", inventory)
    tried = list(_occupancies([device.id for device in inventory.devices], states))
    sums = {size: [0, 0, 0, 0] for size in GANGS}
    async with bus.following("slice.explained.*") as heard:
        for free in tried:
            await bus.state.put(f"observed.{inventory.node}", _observed(inventory, free))
            for size in GANGS:
                taken = await _ask((bus, heard, found[1]), inventory, free, size)
                best = best_by_force(topology, free, size)
                good = bool(taken) and measure(topology, taken) == best
                in_order = [device.id for device in inventory.devices if device.id in free][:size]
                sums[size][0 if taken else 3] += 1
                sums[size][1] += good
                sums[size][2] += bool(taken) and measure(topology, in_order) == best
                if not good and best is not None:
                    found[0].append(f"{file.name}: {size} of {', '.join(sorted(free))}: {', '.join(taken) or 'refused'}")
    gangs = {
        str(size): Gangs(placed=n, best=best, best_in_order=naive, refused=no) for size, (n, best, naive, no) in sums.items()
    }
    return Node(devices=len(topology.devices), states=len(tried), gangs=gangs)


def _occupancies(ids: list[str], most: int) -> Iterator[frozenset[str]]:
    """Sets of free devices with at least two in them, the whole node among them."""
    if 2 ** len(ids) <= most:
        yield from (frozenset(each) for size in range(2, len(ids) + 1) for each in combinations(ids, size))
        return
    dice = random.Random(SEED)  # noqa: S311 - a sample, the same every time
    yield frozenset(ids)
    for _ in range(most - 1):
        yield frozenset(dice.sample(ids, dice.randint(2, len(ids))))


def _observed(inventory: Inventory, free: frozenset[str]) -> Observed:
    """All devices but those held whole by slices that are on their way out."""
    held = ObservedSlice(
        generation=1, state=ObservedState.DRAINING, mode=Mode.FCSP, vram_bytes=VRAM_BYTES, share_ppm=PPM
    )  # fmt: skip
    devices = {device.id: {f"held-{device.index}": held} for device in inventory.devices if device.id not in free}
    return Observed(node=inventory.node, boot_id="bench", lease_until=time.time_ns() + LEASE_NS, devices=devices)


async def _ask(
    world: tuple[Bus, AsyncIterator[Heard], list[float]], inventory: Inventory, free: frozenset[str], size: int
) -> list[str]:
    """Where a gang of that size would go; nowhere: an empty list."""
    bus, heard, took_ms = world
    request = RequestSlice(tenant="bench", vram_bytes=VRAM_BYTES // 2, devices=size, pool=inventory.pool, mode=Mode.FCSP)
    for _ in range(LOOKS):
        begun = time.perf_counter()
        sequence = await bus.publish(ExplainSlice(request=request))
        answer = await asyncio.wait_for(_answer(heard, sequence), ANSWER_S)
        if frozenset(each.device_id for each in answer.candidates if each.fits) == free:
            took_ms.append((time.perf_counter() - begun) * 1e3)
            return [each.device_id for each in answer.candidates if each.chosen]
    raise BenchError(f"the planner has not seen what is free on {inventory.node} after {LOOKS} looks")


async def _answer(heard: AsyncIterator[Heard], sequence: int) -> SliceExplained:
    async for each in heard:
        if isinstance(each.event, SliceExplained) and each.event.sequence == sequence:
            return each.event
    raise BenchError("the bus fell silent")


def _name(file: Path) -> str:
    return "".join(each if each.isalnum() else "-" for each in file.stem)[:60]


def as_inventory(topology: Topology, node: str) -> Inventory:
    """A node with that topology: addresses are made up so that bridges and roots are shared as in the document.

    Raises:
        BenchError: its paths would not be the document's.
    """
    devices = tuple(
        Device(
            id=part.id, index=index, vendor=Vendor.NVIDIA, model="H100-SXM-80GB", vram_bytes=VRAM_BYTES,
            compute_capability=(9, 0), runtimes=(Runtime.CUDA,), numa_node=topology.numa(part),
            pci_bus_id=addresses[-1] if addresses else "", pcie_path=addresses[:-1], simulated=True,
        )
        for index, part in enumerate(topology.devices)
        for addresses in [_addresses(topology, part.id, index)]
    )  # fmt: skip
    made = Inventory(node=node, pool=node, boot_id="bench", devices=devices, links=topology.links)
    again = from_inventory(made)
    for one, other in combinations(devices, 2):
        wanted, got = path(topology, one.id, other.id), path(again, one.id, other.id)
        if wanted != got:
            raise BenchError(f"{node}: {one.id} to {other.id} is {wanted.label} in the document, {got.label} as an inventory")
    return made


def _addresses(topology: Topology, device_id: str, index: int) -> tuple[str, ...]:
    """Of the bridges above a device, the root port first, and its own. A whole switch is a bridge that its devices share."""
    above = topology.above(topology.part(device_id))
    numbers = {part.id: number for number, part in enumerate(topology.parts)}
    domain = f"{numbers[above[0].id] + 1:04x}" if above else f"f{index:03x}"
    bridges: list[str] = []
    for part in above:
        if part.kind is not PartKind.ROOT:
            number = numbers[part.id]
            bridges += [f"{domain}:{number // 32 + 1:02x}:{number % 32:02x}.0"]
            if part.kind is PartKind.SWITCH:
                bridges += [f"{domain}:{number // 32 + 65:02x}:{index % 32:02x}.{index // 32}"]
    return (*bridges, f"{domain}:{'f0' if bridges else '00'}:{index % 32:02x}.{index // 32}")
