"""What sizing can answer. Invariant: a size comes with everything that was assumed for it, an impossible one with its field."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

GIB: Final = 1 << 30


class Unsizable(Struct, frozen=True):
    """Why there is no size: ``field`` held ``given`` where ``allowed`` would have passed."""

    field: str
    given: str
    allowed: str


class Need(Struct, frozen=True, kw_only=True):
    """What a slice has to have on each of its devices.

    ``share_ppm``: on any device; None: nothing says how much. ``shares``: by model of device, where it depends on that: then a
    model that is not in it can not be judged, and one with 0 is too slow even when it is whole. ``said``: the assumptions, and
    what the size rests on, each a few words.
    """

    vram_bytes: int
    share_ppm: int | None = None
    shares: Mapping[str, int] = field(default_factory=dict)
    said: tuple[str, ...] = ()


def gib(count: float) -> str:
    """Bytes for people."""
    return f"{count / GIB:.3g} GiB" if count >= GIB else f"{count / (1 << 20):.3g} MiB"
