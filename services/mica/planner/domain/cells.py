"""Cells: some nodes of one pool, as boards on which ``mica.packing`` finds places.

Owns the way between documents and arrays. Invariant: after ``refresh`` of a node its places on the boards are what its claims
leave free, whatever was there before; what was closed is closed until then.
"""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import numpy as np

from mica.events import Device, Mode
from mica.packing import NODE_DEVICES_MAX, Board, Foresight, Foresighted, Learner, Node, Settings, Shape, Spot
from mica.planner.domain.asks import Pins
from mica.planner.domain.nodes import NodeState, Place
from mica.planner.domain.sorts import MIB, UNLIMITED, Sorts, free_of, switching_of, usable

CELL_NODES: Final = 1_024
"""So many nodes are looked through for one place: what one decision costs does not grow with the fleet."""
FULL_MAX: Final = 1_024
"""Of so many shapes a shelf remembers that they have no place."""
VRAM_MIB_MAX: Final = (1 << 24) - 1
SOFTWARE: Final = (Mode.FCSP, Mode.TIMESLICE)


class Shelf:
    """A cell's devices as they are to slices carved in one mode."""

    def __init__(self, mode: Mode, nodes: Sequence[Node], room: int, learner: Learner) -> None:
        self.mode = mode
        self.board = board = Board(nodes, room)
        self._kind, self._vram_mib, self._share_ppm = (
            board.kind.data,
            board.vram_mib.data,
            board.share_ppm.data,
        )
        self._cpu_milli, self._memory_mib = board.cpu_milli.data, board.memory_mib.data
        self._first: list[int] = board.first.tolist()
        self._whole_mib: list[int] = board.vram_whole_mib.tolist()
        self._freed = 0
        self._full: dict[Shape, int] = {}
        self.foresighted = Foresighted(self.board, Settings(), Foresight(), learner=learner)

    def is_full_for(self, shape: Shape) -> bool:
        """Whether the shape had no place when nothing had come free since: looking again is in vain."""
        return self._full.get(shape) == self._freed

    def had_no_place(self, shape: Shape) -> None:
        """The shape has no place as things are."""
        if len(self._full) >= FULL_MAX:
            self._full.clear()
        self._full[shape] = self._freed

    def put(self, number: int, device: int, sort: int, free: tuple[int, int]) -> None:
        """Say what is free (bytes, ppm) on a device of a node; nothing of a sort that the board has no room for."""
        at = self._first[number] + device
        if sort >= self.board.kinds:
            sort, free = 0, (0, 0)
        vram_mib, share_ppm = min(free[0] // MIB, self._whole_mib[at]), free[1]
        was = self._kind[at], self._vram_mib[at], self._share_ppm[at]
        if was != (sort, vram_mib, share_ppm):
            if was[0] != sort or vram_mib > was[1] or share_ppm > was[2]:
                self._freed += 1
            self._kind[at], self._vram_mib[at], self._share_ppm[at] = sort, vram_mib, share_ppm
            self.board.version[number] += 1

    def put_host(self, number: int, cpu_milli: int, memory_mib: int) -> None:
        """Say what is free of a node's own processors and memory."""
        if (self._cpu_milli[number], self._memory_mib[number]) != (cpu_milli, memory_mib):
            self._freed += 1
            self._cpu_milli[number], self._memory_mib[number] = cpu_milli, memory_mib
            self.board.version[number] += 1

    def whole_mib(self, number: int) -> list[int]:
        """What the devices of a node have in all."""
        return self._whole_mib[self._first[number] : self._first[number + 1]]

    def close(self, spot: Spot) -> None:
        """Offer the devices of a spot no more."""
        for device in spot.devices:
            self.board.vram_mib[self.board.first[spot.node] + device] = 0
        self.board.version[spot.node] += 1


class Cell:
    """Some nodes of a pool."""

    def __init__(self, nodes: Sequence[NodeState], sorts: Sorts, learners: dict[Mode, Learner], pins: Pins) -> None:
        self.nodes = nodes
        self.number = {node.name: number for number, node in enumerate(nodes)}
        self.pool = nodes[0].pool
        self._sorts = sorts
        self._places = [[claims for _, claims in node.places] for node in nodes]
        bare = [
            Node(UNLIMITED, UNLIMITED, tuple((0, usable_mib(each.device)) for each in places if each.device is not None))
            for places in self._places
        ]
        self.shelves = {mode: Shelf(mode, bare, sorts.room, learners[mode]) for mode in SOFTWARE}
        for node in nodes:
            self.refresh(node, None, pins)

    def holds(self, node: NodeState) -> bool:
        """Whether the node is here, with the devices that it had."""
        if not self.keeps(node) or node.inventory is None:
            return False
        number = self.number[node.name]
        ours, whole = self._places[number], self.shelves[Mode.FCSP].whole_mib(number)
        return [(node.devices[each.id], usable_mib(each)) for each in node.inventory.devices] == list(
            zip(ours, whole, strict=True)
        )

    def keeps(self, node: NodeState) -> bool:
        """Whether the node is one of its own, with whatever devices."""
        number = self.number.get(node.name)
        return number is not None and self.nodes[number] is node and node.pool == self.pool

    def refresh(self, node: NodeState, device_ids: AbstractSet[str] | None, pins: Pins) -> None:
        """Take over what is free on some devices of the node, or on all of them."""
        number = self.number[node.name]
        switching = pins.switching(node.name, node.pool)
        memory = node.free_host_memory("")
        host = _at_most(node.free_cpu_milli("")), _at_most(memory // MIB if memory is not None else None)
        for shelf in self.shelves.values():
            shelf.put_host(number, *host)
        for index, (_, claims) in node.numbered(device_ids):
            assert claims.device is not None
            in_time = claims.mode("") is Mode.TIMESLICE
            sort = self._sorts.number(claims.device, switching_of(claims, switching), in_time=in_time)
            for mode, shelf in self.shelves.items():
                shelf.put(number, index, sort, free_of(claims, mode))

    def room_for_gang(self, shelf: Shelf, shape: Shape) -> Iterator[tuple[NodeState, list[str]]]:
        """The nodes with room for the shape, the best for it first, and their devices with room for one member.

        Last those that have it on devices of several sorts together, which the board does not count as one place.
        """
        packer = shelf.foresighted.packer
        found = packer.room(shape)
        if found is None:
            return
        room, able = found
        numbers, first = able.nonzero()[0], shelf.board.first
        for number in numbers[(-packer.scores(shape)[numbers].astype(np.int64)).argsort(kind="stable")].tolist():
            places = zip(self._places[number], room[first[number] : first[number + 1]].tolist(), strict=True)
            yield self.nodes[number], [claims.device.id for claims, has in places if has and claims.device is not None]

    def next_best(self, shelf: Shelf, shape: Shape, most: int) -> Iterator[tuple[Place, float]]:
        """The nodes that are good for the shape, the best first, each with what the shape would make useless there."""
        packer = shelf.foresighted.packer
        scores = packer.scores(shape)
        for number in (-scores.astype(np.int64)).argpartition(min(most, len(scores) - 1))[:most].tolist():
            found = packer.on_node(shape, number)
            if found is not None:
                spot = found[1]
                yield next(self.at(spot)), -packer.gain(shape, spot)

    def freest(self, shelf: Shelf) -> Iterator[tuple[int, int, int, int]]:
        """Of every sort the device with the most memory, and that with the most compute: sort, which of both, how much, where."""
        board = shelf.board
        for which, (found, free) in enumerate(zip(board.freest(), (board.vram_mib, board.share_ppm), strict=True)):
            for sort, at in enumerate(found):
                if at >= 0:
                    yield sort, which, int(free[at]), at

    def place(self, at: int) -> Place:
        """The device with that number on the boards."""
        first = self.shelves[Mode.FCSP].board.first
        number = int(np.searchsorted(first, at, side="right")) - 1
        return self.nodes[number], self._places[number][at - int(first[number])]

    def at(self, spot: Spot) -> Iterator[Place]:
        """The devices of a spot."""
        return ((self.nodes[spot.node], self._places[spot.node][device]) for device in spot.devices)

    def spot(self, node: str, device_ids: Iterable[str]) -> Spot:
        """The spot that those devices of a node are."""
        number = self.number[node]
        at = {each.device.id: index for index, each in enumerate(self._places[number]) if each.device is not None}
        return Spot(number, tuple(at[device_id] for device_id in device_ids))


def usable_mib(device: Device) -> int:
    """What slices can have of its memory, in MiB rounded down, at least 1, and as much as a board can tell."""
    return min(VRAM_MIB_MAX, max(1, usable(device) // MIB))


def _at_most(amount: int | None) -> int:
    """What a board has of something that a node has so much of; None: not limited."""
    return UNLIMITED if amount is None else min(UNLIMITED, max(0, amount))


def is_too_large(node: NodeState) -> bool:
    """Whether a board has no room for a node with so many devices."""
    return len(node.places) > NODE_DEVICES_MAX
