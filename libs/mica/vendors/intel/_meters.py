"""Readings that need two looks: how busy a device was, what it drew, which errors are new.

Invariant: the first look gives nothing; counters that run backwards (a driver was loaded anew) count as a first look.
"""

import threading
from collections.abc import Iterable
from typing import Final

from mica.vendors.intel import _structures as zes
from mica.vendors.intel._library import Sysman

PPM: Final = 1_000_000
_NOT_OF_THE_DEVICE: Final = frozenset({0, 1})
"""Categories of RAS errors that are no faults of its hardware: resets, and what programs did."""

_Marks = tuple[tuple[int, int], ...]


class Meters:
    """What was read last of each device, by its PCI address. Used from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[str, _Marks] = {}
        self._energy: dict[str, _Marks] = {}
        self._errors: dict[str, int] = {}

    def utilisation_ppm(self, sysman: Sysman, address: str, handle: int) -> int | None:
        """How busy its engines were since the last look, on average over its tiles. Raises VendorError."""
        rates = self._rates(self._engines, address, _engine_counters(sysman, handle))
        return min(PPM, round(sum(rates) / len(rates) * PPM)) if rates else None

    def power_mw(self, sysman: Sysman, address: str, handle: int) -> int | None:
        """What it drew since the last look, on average. Raises VendorError."""
        domains = sysman.parts("zesDeviceEnumPowerDomains", handle)[:1]  # the first one is the card's
        counters = (sysman.optional("zesPowerGetEnergyCounter", domain, zes.Counter()) for domain in domains)
        rates = self._rates(self._energy, address, (each for each in counters if each is not None))
        return round(rates[0] * 1000) if rates else None

    def new_errors(self, sysman: Sysman, address: str, handle: int) -> int:
        """Errors that were not corrected, since the last look. Raises VendorError."""
        total = 0
        for each in sysman.parts("zesDeviceEnumRasErrorSets", handle):
            properties = sysman.optional("zesRasGetProperties", each, zes.RasProperties())
            if properties is None or properties.type != zes.UNCORRECTABLE:
                continue
            state = sysman.optional("zesRasGetState", each, zes.RasState(), 0)
            categories = enumerate(state.category if state is not None else ())
            total += sum(count for category, count in categories if category not in _NOT_OF_THE_DEVICE)
        with self._lock:
            before = self._errors.get(address, total)
            self._errors[address] = total
        return max(0, total - before)

    def _rates(self, marks: dict[str, _Marks], address: str, counters: Iterable[zes.Counter]) -> list[float]:
        """By how much each counter grew in a unit of its own time."""
        now = tuple((each.value, each.timestamp) for each in counters)
        with self._lock:
            before = marks.get(address, ())
            marks[address] = now
        pairs = list(zip(before, now, strict=False)) if len(before) == len(now) else []
        if any(late[0] < early[0] or late[1] <= early[1] for early, late in pairs):
            return []
        return [(late[0] - early[0]) / (late[1] - early[1]) for early, late in pairs]


def _engine_counters(sysman: Sysman, handle: int) -> list[zes.Counter]:
    """Of the groups of one kind, the one that says most."""
    by_kind: dict[int, list[int]] = {}
    for engine in sysman.parts("zesDeviceEnumEngineGroups", handle):
        properties = sysman.optional("zesEngineGetProperties", engine, zes.EngineProperties())
        if properties is not None:
            by_kind.setdefault(properties.type, []).append(engine)
    kind = next((each for each in zes.ENGINES_COMPUTE if each in by_kind), None)
    counters = (sysman.optional("zesEngineGetActivity", engine, zes.Counter()) for engine in by_kind.get(kind or 0, []))
    return [each for each in counters if each is not None]
