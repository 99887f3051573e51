"""A fleet over time: work comes and goes, a policy places it, and what is allocated, of no use or stranded is measured.

Owns the replay and its measures; knows no files, no clock and no services. Invariant: pure, and equal input gives equal output;
every policy gets the same work on the same nodes in the same order.
"""

from mica.simulation._engine import Outcome, simulate
from mica.simulation._errors import SimulationError
from mica.simulation._figure import Figure, Spread, figure, mean
from mica.simulation._fleet import Fleet, thinned
from mica.simulation._job import Job, Watch, offered, overlaid, watch_for
from mica.simulation._measure import Measure, Sample
from mica.simulation._placer import BUDGETS, Placer, Policy, peer_mix, peer_settings, placer
from mica.simulation._scene import Replayed, Scene, replayed

__all__ = [
    "BUDGETS",
    "Figure",
    "Fleet",
    "Job",
    "Measure",
    "Outcome",
    "Placer",
    "Policy",
    "Replayed",
    "Sample",
    "Scene",
    "SimulationError",
    "Spread",
    "Watch",
    "figure",
    "mean",
    "offered",
    "overlaid",
    "peer_mix",
    "peer_settings",
    "placer",
    "replayed",
    "simulate",
    "thinned",
    "watch_for",
]
