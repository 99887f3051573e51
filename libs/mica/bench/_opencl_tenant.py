"""A tenant for ``mica bench isolation --backend opencl``: an ordinary PyOpenCL program, which knows nothing of mica.

    _opencl_tenant.py KIND ROUNDS ARGUMENT

It says ``ready`` when its kernel is built and has run once, waits for a line of two moments of CLOCK_MONOTONIC (ns), works
from the one to the other, and says one line of JSON at its end. Every launch is checked: it counts into a buffer of the
program's own, which is compared with what was asked for.
"""

import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyopencl as cl

ITEMS: Final = 256
GROUP: Final = 32
SOURCE: Final = """
kernel void spin(global uint *counts, int rounds)
{
    float value = get_global_id(0);
    for (int i = 0; i < rounds; i++)
        value = value * 0.999f + 0.5f;
    counts[get_global_id(0)] += value < 1e30f;
}
"""
BATCH: Final = 200
BATCHES: Final = 10
SLOT_NS: Final = 100_000_000
"""Launches in a batch, batches in a slot, and how long a slot is."""


def now_ns() -> int:
    """CLOCK_MONOTONIC."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def sleep_until(moment_ns: int) -> None:
    """Until then, or not at all."""
    left_ns = moment_ns - now_ns()
    if left_ns > 0:
        time.sleep(left_ns / 1e9)


class Kernel:
    """One kernel of so many rounds, and how often it was asked for."""

    def __init__(self, rounds: int) -> None:
        self.context = cl.Context(cl.get_platforms()[0].get_devices())
        self.queue = cl.CommandQueue(self.context)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        self.counts = cl.Buffer(self.context, flags, hostbuf=np.zeros(ITEMS, np.uint32))
        self._spin = cl.Kernel(cl.Program(self.context, SOURCE).build(), "spin")
        self._spin.set_args(self.counts, np.int32(rounds))
        self.asked = 0
        self.start().wait()

    def start(self) -> Any:
        """Enqueue it once; its event."""
        self.asked += 1
        event = cl.enqueue_nd_range_kernel(self.queue, self._spin, (ITEMS,), (GROUP,))
        self.queue.flush()
        return event

    def is_correct(self) -> bool:
        """Whether every item has counted every launch."""
        counts = np.empty(ITEMS, np.uint32)
        cl.enqueue_copy(self.queue, counts, self.counts)
        return bool((counts == self.asked).all())


def work(kernel: Kernel, depth: int, begin_ns: int, end_ns: int) -> dict[str, Any]:
    """Keep ``depth`` launches in the queue; when each of them ended, those before the beginning left out."""
    waiting: deque[Any] = deque()
    ended: list[int] = []
    while not ended or ended[-1] < end_ns:
        while len(waiting) < depth:
            waiting.append(kernel.start())
        waiting.popleft().wait()
        ended.append(now_ns())
    for event in waiting:
        event.wait()
    return {"ended_ns": [each for each in ended if each >= begin_ns]}


def pace(kernel: Kernel, period_ns: int, begin_ns: int, end_ns: int) -> dict[str, Any]:
    """Ask for a launch at random moments, ``period_ns`` apart on average; from each moment to the launch's end."""
    chance = random.Random(period_ns)  # noqa: S311 - arrivals, not secrets: the same in every run
    due_ns = begin_ns
    found: list[int] = []
    while due_ns < end_ns:
        sleep_until(due_ns)
        kernel.start().wait()
        found.append(now_ns() - due_ns)
        due_ns += int(chance.expovariate(1.0 / period_ns))
    return {"latency_ns": found}


def trip(kernel: Kernel, parity: int, begin_ns: int, end_ns: int) -> dict[str, Any]:
    """In every second slot of time launch and wait, one by one, and launch in batches; another program has the other slots.

    The medians of a round trip and of one enqueue of a batch, by slot. A slot that was slept through has one round trip, too:
    on a busy machine a program may wake up late.
    """
    trips: list[float] = []
    enqueues: list[float] = []
    for slot_ns in range(begin_ns + parity * SLOT_NS, end_ns, 2 * SLOT_NS):
        sleep_until(slot_ns)
        found: list[int] = []
        while not found or now_ns() < slot_ns + SLOT_NS // 2:
            before_ns = now_ns()
            kernel.start().wait()
            found.append(now_ns() - before_ns)
        trips.append(float(np.median(found)))
        enqueues.append(float(np.median([_batch(kernel) for _ in range(BATCHES)])))
    return {"trip_ns": trips, "enqueue_ns": enqueues}


def _batch(kernel: Kernel) -> float:
    before_ns = now_ns()
    events = [kernel.start() for _ in range(BATCH)]
    took_ns = now_ns() - before_ns
    for event in events:
        event.wait()
    return took_ns / BATCH


def fill(kernel: Kernel, chunk_bytes: int, _begin_ns: int, _end_ns: int) -> dict[str, Any]:
    """Take memory in chunks that become smaller until not a byte is left, and hold it until told to end."""
    taken = [kernel.counts]
    asked, size = kernel.counts.size, chunk_bytes
    while size:
        try:
            taken.append(cl.Buffer(kernel.context, cl.mem_flags.READ_WRITE, size))
            cl.enqueue_fill_buffer(kernel.queue, taken[-1], np.ones(1, np.uint8), 0, 1).wait()
            asked += size
        except cl.Error:
            size //= 2
    held = sum(int(buffer.size) for buffer in taken)
    print(json.dumps({"taken_bytes": asked, "held_bytes": held}), flush=True)
    sys.stdin.readline()
    return {"taken_bytes": asked, "held_bytes": held}


KINDS: Final[dict[str, Callable[[Kernel, int, int, int], dict[str, Any]]]] = {
    "work": work,
    "pace": pace,
    "trip": trip,
    "fill": fill,
}


def main() -> int:
    """Get ready, wait for the word, work, and say what came of it."""
    kind, rounds, argument = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    kernel = Kernel(rounds)
    print("ready", flush=True)
    begin_ns, end_ns = (int(word) for word in sys.stdin.readline().split())
    said = KINDS[kind](kernel, argument, begin_ns, end_ns)
    print(json.dumps(said | {"correct": kernel.is_correct()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
