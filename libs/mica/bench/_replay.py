"""A trace's pods arrive one after the other, and a policy places each once: FGD's method (Weng et al., USENIX ATC'23, section 6).

Invariant: baselines and mica get the same arrivals on the same nodes in the same order for the same seed, and a pod is counted as
placed only when the board had room for it.
"""

import random
from collections import Counter
from collections.abc import Callable
from statistics import fmean

from mica.bench._errors import BenchError
from mica.bench._trace import WHOLE_MILLI, Trace
from mica.packing import Board, Foresight, Foresighted, Packer, Settings, Shape, Spot
from mica.simulation import Policy, peer_mix, peer_settings

Arrive = Callable[[Shape], Spot | None]
DEFAULT = Foresight()
INFLATED = 1.3
"""So many times the capacity arrives."""


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


def replay(trace: Trace, policy: Policy, seed: int, foresight: Foresight = DEFAULT) -> dict[int, float]:
    """By per cent of the capacity that has arrived, the per cent that is allocated, averaged over the arrivals there."""
    capacity = trace.capacity_milli
    board, arrive = _arrive(trace, policy, seed, foresight)
    arrived = placed = 0
    seen: dict[int, list[float]] = {}
    for pod in arrivals(trace, seed):
        arrived += pod.demand_milli
        placed += pod.demand_milli if arrive(pod) is not None else 0
        seen.setdefault(round(100 * arrived / capacity), []).append(100 * placed / capacity)
    left = int(board.share_ppm.sum()) // 1000
    if left < 0 or board.share_ppm.min() < 0 or capacity - left != placed:
        raise BenchError(f"{policy}, seed {seed}: {placed} thousandths placed, but {capacity - left} are taken of the board")
    return {percent: fmean(values) for percent, values in seen.items()}


def _arrive(trace: Trace, policy: Policy, seed: int, foresight: Foresight) -> tuple[Board, Arrive]:
    if policy is Policy.LASTING:
        raise BenchError(f"policy {policy}: got arrivals that never leave, allowed with --over-time")
    nodes = list(trace.nodes)
    random.Random(seed + 1).shuffle(nodes)  # noqa: S311 - the order decides ties
    board = Board(nodes, trace.kinds)
    if policy is Policy.MICA:
        devices = Counter(kind for node in nodes for kind, _ in node.devices)
        kinds = {kind: WHOLE_MILLI * count for kind, count in devices.items()}
        return board, Foresighted(board, kinds, Settings(), foresight, seed).arrive
    packer = Packer(board, peer_mix(policy, trace.pods, trace.kinds), peer_settings(policy, trace.nodes))

    def arrive(shape: Shape) -> Spot | None:
        spot = packer.choose(shape)
        if spot is not None:
            packer.take(shape, spot)
        return spot

    return board, arrive
