"""The partitions that a device offers. Pure.

Invariant: what the device says goes before the catalogue. The whole device is a profile, too: it is what is there while nothing
else is. Virtual functions share the compute units in time, so that a function's are its part of them on average.
"""

from typing import Final

from msgspec import Struct

from mica.events import PartitionProfile
from mica.hardware import Model

WHOLE: Final = "whole"
TILES: Final = "tiles"
TILE: Final = "tile"
FUNCTIONS: Final = "vf"
SLICES: Final = 16
WHOLE_ID: Final = 0
TILE_ID: Final = 64
FUNCTIONS_MOST: Final = 16
USUAL_NUMBERS: Final = (1, 2, 4, 8, 16)
_MIB: Final = 1 << 20
_MEMORY_PPM: Final = 50_000
"""By how much memory may differ from the catalogue's before it is odd."""


class Offer(Struct, frozen=True, kw_only=True):
    """What a device has. ``functions``: how many can be made; ``living``: how many there are now."""

    vram_bytes: int
    cores: int
    tiles: int = 1
    functions: int = 0
    living: int = 0
    model: Model | None = None


def layout_of(number: int) -> str:
    """The layout of ``number`` virtual functions, which is also its profile's name."""
    return f"{FUNCTIONS}{number}"


def number_of(layout: str) -> int:
    """The other way round; 0 where it is no layout of virtual functions."""
    rest = layout.removeprefix(FUNCTIONS)
    return int(rest) if rest != layout and rest.isdecimal() else 0


def partition_profiles(offer: Offer) -> tuple[PartitionProfile, ...]:
    """All of them, the whole device first."""
    numbers = sorted({*_numbers(offer), *([offer.living] if offer.living else [])})
    tiles = [_profile(offer, TILE, TILE_ID, TILES, offer.tiles)] if offer.tiles > 1 else []
    functions = [_profile(offer, layout_of(number), number, layout_of(number), number) for number in numbers]
    whole = _profile(offer, WHOLE, WHOLE_ID, WHOLE, 1, size=SLICES)
    return (whole, *tiles, *functions)


def oddities(offer: Offer, functions: int, pci_device_id: int) -> tuple[str, ...]:
    """Where a device and the catalogue contradict each other. ``functions``: how many the device says that it can have."""
    model = offer.model
    if model is None:
        return (f"PCI device id {pci_device_id:#06x}: not in the catalogue",)
    found: list[str] = []
    if abs(offer.vram_bytes - model.usable_bytes) * 1_000_000 > _MEMORY_PPM * model.usable_bytes:
        found.append(f"memory: {offer.vram_bytes} bytes, catalogue: {model.usable_bytes}")
    if offer.cores and offer.cores != model.multiprocessors:
        found.append(f"Xe cores: {offer.cores}, catalogue: {model.multiprocessors}")
    tiles = next((each.max_instances for each in model.profiles if each.layout == TILES), 1)
    if offer.tiles != tiles:
        found.append(f"tiles: {offer.tiles}, catalogue: {tiles}")
    most = max((number_of(each.layout) for each in model.profiles), default=0)
    if functions < most:
        found.append(f"virtual functions: at most {functions}, catalogue: {most}")
    return tuple(found)


def _numbers(offer: Offer) -> list[int]:
    most = min(offer.functions, FUNCTIONS_MOST)
    known = [number_of(each.layout) for each in offer.model.profiles] if offer.model is not None else []
    numbers = [number for number in known if number] or [
        number for number in USUAL_NUMBERS if number == 1 or number % offer.tiles == 0
    ]
    return [number for number in numbers if number <= most]


def _profile(  # noqa: PLR0913 - one for each field that tells profiles apart
    offer: Offer, name: str, profile_id: int, layout: str, number: int, *, size: int = 1
) -> PartitionProfile:
    return PartitionProfile(
        name=name,
        profile_id=profile_id,
        size=size,
        starts=tuple(range(number)),
        vram_bytes=_bytes(offer, layout, number),
        compute_slices=max(1, SLICES // number),
        multiprocessors=max(1, offer.cores // number) if offer.cores else 0,
        max_instances=number,
        layout=layout,
    )


def _bytes(offer: Offer, layout: str, number: int) -> int:
    """What each gets; for virtual functions what the catalogue has, else their part of 15/16 of it, in whole MiB."""
    equal = offer.vram_bytes // number
    if not layout.startswith(FUNCTIONS):
        return equal
    known = next((each.memory_bytes for each in offer.model.profiles if each.layout == layout), 0) if offer.model else 0
    return min(known or equal // 16 * 15, equal) // _MIB * _MIB
