"""``mica bench turns``: how a time-sliced device is shared, what a change of hands costs, and how long a kernel can hold it.

The whole system runs, planner to shim, on a simulated device that nothing preempts: a kernel runs to its end. Shares, what is
lost at a change and who stands still are read from the device's own books.

Invariant: nothing that the shims or services count goes into a figure but where it is said so.
"""

import subprocess
import sys

import msgspec

from mica.bench._errors import BenchError
from mica.bench._machine import describe_machine
from mica.bench._turns_report import HEAD, Measured, Plan, Report, Share, remarks, report_of, rows
from mica.events import Tier

__all__ = ["HEAD", "Plan", "Report", "full", "quick", "remarks", "rows", "run"]

PATIENCE_S = 300.0

SCENARIOS = (
    (Share(50, 200), Share(50, 200)),
    (Share(50, 200), Share(30, 1_000), Share(20, 50)),
    (Share(25, 200), Share(25, 200), Share(25, 200), Share(25, 200)),
    (Share(40, 500), Share(20, 200), Share(20, 100), Share(10, 50), Share(10, 200)),
    tuple(Share(16.5, us) for us in (200, 100, 50, 200, 500, 200)),
    (Share(20, 30_000), Share(20, 200), Share(60, 200)),
)
"""Two to six tenants, equal and not; the last has kernels that are longer than its window."""


def full() -> Plan:
    """Everything; about a minute."""
    return Plan(scenarios=SCENARIOS)


def quick() -> Plan:
    """The same parts, for a short time each: to see that they work, not what they say."""
    return Plan(scenarios=SCENARIOS[1:2], seconds=0.5, comebacks=2, holds=(Tier.SPOT,))


def run(plan: Plan) -> Report:
    """Carry the benchmark out, in a process of its own: one can read the books of one simulated node only.

    Raises:
        BenchError: the system did not come up, or a tenant failed.
    """
    command = [sys.executable, "-m", "mica.bench._turns_stack"]
    done = subprocess.run(command, input=msgspec.json.encode(plan), capture_output=True, check=False, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise BenchError(f"turns could not be measured: {done.stderr.decode().strip()[-800:]}")
    return report_of(msgspec.json.decode(done.stdout, type=Measured), describe_machine())
