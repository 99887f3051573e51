"""Bin packing at fleet scale: where work goes best, and what is then left for what is still to come.

Owns the measure and the arrays; knows nothing of events or services, and no clock. Invariant: pure, and equal input gives equal
choices.
"""

from mica.packing._board import NODE_DEVICES_MAX, Board, Node, Spot
from mica.packing._errors import PackingError
from mica.packing._foresight import Foresight, Foresighted, Outlook, Plan, Seen, Why
from mica.packing._learner import Learner
from mica.packing._mix import Mix, typical
from mica.packing._mover import MOVES_MAX, Move, Mover, Room
from mica.packing._moving import Budget, Moving
from mica.packing._packer import NOWHERE, Packer, Rule, Settings
from mica.packing._residents import Residents
from mica.packing._shape import Shape

__all__ = [
    "MOVES_MAX",
    "NODE_DEVICES_MAX",
    "NOWHERE",
    "Board",
    "Budget",
    "Foresight",
    "Foresighted",
    "Learner",
    "Mix",
    "Move",
    "Mover",
    "Moving",
    "Node",
    "Outlook",
    "Packer",
    "PackingError",
    "Plan",
    "Residents",
    "Room",
    "Rule",
    "Seen",
    "Settings",
    "Shape",
    "Spot",
    "Why",
    "typical",
]
