"""What the slices of one node claim of its own processors and memory.

Owns the two-sided truth of them, as ``claims.py`` does of a device's. Invariant: a slice is charged once on its node, at the
largest of what each side says of any one generation on all devices there, since a slice's programs are in one place at a time;
the sums always agree with that. What is observed says nothing of them: what a slice has lost stays held until that is confirmed,
and is charged so long.
"""

from typing import Final

from mica.events import LedgerEntry, Placement, RequestSlice

Amount = tuple[int, int]
"""Thousandths of a processor, bytes of memory."""
NOTHING: Final[Amount] = (0, 0)
_CHARGED: Final = (LedgerEntry, Placement)
Version = tuple[int, int]
"""Which side says it, and of which generation; what is reserved has none."""


class HostClaims:
    """Who claims what of a node's own."""

    __slots__ = ("_slices", "cpu_milli", "memory_bytes")

    def __init__(self) -> None:
        self._slices: dict[str, dict[Version, Amount]] = {}
        self.cpu_milli = 0
        self.memory_bytes = 0

    def put(self, slice_id: str, side: int, was: object, now: object) -> None:
        """Replace what one side says of a slice on one of the node's devices."""
        before, after = _amount_of(was), _amount_of(now)
        if before == after == NOTHING:
            return
        versions = self._slices.setdefault(slice_id, {})
        charged = _largest(versions)
        _add(versions, (side, getattr(was, "generation", 0)), (-before[0], -before[1]))
        _add(versions, (side, getattr(now, "generation", 0)), after)
        largest = _largest(versions)
        self.cpu_milli += largest[0] - charged[0]
        self.memory_bytes += largest[1] - charged[1]
        if not versions:
            del self._slices[slice_id]

    def others(self, slice_id: str) -> Amount:
        """What everybody else claims."""
        versions = self._slices.get(slice_id)
        if versions is None:
            return self.cpu_milli, self.memory_bytes
        cpu_milli, memory_bytes = _largest(versions)
        return self.cpu_milli - cpu_milli, self.memory_bytes - memory_bytes


def wants_host(request: RequestSlice) -> bool:
    """Whether it asks for a part of its nodes beside devices."""
    return request.cpu_milli > 0 or request.host_memory_bytes > 0


def _add(versions: dict[Version, Amount], version: Version, amount: Amount) -> None:
    own = versions.pop(version, NOTHING)
    own = (own[0] + amount[0], own[1] + amount[1])
    if own != NOTHING:
        versions[version] = own


def _amount_of(source: object) -> Amount:
    return (source.cpu_milli, source.host_memory_bytes) if isinstance(source, _CHARGED) else NOTHING


def _largest(versions: dict[Version, Amount]) -> Amount:
    cpu_milli = memory_bytes = 0
    for cpu, memory in versions.values():
        cpu_milli, memory_bytes = max(cpu_milli, cpu), max(memory_bytes, memory)
    return cpu_milli, memory_bytes
