"""``mica simulate``: work that comes and goes, on any mix of nodes, under any policy.

Invariant: equal input gives an equal report, byte for byte: it says nothing of the machine, and nothing of the time it took.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from mica.bench._errors import BenchError
from mica.simulation import Figure, Fleet, Job, Policy, Sample, Scene, SimulationError, replayed, thinned

PEERS: Final = (Policy.BEST_FIT, Policy.FGD, Policy.MICA)
ALIKE: Final = "a device counts as one device, whatever its model"
MEMORY: Final = "of a traced GPU's memory nothing is known: it is never short"


class Plan(Struct, frozen=True, kw_only=True):
    """How to replay; see ``mica.simulation.Scene``."""

    policies: tuple[Policy, ...] = PEERS
    part: float = 1.0
    load: float | None = None
    warm_up: float = 0.1
    wait: bool = False
    samples: int = 500
    seed: int = 42


class Replay(Struct, frozen=True, kw_only=True):
    """What was replayed, on what, and what came of it by policy. ``hours`` is the time looked at."""

    work: str
    pieces: int
    nodes: int
    devices: dict[str, int]
    hours: float
    plan: Plan
    policies: dict[str, Figure]
    assumed: tuple[str, ...]


Samples = dict[str, tuple[Sample, ...]]
"""By policy, in the order of time."""


def run(fleet: Fleet, jobs: Sequence[Job], plan: Plan, work: str, assumed: tuple[str, ...]) -> tuple[Replay, Samples]:
    """Replay under each policy. Raises BenchError: there is nothing to replay, or no such load.

    Args:
        work: what the work is called in the report; ``assumed``: what stands in it beside the figures.
    """
    scene = Scene(
        fleet=fleet, jobs=jobs, part=plan.part, load=plan.load, warm_up=plan.warm_up, wait=plan.wait, samples=plan.samples
    )
    try:
        found = {policy.value: replayed(scene, policy, plan.seed) for policy in dict.fromkeys(plan.policies)}
        kept = thinned(fleet, plan.part, plan.seed)
    except SimulationError as error:
        raise BenchError(str(error)) from error
    watch = next(iter(found.values())).watch
    counted = Counter(fleet.models[kind] for node in kept.nodes for kind, _ in node.devices)
    report = Replay(
        work=work, pieces=len(jobs), nodes=len(kept.nodes), devices=dict(sorted(counted.items())), plan=plan, assumed=assumed,
        hours=round((watch.end_s - watch.begin_s) / 3600, 3), policies={name: each.figure for name, each in found.items()},
    )  # fmt: skip
    return report, {name: each.samples for name, each in found.items()}
