"""A trace's pods arrive one after the other, and a policy places each once: FGD's method (Weng et al., USENIX ATC'23, section 6).

Invariant: baselines and mica get the same arrivals on the same nodes in the same order for the same seed, and a pod is counted as
placed only when the board had room for it. A policy that moves pods must have every one it has placed stand where it says.
"""

import random
from collections.abc import Callable
from itertools import count
from statistics import fmean

from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._trace import Trace
from mica.packing import Board, Foresight, Foresighted, Mix, Moving, Node, Packer, Settings, Shape, Spot
from mica.simulation import BUDGETS, Policy, peer_mix, peer_settings

Arrive = Callable[[Shape], Spot | None]
DEFAULT = Foresight()
INFLATED = 1.3
"""So many times the capacity arrives."""


class Replayed(Struct, frozen=True):
    """What a policy made of a trace.

    ``allocated``: by per cent of the capacity that has arrived, the per cent that is allocated, averaged over the arrivals
    there. ``moved_pct``: pods moved, in % of those placed, by a policy that moves.
    """

    allocated: dict[int, float]
    moved_pct: float | None = None


def arrivals(trace: Trace, seed: int) -> list[Shape]:
    """The pods in a random order, then more of them drawn at random, or fewer, until 130 % of the capacity is asked for."""
    draw = random.Random(seed)  # noqa: S311 - an experiment that can be repeated
    pods = list(trace.pods)
    draw.shuffle(pods)
    asked, most = sum(pod.demand_milli for pod in pods), INFLATED * trace.capacity_milli
    while asked > most:
        asked -= pods.pop(draw.randrange(len(pods))).demand_milli
    while True:
        pod = draw.choice(trace.pods)
        if asked + pod.milli > most:
            return pods
        asked += pod.demand_milli
        pods.append(pod)


def in_order(trace: Trace, seed: int) -> list[Node]:
    """The nodes in the order that decides ties."""
    nodes = list(trace.nodes)
    random.Random(seed + 1).shuffle(nodes)  # noqa: S311 - an experiment that can be repeated
    return nodes


def play(trace: Trace, seed: int, arrive: Callable[[Shape], bool]) -> tuple[dict[int, float], int]:
    """Let all that arrives be placed: by per cent arrived the per cent allocated, and how many thousandths were placed."""
    capacity = trace.capacity_milli
    arrived = placed = 0
    seen: dict[int, list[float]] = {}
    for pod in arrivals(trace, seed):
        arrived += pod.demand_milli
        placed += pod.demand_milli if arrive(pod) else 0
        seen.setdefault(round(100 * arrived / capacity), []).append(100 * placed / capacity)
    return {percent: fmean(values) for percent, values in seen.items()}, placed


def replay(trace: Trace, policy: Policy, seed: int, foresight: Foresight = DEFAULT) -> Replayed:
    """Place all that arrives. Raises BenchError: the board does not hold what was placed, or not where it is said to be."""
    capacity = trace.capacity_milli
    nodes = in_order(trace, seed)
    board = Board(nodes, trace.kinds)
    moving = _moving(board, seed, policy, foresight) if policy in BUDGETS else None
    arrive = _numbered(moving) if moving is not None else _arrive(board, trace, seed, policy, foresight)
    allocated, placed = play(trace, seed, lambda pod: arrive(pod) is not None)
    left = int(board.share_ppm.sum()) // 1000
    if left < 0 or board.share_ppm.min() < 0 or capacity - left != placed:
        raise BenchError(f"{policy}, seed {seed}: {placed} thousandths placed, but {capacity - left} are taken of the board")
    moved_pct = None
    if moving is not None:
        check_residents(moving, Board(nodes, trace.kinds))
        moved_pct = 100 * moving.moved / max(1, moving.placed)
    return Replayed(allocated, moved_pct)


def check_residents(moving: Moving[int], empty: Board) -> None:
    """Put all that stand on an empty board. Raises BenchError: a pod was lost, or the board is not what they make of it."""
    residents = moving.mover.residents
    if len(residents) != moving.placed:
        raise BenchError(f"moves: got {len(residents)} pods that stand, allowed: the {moving.placed} that were placed")
    packer = Packer(empty, Mix({}, empty.kinds), Settings())
    for key in residents:
        packer.take(*residents[key])
    board = moving.mover.packer.board
    for name in ("cpu_milli", "memory_mib", "vram_mib", "share_ppm"):
        if not (getattr(empty, name) == getattr(board, name)).all():
            raise BenchError(f"moves: the board's {name} is not what the pods that stand leave")


def _moving(board: Board, seed: int, policy: Policy, foresight: Foresight) -> Moving[int]:
    return Moving(Foresighted(board, Settings(), foresight, seed), BUDGETS[policy])


def _numbered(moving: Moving[int]) -> Arrive:
    number = count()
    return lambda shape: moving.arrive(next(number), shape)[0]


def _arrive(board: Board, trace: Trace, seed: int, policy: Policy, foresight: Foresight) -> Arrive:
    if policy is Policy.MICA:
        return Foresighted(board, Settings(), foresight, seed).arrive
    packer = Packer(board, peer_mix(policy, trace.pods, trace.kinds), peer_settings(policy, trace.nodes))

    def arrive(shape: Shape) -> Spot | None:
        spot = packer.choose(shape)
        if spot is not None:
            packer.take(shape, spot)
        return spot

    return arrive
