"""The nodes that are simulated. Invariant: there is a device; each device's kind has a name."""

import random

from msgspec import Struct

from mica.packing import Node
from mica.simulation._errors import SimulationError

WHOLE_MILLI = 1000


class Fleet(Struct, frozen=True):
    """Nodes in the order that decides ties, and the models that the numbers of their devices' kinds stand for."""

    nodes: tuple[Node, ...]
    models: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise SimulationError: there is no device at all."""
        if not any(node.devices for node in self.nodes):
            raise SimulationError(f"fleet: got {len(self.nodes)} nodes without any device, allowed: at least one device")

    @property
    def capacity_milli(self) -> int:
        """All devices, in thousandths of one."""
        return WHOLE_MILLI * sum(len(node.devices) for node in self.nodes)

    def shuffled(self, seed: int) -> "Fleet":
        """The same nodes in an order of their own, which decides ties."""
        nodes = list(self.nodes)
        random.Random(seed).shuffle(nodes)  # noqa: S311 - an experiment that can be repeated
        return Fleet(tuple(nodes), self.models)


def thinned(fleet: Fleet, part: float, seed: int) -> Fleet:
    """So large a part of the fleet, and of nodes that are alike as nearly as whole nodes allow.

    Every so many-th of the nodes sorted by what they are, from a random one on. Raises SimulationError: no device is left.
    """
    if not 0 < part <= 1:
        raise SimulationError(f"part of the fleet: got {part:g}, allowed: more than 0, at most 1")
    begin = random.Random(seed).random()  # noqa: S311 - an experiment that can be repeated
    alike = sorted(fleet.nodes, key=lambda node: (node.devices, node.cpu_milli, node.memory_mib))
    kept = tuple(node for i, node in enumerate(alike) if int((i + 1) * part + begin) > int(i * part + begin))
    return Fleet(kept, fleet.models)
