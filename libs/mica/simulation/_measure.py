"""What is measured of a board at one moment.

Invariant: allocated, of no use and stranded are all parts of the same capacity; what is stranded is of no use to anything, and
so is counted in what is of no use, too.
"""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mica.packing import Board, Shape

PPM_OF_MILLI = 1000


class Sample(Struct, frozen=True):
    """A fleet at one moment, in % of its capacity; ``wanted`` is what would be in use were nobody refused."""

    at_s: float
    wanted: float
    allocated: float
    fragmentation: float
    stranded: float


class Measure:
    """Looks at boards of one fleet with one mix in mind: typical shapes and how often each comes."""

    def __init__(self, board: Board, weights: Mapping[Shape, float]) -> None:
        shapes = [shape for shape in weights if shape.devices]
        self._weight = np.array([weights[shape] for shape in shapes])
        needs = np.array([(s.devices, s.cpu_milli, s.memory_mib, s.vram_mib, s.share_ppm) for s in shapes], dtype=np.int64)
        self._needs = needs.reshape(-1, 5).T[:, :, None]
        self._allowed = np.array([[shape.allows(int(kind)) for kind in board.kind] for shape in shapes], dtype=bool)
        self._node = np.repeat(np.arange(board.nodes), np.diff(board.first))
        self.capacity_milli = PPM_OF_MILLI * board.devices

    def unusable_milli(self, board: Board) -> tuple[float, float]:
        """What is free and of no use, in thousandths of a device: on average over what comes, and to anything that comes.

        The first is FGD's fragmentation (Weng et al., USENIX ATC'23, section 4.1), to which work without devices can use no free
        device; host memory counts here. The second is what is called stranded.
        """
        free = board.share_ppm / PPM_OF_MILLI
        usable = self._usable(board)
        left = float(free.sum())
        return left - float(self._weight @ (usable @ free)), left - float(free[usable.any(axis=0)].sum())

    def _usable(self, board: Board) -> NDArray[np.bool_]:
        """By shape and device, whether the device is one of those that the shape could go to."""
        if not len(self._weight):
            return np.zeros((0, board.devices), dtype=bool)
        devices, cpu_milli, memory_mib, vram_mib, share_ppm = self._needs
        fits = self._allowed & (board.share_ppm >= share_ppm) & (board.vram_mib >= vram_mib)
        until = np.concatenate([np.zeros((len(fits), 1), dtype=np.int64), np.cumsum(fits, axis=1)], axis=1)
        found = until[:, board.first[1:]] - until[:, board.first[:-1]]
        node = (found >= devices) & (board.cpu_milli >= cpu_milli) & (board.memory_mib >= memory_mib)
        usable: NDArray[np.bool_] = fits & node[:, self._node]
        return usable

    def sample(self, at_s: float, board: Board, wanted_milli: int) -> Sample:
        """The board now."""
        unusable, stranded = self.unusable_milli(board)
        taken = self.capacity_milli - float(board.share_ppm.sum()) / PPM_OF_MILLI
        return Sample(at_s, *(round(100 * each / self.capacity_milli, 4) for each in (wanted_milli, taken, unusable, stranded)))
