"""How many placements one process of the planner can decide in a large fleet: what ``mica bench scale`` runs.

Owns the measurement, in a process of its own: the fleet is the planner's, from inventories as discovery writes them; every
request is decoded, sized, placed, held against its tenant's quota, entered into its ledger and encoded again, as in the service,
and what the process spends on its own memory counts (``mica.bus.Collector``).
What the bus takes for the writes is left out: ``mica bench pipeline`` has that. Looks ahead are worked out in a thread beside.
Invariant: every placement is checked to be admissible when it is entered, and slices leave again, so that the fleet stays as full
as it is meant to be.
"""

import argparse
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import quantiles
from typing import Final

from msgspec import Struct, json
from msgspec.structs import replace

from mica.bench.scale import FleetFigures
from mica.bus import Collector
from mica.events import (
    NATIVE_RUNTIMES,
    Device,
    Inventory,
    Observed,
    RequestSlice,
    SliceRecord,
    TenantHoldings,
    TenantQuota,
    Vendor,
)
from mica.hardware import Catalogue
from mica.packing import Foresighted, Plan
from mica.planner.domain import ledgers, quotas, records
from mica.planner.domain.admission import inadmissible
from mica.planner.domain.affinity import affinity_of
from mica.planner.domain.answers import answer_of
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.ledgers import Ending
from mica.planner.domain.placing import Ask, Pins, Placed, decide
from mica.planner.domain.quotas import holding_of
from mica.planner.domain.sizing import Size, size_of

DEVICES: Final = 8
POOLS: Final = 4
GIB: Final = 1 << 30
MODELS: Final = (
    ("A100-SXM-80GB", 4), ("H100-SXM-80GB", 4), ("L4", 3), ("L40S", 3), ("A10", 2), ("T4", 2), ("MI300X", 2), ("P40", 1),
    ("Max-1550", 1),
)  # fmt: skip
"""Models of a mixed fleet, and how many nodes of twenty-two have it."""
SIZES_GIB: Final = (
    (1, 8),
    (2, 12),
    (4, 16),
    (5, 8),
    (6, 10),
    (8, 12),
    (10, 10),
    (12, 6),
    (16, 8),
    (20, 5),
    (24, 3),
    (40, 4),
    (64, 2),
)
"""Memory of requests, and how many of a hundred ask for it."""
GANGS: Final = ((1, 92), (2, 5), (4, 2), (8, 1))
TENANTS_MIN: Final = 64
NODES_PER_TENANT: Final = 10
FULL: Final = 0.85
"""The part of the fleet's memory that is held while it is measured."""


def inventory(node: str, pool: str, model: str, number: int) -> Inventory:
    """A node as discovery describes it."""
    made = Catalogue.load().model(model)
    device = Device(
        id="-", index=0, vendor=made.vendor, model=made.key, vram_bytes=made.vram_bytes, reserve_bytes=made.reserve_bytes,
        multiprocessors=made.multiprocessors, compute_capability=made.capability, profiles=made.partition_profiles(),
        compute_slices=made.compute_slices, switchable=bool(made.profiles), partitioned=bool(made.profiles) and number % 3 == 0,
        budgets=made.budgets, runtimes=(NATIVE_RUNTIMES[made.vendor],) if made.vendor is Vendor.NVIDIA else (),
    )  # fmt: skip
    devices = tuple(replace(device, id=f"{node}-{index}", index=index) for index in range(DEVICES))
    return Inventory(node=node, pool=pool, boot_id="b", devices=devices, cpu_milli=128_000, host_memory_bytes=1024 * GIB)


def fleet_of(nodes: int) -> list[bytes]:
    """The inventories of a mixed fleet, as they lie in the bucket."""
    models = [model for model, count in MODELS for _ in range(count)]
    return [
        json.encode(inventory(f"n{number}", f"pool{number % POOLS}", models[number % len(models)], number))
        for number in range(nodes)
    ]


def requests(seed: int, tenants: int) -> Iterator[bytes]:
    """Requests of so many tenants, without end."""
    draw = random.Random(seed)  # noqa: S311 - an experiment that can be repeated
    sizes, size_weights = zip(*SIZES_GIB, strict=True)
    gangs, gang_weights = zip(*GANGS, strict=True)
    number = 0
    while True:
        number += 1
        gib, devices = draw.choices(sizes, size_weights)[0], draw.choices(gangs, gang_weights)[0]
        share = draw.choice((None, None, 100_000, 200_000, 300_000, 500_000))
        request = RequestSlice(
            tenant=f"t{draw.randrange(tenants)}", id=f"s{number}", vram_bytes=gib * GIB, share_ppm=share, devices=devices,
            cpu_milli=draw.choice((0, 1000, 4000)), apart=f"g{number // 160}" if number % 20 == 0 else None, apart_strict=False,
            pool=f"pool{number % POOLS}" if number % 5 == 0 else None,
        )  # fmt: skip
        yield json.encode(request)


class Living(Struct, frozen=True):
    """What is kept here of a slice; the planner remembers no more records than ``store.KEPT`` either."""

    id: str
    tenant: str
    vram_bytes: int
    nodes: tuple[str, ...]


class Measured:
    """A planner's memory, and requests that come and go."""

    def __init__(self, documents: list[bytes], home: tuple[int, int] = (0, 1)) -> None:
        self.fleet = Fleet()
        self.fleet.index.home = home
        self.pins = Pins(now_ns=1)
        self.tenants: dict[str, TenantHoldings] = {}
        self.living: list[Living] = []
        self.held_bytes = 0
        self.count: Counter[str] = Counter()
        self._draw = random.Random(1)  # noqa: S311 - as above
        self._beside = ThreadPoolExecutor(1)
        self._plans: list[tuple[Foresighted, Future[Plan]]] = []
        decoder = json.Decoder(Inventory)
        for document in documents:
            one = decoder.decode(document)
            node = self.fleet.node(one.node)
            node.take_inventory(one)
            node.take_observed(Observed(node=one.node, boot_id="b", lease_until=1 << 62))
        self.fleet.index.refresh(self.pins)
        self.whole_bytes = sum(
            claims.device.vram_bytes - claims.device.reserve_bytes for _, claims in self.fleet.devices() if claims.device
        )

    def serve(self, raw: bytes) -> bool:
        """One request, from its bytes to those of its answer; whether it was placed."""
        request = json.decode(raw, type=RequestSlice)
        assert request.id is not None
        size = size_of(request)
        assert isinstance(size, Size)
        record = records.blank(request.id, request, len(self.living), 1)
        affinity = affinity_of(request, self.fleet.group(request, but=record.id))
        outcome = decide(
            self.fleet, Ask(id=record.id, request=request, size=size, pins=self.pins, members=request.devices, affinity=affinity)
        )
        if not isinstance(outcome, Placed):
            json.encode(records.rejected(record, outcome.refusal, outcome.decision, 1))
            self.count["refused"] += 1
            return False
        self._enter(records.placed(record, outcome.placements, outcome.decision, 1))
        self.count["placed"] += 1
        return True

    def _enter(self, record: SliceRecord) -> None:
        fleet, holding = self.fleet, holding_of(record.placements)
        tenant = record.request.tenant
        holdings = self.tenants.get(tenant) or TenantHoldings(tenant=tenant)
        assert quotas.over_quota(holdings, record.id, holding, TenantQuota()) is None
        self.tenants[tenant] = holdings = quotas.charge(holdings, record.id, holding)
        fleet.reserve(record.id, record.placements, record.request)
        self._align(record)
        fleet.unreserve(record.id, record.placements)
        for each in (record, holdings, answer_of(record)):
            json.encode(each)
        self.living.append(Living(record.id, tenant, holding.vram_bytes, ledgers.nodes_of(record.placements)))
        self.held_bytes += holding.vram_bytes

    def _align(self, record: SliceRecord) -> None:
        for name in ledgers.nodes_of(record.placements):
            node = self.fleet.node(name)
            before = ledgers.present(node.ledger, record.id)
            aligned = ledgers.align(node.ledger, record, node.ledger.generation + 1, Ending())
            refusal = inadmissible(node, record.id, before, ledgers.present(aligned, record.id))
            if refusal is not None:
                raise AssertionError(f"{record.id}: {refusal.message}")
            json.encode(aligned)
            node.take_ledger(aligned)

    def leave(self) -> None:
        """One slice, drawn at random, is gone."""
        at = self._draw.randrange(len(self.living))
        self.living[at], self.living[-1] = self.living[-1], self.living[at]
        gone = self.living.pop()
        self.held_bytes -= gone.vram_bytes
        self.tenants[gone.tenant] = quotas.uncharge(self.tenants[gone.tenant], gone.id)
        for name in gone.nodes:
            node = self.fleet.node(name)
            left = {
                device: {id_: e for id_, e in slices.items() if id_ != gone.id} if gone.id in slices else slices
                for device, slices in node.ledger.devices.items()
            }
            node.take_ledger(replace(node.ledger, generation=node.ledger.generation + 1, devices=left))

    def look_ahead(self) -> None:
        """Take over the looks ahead that are ready, and begin those that are due."""
        for foresighted, plan in [each for each in self._plans if each[1].done()]:
            foresighted.adopt(plan.result())
        self._plans = [each for each in self._plans if not each[1].done()]
        for foresighted in self.fleet.index.due():
            self._plans.append((foresighted, self._beside.submit(foresighted.look(self.now_s()).plan)))

    def now_s(self) -> float:
        """The time, as the planner tells it to what learns."""
        return self.pins.now_ns / 1e9

    def close(self) -> None:
        """End the thread."""
        self._beside.shutdown()


def run(nodes: int, placements: int, seed: int, home: tuple[int, int] = (0, 1)) -> FleetFigures:
    """Fill a fleet, then measure so many placements while as many leave. ``home``: as in ``Index``."""
    documents = fleet_of(nodes)
    collector = Collector()
    begun = time.perf_counter()
    measured = Measured(documents, home)
    cold_start_s = time.perf_counter() - begun
    del documents
    stream = requests(seed, max(TENANTS_MIN, nodes // NODES_PER_TENANT))
    full_bytes = FULL * measured.whole_bytes / home[1]
    while measured.held_bytes < full_bytes:
        measured.serve(next(stream))
        measured.look_ahead()
        collector.step()
    measured.count.clear()
    took_ms: list[float] = []
    spent = 0.0
    for _ in range(placements):
        raw = next(stream)
        begun = time.perf_counter()
        collector.step()
        measured.serve(raw)
        took = time.perf_counter() - begun
        spent += took
        took_ms.append(1000 * took)
        while measured.held_bytes > full_bytes:
            measured.leave()
        measured.look_ahead()
    measured.close()
    cuts = quantiles(took_ms, n=1000, method="inclusive")
    return FleetFigures(
        nodes=nodes,
        devices=nodes * DEVICES,
        placements_per_s=round(measured.count["placed"] / spent, 1),
        p50_ms=round(cuts[499], 3),
        p99_ms=round(cuts[989], 3),
        p999_ms=round(cuts[998], 3),
        rss_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        cold_start_s=round(cold_start_s, 3),
        placed=measured.count["placed"],
        refused=measured.count["refused"],
        held_percent=round(100 * measured.held_bytes / measured.whole_bytes, 2),
    )


def main() -> None:
    """Run it as a process; one JSON object on standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--placements", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--home", default="1/1")
    given = parser.parse_args()
    which, of = map(int, given.home.split("/"))
    report = run(given.nodes, given.placements, given.seed, (which - 1, of))
    sys.stdout.write(json.encode(report).decode() + "\n")


if __name__ == "__main__":
    main()
