"""What a burst slice may borrow while its neighbours are idle.

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
    """One slice of a device, as lending sees it. ``active``: it used the device in the last period, or waited."""

    tier: Tier
    share_ppm: int
    active: bool


def ceilings(neighbours: Mapping[str, Neighbour]) -> dict[str, int]:
    """Ceilings of the device's burst slices, by slice id.

    What the active slices leave of the device is divided among the active burst slices in proportion to their shares, so that all
    ceilings together never exceed the device. An idle burst slice keeps its share until it has been seen at work.
    """
    active = [neighbour for neighbour in neighbours.values() if neighbour.active]
    idle_ppm = max(0, PPM - sum(neighbour.share_ppm for neighbour in active))
    borrowers_ppm = sum(neighbour.share_ppm for neighbour in active if neighbour.tier is Tier.BURST)
    return {
        id_: neighbour.share_ppm + (idle_ppm * neighbour.share_ppm // borrowers_ppm if neighbour.active else 0)
        for id_, neighbour in neighbours.items()
        if neighbour.tier is Tier.BURST
    }
