"""What the planner's own process needs to replay a trace. Invariant: there is one way to read one, and one to play it."""

from mica.bench._errors import BenchError
from mica.bench._replay import Replayed, in_order, play
from mica.bench._trace import Trace, read_trace

__all__ = ["BenchError", "Replayed", "Trace", "in_order", "play", "read_trace"]
