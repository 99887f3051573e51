"""Work on a fleet, and what a policy makes of it. Invariant: a seed and a policy decide everything."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from mica.packing import typical
from mica.simulation._engine import simulate
from mica.simulation._figure import Figure, figure
from mica.simulation._fleet import Fleet, thinned
from mica.simulation._job import Job, Watch, overlaid, watch_for
from mica.simulation._measure import Measure, Sample
from mica.simulation._placer import Policy, placer


class Scene(Struct, frozen=True, kw_only=True):
    """What is replayed.

    ``part``: so much of the fleet is taken (``thinned``). ``load``: so much of its capacity would be in use on average, by copies
    of the work laid over one another (``overlaid``); None: the work as it is. ``warm_up``: the part of the arrivals after
    which is measured. ``wait``: what fits nowhere waits, instead of being gone.
    """

    fleet: Fleet
    jobs: Sequence[Job]
    part: float = 1.0
    load: float | None = None
    warm_up: float = 0.1
    wait: bool = False
    samples: int = 500


class Replayed(Struct, frozen=True):
    """Figures, and what they were made of."""

    figure: Figure
    samples: tuple[Sample, ...]
    watch: Watch


def replayed(scene: Scene, policy: Policy, seed: int) -> Replayed:
    """The work of the scene under a policy. Raises SimulationError: there is no work, no fleet, or no such load."""
    fleet = thinned(scene.fleet, scene.part, seed).shuffled(seed + 1)
    jobs = list(scene.jobs) if scene.load is None else overlaid(scene.jobs, scene.load * fleet.capacity_milli, seed)
    watch = watch_for(jobs, scene.warm_up, scene.samples)
    shapes = [job.shape for job in scene.jobs]
    actor = placer(policy, fleet, shapes, seed)
    measure = Measure(actor.board, typical(Counter(shapes)))
    outcome = simulate(jobs, actor, measure, watch, wait=scene.wait)
    return Replayed(figure(jobs, outcome), outcome.samples, watch)
