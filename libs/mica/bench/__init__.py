"""Benchmarks, run by ``mica bench``. Owns speed and precision; tests never depend on timing.

Invariant: a report carries the machine, a limit or a peer measured in the same run, and whether a device was simulated.
"""

from mica.bench._errors import BenchError

__all__ = ["BenchError"]
