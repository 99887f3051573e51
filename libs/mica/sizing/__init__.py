"""How large a slice a workload needs: memory and compute from what its model is, what it was measured to do, and its promise.

Owns the formulas and their sources. Invariant: pure, and never a silent guess: whatever was assumed is in the answer.
"""

from mica.sizing._answers import Need, Unsizable
from mica.sizing._estimate import COMPUTE_PART, Times, times_of
from mica.sizing._interference import SLOWDOWN, slowdown
from mica.sizing._memory import Memory, kv_bytes_per_token, memory_of, weight_bytes
from mica.sizing._points import Chosen, smallest_share, value_at
from mica.sizing._shapes import Shape, count_parameters, known_models, plain_name
from mica.sizing._size import Asked, check_profile, need_of, promise_text
from mica.sizing._speeds import Speed, known_speeds
from mica.sizing._workload import Workload, workload_of

__all__ = [
    "COMPUTE_PART",
    "SLOWDOWN",
    "Asked",
    "Chosen",
    "Memory",
    "Need",
    "Shape",
    "Speed",
    "Times",
    "Unsizable",
    "Workload",
    "check_profile",
    "count_parameters",
    "known_models",
    "known_speeds",
    "kv_bytes_per_token",
    "memory_of",
    "need_of",
    "plain_name",
    "promise_text",
    "slowdown",
    "smallest_share",
    "times_of",
    "value_at",
    "weight_bytes",
    "workload_of",
]
