"""A trace's pods, placed by the planner itself: what ``mica bench placement --by-planner`` runs, in a process of its own.

Owns how a pod becomes a request: its thousandths of a GPU are compute and memory of a device of 1,000 MiB, its CPU and host
memory are its members' parts. Pods without a GPU are no requests of mica's: they take a node's CPU and memory away where the
packer would put them. Invariant: every placement passes the quota, the exact rule and the last look at its ledger, and is
explained, as in the service; looks ahead happen at once, so that a seed gives the same again.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from msgspec import json
from msgspec.structs import replace

from mica.bench.replays import BenchError, Replayed, Trace, in_order, play, read_trace
from mica.events import Device, Inventory, Mode, RequestSlice, Runtime, Vendor
from mica.packing import Node, Shape
from mica.planner.scaling import Measured

MIB: Final = 1 << 20
WHOLE_MILLI: Final = 1_000


def inventory(name: str, node: Node) -> Inventory:
    """A node of a trace, as discovery would describe it: its GPUs are alike but for their kind, which is their model."""
    devices = tuple(
        Device(
            id=f"{name}-{index}", index=index, vendor=Vendor.NVIDIA, model=f"kind-{kind}", vram_bytes=WHOLE_MILLI * MIB,
            compute_capability=(9, 0), runtimes=(Runtime.CUDA,),
        )
        for index, (kind, _) in enumerate(node.devices)
    )  # fmt: skip
    return Inventory(
        node=name, pool="trace", boot_id="b", devices=devices, cpu_milli=node.cpu_milli, host_memory_bytes=node.memory_mib * MIB
    )


class Replay:
    """The planner's memory, and pods that come to it."""

    def __init__(self, trace: Trace, seed: int) -> None:
        nodes = [inventory(f"n{number}", node) for number, node in enumerate(in_order(trace, seed))]
        self._planner = Measured([json.encode(each) for each in nodes])
        self._inventories = {each.node: each for each in nodes}
        self._number = 0

    def arrive(self, pod: Shape) -> bool:
        """Whether it was placed."""
        self._number += 1
        placed = self._planner.serve(json.encode(self._request(pod))) if pod.devices else self._beside(pod)
        for foresighted in self._planner.fleet.index.due():
            foresighted.adopt(foresighted.look().plan())
        return placed

    def close(self) -> None:
        """End what runs beside."""
        self._planner.close()

    def _request(self, pod: Shape) -> RequestSlice:
        models = tuple(f"kind-{kind}" for kind in sorted(pod.kinds)) if pod.kinds is not None else ()
        return RequestSlice(
            tenant="trace", id=f"s{self._number}", vram_bytes=pod.vram_mib * MIB, share_ppm=pod.share_ppm, devices=pod.devices,
            models=models, mode=Mode.FCSP, cpu_milli=-(-pod.cpu_milli // pod.devices),
            host_memory_bytes=-(-pod.memory_mib // pod.devices) * MIB,
        )  # fmt: skip

    def _beside(self, pod: Shape) -> bool:
        """Work of the node's own, which mica does not place: it goes where the packer would put it."""
        fleet = self._planner.fleet
        fleet.index.refresh(self._planner.pins)
        name = fleet.index.beside_devices(pod)
        if name is None:
            return False
        before = self._inventories[name]
        left = max(1, before.cpu_milli - pod.cpu_milli), max(1, before.host_memory_bytes - pod.memory_mib * MIB)
        after = self._inventories[name] = replace(before, cpu_milli=left[0], host_memory_bytes=left[1])
        fleet.node(name).take_inventory(after)
        return True


def run(folder: Path, workload: str, seed: int) -> Replayed:
    """Replay one workload. Raises BenchError: the trace can not be read."""
    trace = read_trace(folder, workload)
    replay = Replay(trace, seed)
    try:
        return Replayed(play(trace, seed, replay.arrive)[0])
    finally:
        replay.close()


def main() -> None:
    """Run it as a process; one JSON object on standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    try:
        replayed = run(given.trace, given.workload, given.seed)
    except BenchError as error:
        sys.exit(str(error))
    sys.stdout.write(json.encode(replayed).decode() + "\n")


if __name__ == "__main__":
    main()
