"""A small fleet that lives: documents come, requests are decided, and two indices can be held against each other.

Invariant: every document is one that the planner's services could write; nothing depends on time.
"""

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from msgspec import json
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "planner"))

from planner_house import GIB, MIB, h100, l4, p40

from mica.events import (
    AskedLimits,
    Device,
    Health,
    Held,
    Inventory,
    Link,
    LinkKind,
    Mode,
    NodePolicy,
    Observed,
    ObservedSlice,
    ObservedState,
    Phase,
    PoolPolicy,
    Reach,
    RequestSlice,
    Runtime,
    Severity,
    SliceRecord,
    Switching,
    Vendor,
)
from mica.hardware import Catalogue
from mica.planner.domain.affinity import affinity_of
from mica.planner.domain.asks import Ask, Pins
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.ledgers import entries_of
from mica.planner.domain.nodes import NodeState
from mica.planner.domain.placing import Placed
from mica.planner.domain.sizing import Size

NOW_NS = 10
LEASED, ENDED = 1 << 62, 5
NODES = ("n1", "n2", "n3", "n4")
POOLS = ("a", "b", "c")
ODD = 1_234_567
SIZES = [GIB, 6 * GIB, 9 * GIB, 9 * GIB + ODD, 22 * GIB, 22 * GIB + GIB // 2, 39 * GIB, 70 * GIB, 8 * GIB - 2 * ODD]
MEMORIES = [0, 0, 0, GIB, 8 * GIB + ODD, 4 * GIB + ODD // 2]
_CATALOGUE = Catalogue.load()
Maker = Callable[[str, int], Device]


def of_catalogue(name: str, runtimes: tuple[Runtime, ...], **more: Any) -> Maker:
    """A device of the catalogue, with its partitions."""
    model = _CATALOGUE.model(name)

    def make(device_id: str, index: int) -> Device:
        return Device(
            id=device_id, index=index, vendor=model.vendor, model=model.name, vram_bytes=model.vram_bytes, runtimes=runtimes,
            profiles=model.partition_profiles(), compute_slices=model.compute_slices, multiprocessors=model.multiprocessors,
            budgets=model.budgets, **more,
        )  # fmt: skip

    return make


OPENCL = (Runtime.OPENCL,)
KINDS: Mapping[str, Maker] = {
    "l4": l4,
    "p40": p40,
    "h100": h100,
    "h100-switchable": lambda i, n: replace(h100(i, n), switchable=True),
    "h100-whole": lambda i, n: replace(h100(i, n), switchable=True, partitioned=False),
    "odd": lambda i, n: replace(l4(i, n), vram_bytes=8 * GIB + ODD, reserve_bytes=3 * ODD),
    "intel": of_catalogue("Flex-170", OPENCL, switchable=True),
    "huawei": of_catalogue("910B3", OPENCL, partitioned=True),
    "amd": of_catalogue("MI300X", (Runtime.HIP, Runtime.OPENCL), switchable=True, group="hive"),
    "amd-parted": of_catalogue("MI300X", (Runtime.HIP, Runtime.OPENCL), partitioned=True, switchable=True, group="hive"),
}

nodes = st.lists(st.lists(st.sampled_from(sorted(KINDS)), max_size=4), min_size=1, max_size=len(NODES))
"""By node, the kinds of its devices."""
gang_nodes = st.lists(
    st.lists(st.sampled_from(["l4", "l4", "h100", "h100-whole"]), min_size=2, max_size=4), min_size=2, max_size=4
)


class World:
    """Documents, and the fleet that has taken them."""

    def __init__(self, kinds: list[list[str]]) -> None:
        self.fleet = Fleet()
        self.pins = Pins(now_ns=NOW_NS)
        self.records: dict[str, SliceRecord] = {}
        self.reserved: dict[str, SliceRecord] = {}
        self.asked = 0
        for number, (name, own) in enumerate(zip(NODES, kinds, strict=False)):
            devices = tuple(KINDS[kind](f"{name}-d{index}", index) for index, kind in enumerate(own))
            limited = {"cpu_milli": 8000, "host_memory_bytes": 8 * GIB + ODD} if number % 2 else {}
            self.node(name).take_inventory(
                Inventory(node=name, pool=POOLS[number % 2], boot_id="b", devices=devices, links=linked(devices), **limited)
            )
            self.node(name).take_observed(Observed(node=name, boot_id="b", lease_until=LEASED))

    def node(self, name: str) -> NodeState:
        return self.fleet.node(name)

    def ask(self, dice: random.Random) -> Ask:
        """Any request."""
        self.asked += 1
        members, on_nodes = dice.choice([(1, 1)] * 6 + [(2, 1), (4, 1), (2, 2), (4, 2)])
        stands = [id_ for id_, record in self.records.items() if len(record.placements) == 1]
        near = dice.choice(stands) if stands and dice.random() < 0.2 else None
        vram = dice.choice(SIZES)
        request = RequestSlice(
            tenant="t", id=f"s{self.asked}", vram_bytes=vram, devices=members, nodes=on_nodes,
            share_ppm=dice.choice([None, None, 1, 100_000, 333_333, 600_000, 1_000_000]),
            mode=dice.choice([None, None, None, *Mode]), pool=dice.choice([None, None, None, *POOLS]),
            vendor=dice.choice([None] * 6 + [Vendor.NVIDIA, Vendor.AMD]),
            runtime=dice.choice([Runtime.NATIVE] * 4 + [Runtime.OPENCL, Runtime.CUDA]),
            limits=dice.choice([AskedLimits()] * 7 + [AskedLimits(inflight_max=3)]),
            near=near, near_within=dice.choice([None, *Reach]) if near else None,
            apart=dice.choice([None, None, None, "g", "h"]), apart_within=dice.choice(list(Reach)),
            apart_strict=dice.random() < 0.5, cpu_milli=dice.choice([0, 0, 0, 1500, 4000]),
            host_memory_bytes=dice.choice(MEMORIES), models=dice.choice([(), (), (), ("L4", "P40"), ("H100-SXM-80GB",)]),
        )  # fmt: skip
        devices = [claims.device.id for _, claims in self.fleet.devices() if claims.device is not None]
        excluded = frozenset(dice.sample(devices, min(len(devices), dice.choice([0, 0, 0, 1, 2]))))
        group = self.fleet.group(request, but=request.id or "")
        near_to = self.records[near].placements if near else ()
        return Ask(
            id=request.id or "", request=request, size=Size(vram, request.share_ppm), pins=self.pins, members=members,
            excluded=excluded, affinity=affinity_of(request, group, near_to),
        )  # fmt: skip

    def reserve(self, ask: Ask, outcome: Placed) -> None:
        """The decision is under way."""
        self.reserved[ask.id] = self.record(ask, outcome)
        self.fleet.reserve(ask.id, outcome.placements, ask.request)

    def record(self, ask: Ask, outcome: Placed) -> SliceRecord:
        """The slice's record, were it written."""
        return SliceRecord(
            id=ask.id, request=ask.request, phase=Phase.PLACED, generation=1, sequence=1, request_sequence=1,
            placements=outcome.placements,
        )  # fmt: skip

    def happen(self, what: str, dice: random.Random) -> None:
        """Something of that name."""
        getattr(self, what)(dice)

    def give_up(self, dice: random.Random) -> None:
        if self.reserved:
            id_ = dice.choice(sorted(self.reserved))
            self.fleet.unreserve(id_, self.reserved.pop(id_).placements)

    def enter(self, dice: random.Random) -> None:
        """A decision stands in the ledgers."""
        if self.reserved:
            id_ = dice.choice(sorted(self.reserved))
            record = self.records[id_] = self.reserved.pop(id_)
            for name in {each.node for each in record.placements}:
                ledger = self.node(name).ledger
                devices = dict(ledger.devices)
                for device_id, entry in entries_of(record, name).items():
                    devices[device_id] = {**devices.get(device_id, {}), id_: entry}
                self.node(name).take_ledger(replace(ledger, devices=devices))
            self.fleet.unreserve(id_, record.placements)

    def leave(self, dice: random.Random) -> None:
        """A slice is taken out of the ledgers: what it had is held, or not, until it is observed to be gone."""
        if self.records:
            id_ = dice.choice(sorted(self.records))
            record, keeps = self.records.pop(id_), dice.random() < 0.5
            for name in {each.node for each in record.placements}:
                ledger = self.node(name).ledger
                gone = {d: s[id_] for d, s in ledger.devices.items() if id_ in s}
                devices = {d: {i: e for i, e in s.items() if i != id_} if id_ in s else s for d, s in ledger.devices.items()}
                held = {
                    **ledger.held,
                    **{d: {**ledger.held.get(d, {}), id_: Held(entry=e, generation=1)} for d, e in gone.items() if keeps},
                }
                self.node(name).take_ledger(replace(ledger, devices=devices, held=held))

    def observe(self, dice: random.Random) -> None:
        """An enforcer has applied its ledger, or still sees what has left; then what was held is given up."""
        node = self.node(dice.choice(self.known()))
        before = node.observed.devices if node.observed is not None else {}
        lingers = dice.random() < 0.5
        seen = {d: {i: s for i, s in slices.items() if lingers} for d, slices in before.items()}
        for device_id, slices in node.ledger.devices.items():
            for id_, entry in slices.items():
                seen.setdefault(device_id, {})[id_] = ObservedSlice(
                    generation=1, state=ObservedState.LIVE, mode=entry.mode, vram_bytes=entry.vram_bytes,
                    share_ppm=entry.share_ppm, partition=entry.partition, window=entry.window, vram_used_bytes=entry.vram_bytes,
                )  # fmt: skip
        lease_until = node.observed.lease_until if node.observed is not None else LEASED
        node.take_observed(Observed(node=node.name, boot_id="b", lease_until=lease_until, devices=seen))
        if not lingers and node.ledger.held:
            node.take_ledger(replace(node.ledger, held={}))

    def lease(self, dice: random.Random) -> None:
        """A lease ends, or is taken again."""
        node = self.node(dice.choice(self.known()))
        if node.observed is not None:
            node.take_observed(replace(node.observed, lease_until=dice.choice([LEASED, ENDED])))

    def inventory(self, dice: random.Random) -> None:
        """Discovery says something else of a node."""
        node = self.node(dice.choice(self.known()))
        was = node.inventory or Inventory(node=node.name, pool="a", boot_id="b", devices=())
        devices = list(was.devices)
        at = dice.randrange(len(devices)) if devices else -1
        change = dice.choice(["add", "drop", "health", "flip", "size", "pool", "leave", "host", "order"])
        if change == "add" and len(devices) < 4:
            new = next(f"{node.name}-d{n}" for n in range(9) if all(each.id != f"{node.name}-d{n}" for each in devices))
            devices.append(KINDS[dice.choice(sorted(KINDS))](new, len(devices)))
        elif change == "drop" and devices:
            del devices[at]
        elif change == "health" and devices:
            devices[at] = replace(devices[at], health=dice.choice(list(Health)))
        elif change == "flip" and devices and devices[at].switchable:
            devices[at] = replace(devices[at], partitioned=not devices[at].partitioned)
        elif change == "size" and devices:
            devices[at] = replace(devices[at], vram_bytes=devices[at].vram_bytes + dice.choice([-ODD, ODD, MIB]))
        elif change == "order":
            dice.shuffle(devices)
        pool = dice.choice(POOLS) if change == "pool" else was.pool
        cpu_milli = dice.choice([0, 4000, 16_000]) if change == "host" else was.cpu_milli
        now = replace(
            was, devices=tuple(devices), pool=pool, cpu_milli=cpu_milli, links=linked(devices) if dice.random() < 0.8 else ()
        )
        node.take_inventory(None if change == "leave" else now)

    def policy(self, dice: random.Random) -> None:
        """Pools and nodes have other policies."""
        pools = {
            name: PoolPolicy(
                modes=dice.choice([(), (), (Mode.HARDWARE,), (Mode.FCSP, Mode.TIMESLICE), (Mode.TIMESLICE,)]),
                switching=dice.choice(list(Switching)),
                drain_at=dice.choice([Severity.WARNING, Severity.FATAL]),
                prices=dice.choice([{}, {"L4": 1.0, "P40": 0.5}, {"L4": 0.2, "H100-SXM-80GB": 4.0}]),
            )
            for name in dice.sample(POOLS, dice.randint(0, len(POOLS)))
        }
        own = {name: NodePolicy(switching=dice.choice([None, *Switching])) for name in dice.sample(NODES, dice.randint(0, 2))}
        self.pins = Pins(now_ns=NOW_NS, pools=pools, nodes=own, tenant_mode=dice.choice([None, None, None, *Mode]))

    def known(self) -> list[str]:
        return sorted(self.fleet.nodes)

    def anew(self) -> Fleet:
        """Another fleet that has taken the same documents, each once."""
        fleet = Fleet()
        for name, node in self.fleet.nodes.items():
            fresh = fleet.node(name)
            fresh.take_inventory(node.inventory)
            fresh.take_ledger(node.ledger)
            fresh.take_observed(node.observed)
        for id_, record in self.reserved.items():
            fleet.reserve(id_, record.placements, record.request)
        return fleet


HAPPENINGS = ("give_up", "enter", "enter", "leave", "observe", "lease", "inventory", "inventory", "policy")


def linked(devices: list[Device] | tuple[Device, ...]) -> tuple[Link, ...]:
    """Devices of one model in pairs."""
    pairs = [
        (one, other) for one, other in combinations(devices, 2) if one.model == other.model and one.index // 2 == other.index // 2
    ]
    return tuple(Link(a=one.id, b=other.id, kind=LinkKind.NVLINK, lanes=4, bytes_per_s=10**11) for one, other in pairs)


def on_boards(fleet: Fleet, pins: Pins) -> dict[str, object]:
    """What the index has of every node: on boards, and as states, whatever their numbers are."""
    pools = fleet.index._pools
    fleet.index.refresh(pins)
    found: dict[str, object] = {}
    for pool_name, pool in pools.all.items():
        for cell in pool.cells:
            for number, node in enumerate(cell.nodes):
                found[node.name] = (pool_name, [list(_rows(cell, mode, number, pools.sorts)) for mode in cell.shelves])
        for name, keys in pool.states._of.items():
            rows = {
                order[1]: (_sort(pools.sorts, key[0]), *key[1:], pool.states._states[key].switches) for order, key in keys.items()
            }
            if rows:
                found[f"states of {name}"] = (pool_name, rows)
    return found


def _rows(cell: Any, mode: Mode, number: int, sorts: Any) -> Iterator[object]:
    board = cell.shelves[mode].board
    yield int(board.cpu_milli[number]), int(board.memory_mib[number])
    for at in range(int(board.first[number]), int(board.first[number + 1])):
        yield _sort(sorts, int(board.kind[at])), int(board.vram_mib[at]), int(board.share_ppm[at])


def _sort(sorts: Any, number: Any) -> object:
    sort = sorts.all[number]
    return json.encode(replace(sort.sample, id="-", index=0, health=Health.HEALTHY, group="")), sort.switching, sort.in_time
