"""Runs that do not depend on one another, on all cores. Invariant: answers come in the order of the questions."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


def side_by_side(work: Callable[[Q], A], questions: Sequence[Q], processes: int = 0) -> Iterable[A]:
    """What ``work`` makes of each; ``processes``: at most so many, 0: as many as there are cores. One: in this process."""
    processes = min(processes or len(os.sched_getaffinity(0)), len(questions))
    if processes <= 1:
        yield from map(work, questions)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, questions)
