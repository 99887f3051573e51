"""What runs beside a slice slows it down. Invariant: 0 for a hardware partition and for a slice that has the device to itself."""

from typing import Final

from mica.events import PPM, Mode

SLOWDOWN: Final = 0.072
"""How much longer p99 gets beside neighbours that keep the rest of the device busy: 7.2 % beside best-effort training (Tally,
ASPLOS'25). In proportion to the rest; at a quarter of the device that is 5.4 %, FCSP publishes 4.74 % there."""


def slowdown(share_ppm: int, mode: Mode | None) -> float:
    """By which factor times grow when the rest of the device is busy, which nobody can rule out beforehand."""
    return 1.0 if mode is Mode.HARDWARE else 1.0 + SLOWDOWN * (PPM - share_ppm) / PPM
