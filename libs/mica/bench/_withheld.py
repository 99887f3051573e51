"""Processor time that programs wanted and did not get, by the machine's own counts.

A tenant that the machine does not run puts nothing on a device, and no order of tenants can give it its share.
Invariant: reported beside a figure of the device, never taken off it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

NS_PER_S = 1_000_000_000
_STEAL = 8
"""The column of /proc/stat: what other machines on the same host had of this one's processors."""


def withheld_ns(pids: Sequence[int], proc: Path = Path("/proc")) -> int:
    """How long the processes' threads were ready and waited for a processor so far, and the machine's stolen time (ns)."""
    waited = (_second_word(path) for pid in pids for path in proc.glob(f"{pid}/task/*/schedstat"))
    return sum(waited) + _stolen_ns(proc)


def _second_word(path: Path) -> int:
    try:
        return int(path.read_text().split()[1])
    except (OSError, IndexError):  # the thread has ended, or the kernel does not count
        return 0


def _stolen_ns(proc: Path) -> int:
    words = (proc / "stat").read_text().partition("\n")[0].split()
    return int(words[_STEAL]) * NS_PER_S // os.sysconf("SC_CLK_TCK") if len(words) > _STEAL else 0
