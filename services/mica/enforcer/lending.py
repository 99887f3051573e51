"""What a slice may borrow while its neighbours are idle: a burst slice, or one that was given a ceiling above its share.

Invariant: pure; nobody's share is lent while it is used.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from mica.events import PPM, Tier

PERIOD_S: Final = 0.1
"""How often lending is decided anew while a burst slice is at work, and so how fast a loan is withdrawn."""


PERIOD_NS: Final = int(PERIOD_S * 1e9)


class Neighbour(Struct, frozen=True):
    """One slice of a device, as lending sees it. ``active``: it used the device in the last period, or waited.

    ``ceiling_ppm``: the most that it was given leave to use, 0 where nobody has said.
    """

    tier: Tier
    share_ppm: int
    active: bool
    ceiling_ppm: int = 0

    @property
    def most_ppm(self) -> int:
        """What it may have at most, whoever is idle; its share where nothing is lent to it."""
        return max(self.share_ppm, self.ceiling_ppm or (PPM if self.tier is Tier.BURST else 0))

    @property
    def borrows(self) -> bool:
        """Whether idle time may be lent to it."""
        return self.most_ppm > self.share_ppm or self.tier is Tier.BURST


def ceilings(neighbours: Mapping[str, Neighbour]) -> dict[str, int]:
    """Ceilings of the device's slices that borrow, by slice id.

    What the active slices leave of the device is divided among the active borrowers in proportion to their shares, so that all
    ceilings together never exceed the device, and none exceeds its own. An idle one keeps its share until it has been seen at
    work.
    """
    active = [neighbour for neighbour in neighbours.values() if neighbour.active]
    idle_ppm = max(0, PPM - sum(neighbour.share_ppm for neighbour in active))
    borrowers_ppm = sum(neighbour.share_ppm for neighbour in active if neighbour.borrows)
    return {
        id_: min(
            neighbour.most_ppm, neighbour.share_ppm + (idle_ppm * neighbour.share_ppm // borrowers_ppm if neighbour.active else 0)
        )
        for id_, neighbour in neighbours.items()
        if neighbour.borrows
    }
