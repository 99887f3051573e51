"""Sorts of devices, and what a request wants of each.

Owns what can be said of a device without looking at what is on it. Invariant: devices of one sort are alike to every request, as
long as as much is free on them; a sort keeps its number.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct, json

from mica.events import Device, Mode, RequestSlice, Switching
from mica.packing import Shape
from mica.planner.domain import windows
from mica.planner.domain.asks import may_switch
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.misfits import Misfit
from mica.planner.domain.modes import choose_modes, has_stronger, would_switch
from mica.planner.domain.packing import PPM, proportional_share
from mica.planner.domain.sizing import Size
from mica.vendors import shares_in_space

MIB: Final = 1 << 20
UNLIMITED: Final = 1 << 30
"""What the board has of a node's CPU (milli) or memory (MiB) where it is not limited; it has, and is asked, no more."""
ROOM: Final = 16
"""Numbers of sorts that a table has to begin with."""

REMEMBERED: Final = 1 << 18
"""Devices whose make is remembered."""


class Sort(Struct, frozen=True):
    """``sample`` is one device of it, ``switching`` what policies say of those with no slice on them.

    ``in_time``: it is carved in time although it could be in space.
    """

    sample: Device
    switching: Switching
    in_time: bool


class Want(Struct, frozen=True):
    """What a request is to the board of a pool: equal wants are served alike. ``members`` are those of one node."""

    request: RequestSlice
    """Without what tells it from others of its kind."""
    size: Size
    modes: AbstractSet[Mode]
    members: int


Key = tuple[object, ...]
Need = tuple[int, int]
"""Memory (MiB) and compute (ppm) of one member."""


def key_of(want: Want) -> Key:
    """What two wants must have in common to be alike; hashable."""
    size, request = want.size, want.request
    shares = tuple(sorted(size.shares.items()))
    return (
        size.vram_bytes, size.share_ppm, shares, want.modes, want.members, request.vendor, request.models, request.runtime,
        request.cpu_milli, request.host_memory_bytes,
    )  # fmt: skip


def usable(device: Device) -> int:
    """What slices can have of its memory, in bytes."""
    return device.vram_bytes - device.reserve_bytes


def free_of(claims: DeviceClaims, mode: Mode) -> tuple[int, int]:
    """Memory (bytes) and compute (ppm) that a slice carved in ``mode`` could have; nothing where it is carved otherwise."""
    device, carved = claims.device, claims.mode("")
    if device is None or carved not in (None, mode):
        return 0, 0
    free = max(0, usable(device) - claims.vram_bytes)
    if mode is Mode.TIMESLICE:
        taken = [window for claim in claims.claims.values() for window in claim.windows]
        return free, windows.largest_share(taken)
    return free, max(0, PPM - claims.share_ppm)


def switching_of(claims: DeviceClaims, said: Switching) -> Switching:
    """What a policy comes to on a device: what somebody holds is carved already, whatever is ``said`` of idle ones."""
    if claims.device is None or not claims.device.switchable:
        return Switching.NEVER
    return Switching.AUTO if claims.claims else said


class Sorts:
    """The table of sorts."""

    def __init__(self) -> None:
        self._numbers: dict[Key, int] = {}
        self._makes: dict[Key, int] = {}
        self._make_of: dict[int, tuple[Device, int]] = {}
        self.all: list[Sort] = []

    @property
    def room(self) -> int:
        """How many numbers arrays by sort have: a power of two, so that they are seldom made anew."""
        return max(ROOM, 1 << (len(self.all) - 1).bit_length()) if self.all else ROOM

    def number(self, device: Device, switching: Switching, *, in_time: bool) -> int:
        """The device's sort."""
        in_time = in_time and shares_in_space(device)
        key = (self._make(device), in_time, switching)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.all)
            self.all.append(Sort(device, switching, in_time))
        return number

    def _make(self, device: Device) -> int:
        """What the device is by itself; remembered by the object, since devices are compared at every change of their node."""
        known = self._make_of.get(id(device))
        if known is not None and known[0] is device:
            return known[1]
        if len(self._make_of) >= REMEMBERED:
            self._make_of.clear()
        key = (
            device.vendor, device.model, device.vram_bytes, device.reserve_bytes, device.runtimes, device.partitioned,
            device.switchable, json.encode(device.profiles), device.compute_slices, tuple(sorted(device.budgets.items())),
            shares_in_space(device),
        )  # fmt: skip
        make = self._makes.setdefault(key, len(self._makes))
        self._make_of[id(device)] = (device, make)
        return make

    def shapes(self, want: Want, mode: Mode, prices: Mapping[str, float]) -> tuple[Shape, ...]:
        """What it needs of every sort when it is carved in ``mode``; nothing where it may be nowhere.

        First only where nothing has to be switched and no stronger mode is lost, then where that is so of the latter, then
        wherever it may be; and of each first only where it is cheapest, by the ``prices`` of models.
        """
        needs = [_needs(sort, want, mode) for sort in self.all]
        losses = [_losses(sort, mode) for sort in self.all]
        levels = sorted({loss for loss, need in zip(losses, needs, strict=True) if need is not None})
        tables = [each for level in levels for each in self._by_price(_up_to(level, losses, needs), prices)]
        return tuple(_shape(table, want) for table in dict.fromkeys(tables) if any(table))

    def _by_price(self, table: Sequence[Need | None], prices: Mapping[str, float]) -> Iterator[tuple[Need | None, ...]]:
        """The table with the cheapest sorts only, then with those that cost the next more, to the end."""
        costs = [0.0 if need is None else self._cost(sort, need, prices) for need, sort in zip(table, self.all, strict=True)]
        for most in sorted({cost for cost, need in zip(costs, table, strict=True) if need is not None}):
            yield tuple(need if cost <= most else None for need, cost in zip(table, costs, strict=True))

    @staticmethod
    def _cost(sort: Sort, need: Need, prices: Mapping[str, float]) -> float:
        part = max(need[0] * MIB / usable(sort.sample), need[1] / PPM)
        return prices.get(sort.sample.model, 0.0) * part

    def sizes(self, want: Want) -> tuple[Size | None, ...]:
        """By sort, what one member needs there in a partition; None where it may not be in one."""
        return tuple(_size(sort, want) for sort in self.all)


def _size(sort: Sort, want: Want) -> Size | None:
    modes = _modes(sort, want)
    size = want.size.on(sort.sample) if Mode.HARDWARE in modes else None
    return None if isinstance(size, Misfit) else size


def _shape(table: Sequence[Need | None], want: Want) -> Shape:
    given = [need for need in table if need is not None]
    vram_mib, share_ppm = max(vram for vram, _ in given), sum(share for _, share in given) // len(given)
    cpu_milli = want.members * want.request.cpu_milli
    memory_mib = want.members * want.request.host_memory_bytes // MIB
    host = min(UNLIMITED, cpu_milli), min(UNLIMITED, memory_mib)
    return Shape(*host, want.members, vram_mib, share_ppm, by_kind=tuple(table))


def _losses(sort: Sort, mode: Mode) -> tuple[bool, bool]:
    """Whether a stronger mode is lost with an empty device of the sort, and whether it has to be switched first."""
    return has_stronger(sort.sample, mode), would_switch(DeviceClaims(sort.sample), mode)


def _up_to(level: tuple[bool, bool], losses: Sequence[tuple[bool, bool]], needs: Sequence[Need | None]) -> list[Need | None]:
    """The table with the sorts only on which no more is lost than that."""
    return [need if loss <= level else None for need, loss in zip(needs, losses, strict=True)]


def _needs(sort: Sort, want: Want, mode: Mode) -> Need | None:
    """Memory and compute (ppm) of one member, or None.

    Memory is in MiB, rounded down as what is free is: what fits to the byte fits here, and the rule finds out the rest.
    """
    device, modes = sort.sample, _modes(sort, want)
    if mode not in modes and not (sort.in_time and mode is Mode.TIMESLICE and mode in want.modes and modes[-1:] == (Mode.FCSP,)):
        return None
    size = want.size.on(device)
    if isinstance(size, Misfit) or size.vram_bytes > usable(device):
        return None
    share_ppm = size.share_ppm or proportional_share(size.vram_bytes, usable(device))
    if mode is Mode.TIMESLICE:
        share_ppm = windows.length_of(share_ppm) // windows.NS_PER_PPM
    return max(1, size.vram_bytes // MIB), share_ppm


def _modes(sort: Sort, want: Want) -> tuple[Mode, ...]:
    """The modes in which an empty device of the sort would be looked at; none where it may not be taken at all."""
    request, sample = want.request, sort.sample
    if request.vendor not in (None, sample.vendor) or (request.models and sample.model not in request.models):
        return ()
    switching = may_switch(sort.switching, want.modes)
    modes = choose_modes(DeviceClaims(sort.sample), "", want.request.runtime, want.modes, may_switch=switching)
    return () if isinstance(modes, Misfit) else modes
