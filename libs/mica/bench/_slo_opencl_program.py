"""The programs of ``mica bench slo`` on OpenCL: ordinary PyOpenCL, which knows nothing of mica.

    _slo_opencl_program.py serve PREFILL_ROUNDS STEP_ROUNDS BATCH FILE
    _slo_opencl_program.py flood ROUNDS DEPTH

``serve`` is the inference server of ``native/bench/server.c`` once more: requests as they arrive, up to BATCH at a time, a
prefill for each and then one kernel a step for all of them. ``flood`` keeps DEPTH kernels in its queue. Both say ``ready`` when
they could begin, begin at a line on stdin, and tell in a line of JSON now and then how many kernels have ended. Results are
checked: every kernel counts into a buffer.
"""

import json
import sys
from collections import deque
from typing import Any, Final

from mica.bench._opencl_tenant import Kernel, now_ns, sleep_until

TELL_NS: Final = 50_000_000


class Request:
    """A request on its way."""

    def __init__(self, number: int, arrived_ns: int, prefills: int, tokens: int) -> None:
        self.number, self.arrived_ns, self.prefills, self.tokens = number, arrived_ns, prefills, tokens
        self.given = 0
        self.first_ns = 0


def run(kernel: Kernel, times: int) -> None:
    """Launch it so often, and wait for the last."""
    event: Any = None
    for _ in range(times):
        event = kernel.start()
    event.wait()


class Server:
    """The server between its requests and its kernels."""

    def __init__(self, prefill: Kernel, step: Kernel, batch: int) -> None:
        self._prefill, self._step, self._batch = prefill, step, batch
        self._done = {"prefills": 0, "steps": 0}
        self._told_ns = 0

    def serve(self, waiting: deque[Request]) -> None:
        """Answer all of them."""
        active: list[Request] = []
        while waiting or active:
            if not active:
                sleep_until(waiting[0].arrived_ns)
            while len(active) < self._batch and waiting and waiting[0].arrived_ns <= now_ns():
                active.append(self._begin(waiting.popleft()))
            active = self._sweep(active)
            if active:
                run(self._step, 1)
                self._done["steps"] += 1
                for request in active:
                    request.given += 1
                active = self._sweep(active)
            self._tell()

    def _begin(self, request: Request) -> Request:
        run(self._prefill, request.prefills)
        self._done["prefills"] += request.prefills
        request.first_ns, request.given = now_ns(), 1
        return request

    def _sweep(self, active: list[Request]) -> list[Request]:
        """Those that still have tokens to come."""
        at_ns = now_ns()
        for request in active:
            if request.given >= request.tokens:
                print(request.number, request.arrived_ns, request.first_ns, at_ns, flush=True)
        return [request for request in active if request.given < request.tokens]

    def _tell(self) -> None:
        if now_ns() - self._told_ns >= TELL_NS:
            self._told_ns = now_ns()
            print(json.dumps(self._done), flush=True)


def flood(kernel: Kernel, depth: int) -> None:
    """Until it is killed."""
    events: deque[Any] = deque()
    ended, told_ns = 0, 0
    while True:
        while len(events) < depth:
            events.append(kernel.start())
        events.popleft().wait()
        ended += 1
        if now_ns() - told_ns >= TELL_NS:
            told_ns = now_ns()
            print(json.dumps({"ended": ended}), flush=True)


def read_requests(path: str) -> list[tuple[int, int, int]]:
    """Nanoseconds after the beginning, prefill kernels, tokens: of each."""
    with open(path, encoding="ascii") as file:  # noqa: PTH123 - a program, kept small
        return [(int(at), int(prefills), int(tokens)) for at, prefills, tokens in (line.split() for line in file)]


def main(kind: str, *arguments: str) -> int:
    """Get ready, wait for the word, work."""
    if kind == "flood":
        rounds, depth = map(int, arguments)
        kernel = Kernel(rounds)
        print("ready", flush=True)
        sys.stdin.readline()
        flood(kernel, depth)
    prefill, step = Kernel(int(arguments[0])), Kernel(int(arguments[1]))
    requests = read_requests(arguments[3])
    print("ready", flush=True)
    begin_ns = int(sys.stdin.readline())
    sleep_until(begin_ns)
    waiting = deque(Request(index, begin_ns + at, prefills, tokens) for index, (at, prefills, tokens) in enumerate(requests))
    Server(prefill, step, int(arguments[2])).serve(waiting)
    if not (prefill.is_correct() and step.is_correct()):
        print("the kernels have not computed what they were to", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
