"""Who places: the policies, each with who stands where.

Invariant: the one list of policies. A key that was placed stands somewhere until it departs.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, Protocol

from mica.packing import (
    Board,
    Budget,
    Foresight,
    Foresighted,
    Mix,
    Moving,
    Node,
    Packer,
    Rule,
    Settings,
    Shape,
    Spot,
    typical,
)
from mica.simulation._fleet import Fleet


class Policy(StrEnum):
    """Best fit and FGD are peers; value looks one step ahead, mica plans and learns what stays.

    Those that move do so within a budget. FGD and value know the mix of all work beforehand, the others nothing.
    """

    BEST_FIT = "bestfit"
    FGD = "fgd"
    VALUE = "value"
    MICA = "mica"
    MICA_MOVING = "mica_moving"
    MICA_MOVING_5 = "mica_moving_5"


BUDGETS: Final = {Policy.MICA_MOVING: Budget(part=0.01), Policy.MICA_MOVING_5: Budget(part=0.05)}
"""How much is moved by those that move."""


class Placer(Protocol):
    """A policy with a board."""

    board: Board

    def arrive(self, key: int, shape: Shape, now_s: float) -> bool:
        """Place what comes; False: it fits nowhere."""

    def again(self, key: int, shape: Shape, now_s: float) -> bool:
        """The same for what came before and waits."""

    def depart(self, key: int, now_s: float) -> None:
        """What was placed under that key is no longer there."""


class _Short:
    """One choice after the other, by one rule."""

    def __init__(self, packer: Packer) -> None:
        self.board = packer.board
        self._packer = packer
        self._where: dict[int, tuple[Shape, Spot]] = {}

    def arrive(self, key: int, shape: Shape, now_s: float) -> bool:  # noqa: ARG002 - the port's
        spot = self._packer.choose(shape)
        if spot is not None:
            self._packer.take(shape, spot)
            self._where[key] = shape, spot
        return spot is not None

    def again(self, key: int, shape: Shape, now_s: float) -> bool:
        return self.arrive(key, shape, now_s)

    def depart(self, key: int, now_s: float) -> None:  # noqa: ARG002 - the port's
        self._packer.give(*self._where.pop(key))


class _Long:
    """With foresight, and moves within a budget. What has waited is not learned a second time."""

    def __init__(self, moving: Moving[int]) -> None:
        self.board = moving.foresighted.board
        self._moving = moving

    def arrive(self, key: int, shape: Shape, now_s: float) -> bool:
        return self._moving.arrive(key, shape, now_s)[0] is not None

    def again(self, key: int, shape: Shape, now_s: float) -> bool:
        return self._moving.place(key, shape, now_s)[0] is not None

    def depart(self, key: int, now_s: float) -> None:
        self._moving.depart(key, now_s)


def placer(policy: Policy, fleet: Fleet, work: Iterable[Shape], seed: int) -> Placer:
    """The policy on an empty fleet. ``work``: all that will come, for those that know its mix beforehand."""
    board = Board(fleet.nodes, len(fleet.models))
    if policy is Policy.MICA or policy in BUDGETS:
        foresighted = Foresighted(board, Settings(), Foresight(), seed)
        return _Long(Moving(foresighted, BUDGETS.get(policy, Budget(part=0.0))))
    return _Short(Packer(board, peer_mix(policy, work, board.kinds), peer_settings(policy, fleet.nodes)))


def peer_mix(policy: Policy, work: Iterable[Shape], kinds: int) -> Mix:
    """What the peers know beforehand: the mix of all the work; FGD's and best fit's without host memory."""
    if policy is Policy.VALUE:
        return Mix(typical(Counter(work)), kinds)
    counts = Counter(Shape(each.cpu_milli, 0, each.devices, each.vram_mib, each.share_ppm, each.kinds) for each in work)
    return Mix(typical(counts), kinds, with_memory=False)


def peer_settings(policy: Policy, nodes: Sequence[Node]) -> Settings:
    """Their rule, and the largest node, of which best fit counts its parts."""
    return Settings(
        rule={Policy.BEST_FIT: Rule.BEST_FIT, Policy.FGD: Rule.FGD}.get(policy, Rule.VALUE),
        node_cpu_milli=max(1, *(node.cpu_milli for node in nodes)),
        node_devices=max(1, *(len(node.devices) for node in nodes)),
    )
