"""In which order waiting requests are tried.

Owns that order. Invariant: it follows from the requests' records, the tenants' holdings and weights, and the time, never from the
order in which a replica has heard of them; and nobody waits for ever: of each tenant the oldest request that has waited for
``PATIENCE_S`` comes before all that have not, the oldest of these first.

Else the better tier comes first, then the higher priority. Among equals of these the tenant comes first whose dominant share of
the fleet, divided by its weight, is the lowest, with what comes before in the queue counted as if it had it already (Ghodsi et
al., Dominant Resource Fairness, NSDI 2011, section 4.2, with weights); of one tenant the oldest.
"""

import heapq
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final

from msgspec import Struct

from mica.events import Holding, RequestSlice, SliceRecord, StoredProfile, Tier
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.sizing import size_of, with_stored

PATIENCE_S: Final = 600
NO_PROFILES: Final[Mapping[str, StoredProfile]] = {}
TIER_ORDER: Final = {Tier.GUARANTEED: 0, Tier.BURST: 1, Tier.SPOT: 2}


class Standing(Struct, frozen=True, kw_only=True):
    """What the order rests on beside the records: time, holdings, weights (1 if not there), the fleet, stored profiles."""

    now_ns: int
    held: Mapping[str, Holding] = {}
    weights: Mapping[str, float] = {}
    total: Holding = Holding(vram_bytes=0, share_ppm=0)
    profiles: Mapping[str, StoredProfile] = {}

    def dominant(self, vram_bytes: int, share_ppm: int) -> float:
        """The larger of the parts that these are of the fleet's memory and compute; 0..1."""
        return max(vram_bytes / (self.total.vram_bytes or 1), share_ppm / (self.total.share_ppm or 1))


def since(record: SliceRecord) -> int:
    """When a request began to wait, Unix ns."""
    return max(0, record.until - int(record.request.queue_s * 1e9))


def is_kept_for(record: SliceRecord, now_ns: int) -> bool:
    """Whether it has waited so long that devices are kept for it: ``PATIENCE_S``, or half of the time that it waits at most.

    Until then what fits goes in, whoever came first: nobody knows how long those stay that are in the way, and a device that is
    kept for an hour is an hour lost.
    """
    return now_ns - since(record) >= min(PATIENCE_S, record.request.queue_s / 2) * 1_000_000_000


def age_key(record: SliceRecord) -> tuple[int, str]:
    """The oldest first: by the stream's sequence, which is the same for every replica."""
    return record.request_sequence, record.id


def band(record: SliceRecord) -> tuple[int, int]:
    """The lowest first: by tier, then by priority."""
    return TIER_ORDER[record.request.tier], -record.request.priority


def in_order(records: Iterable[SliceRecord], standing: Standing) -> list[SliceRecord]:
    """All of them, the one to be tried first in front."""
    waiting = sorted(records, key=age_key)
    overdue = _overdue(waiting, standing)
    ordered = list(overdue.values())
    taken = {record.id for record in ordered}
    share = _Shares(standing)
    for record in ordered:
        share.add(record)
    rest = sorted((record for record in waiting if record.id not in taken), key=lambda record: (band(record), age_key(record)))
    for _, group in groupby(rest, band):
        ordered += _fairly(list(group), share)
    return ordered


def _overdue(waiting: Iterable[SliceRecord], standing: Standing) -> dict[str, SliceRecord]:
    """By tenant, its oldest request, where that has waited long enough: one each, or a flood would turn the tiers around."""
    found: dict[str, SliceRecord] = {}
    for record in waiting:
        if record.until and standing.now_ns - since(record) >= PATIENCE_S * 1_000_000_000:
            found.setdefault(record.request.tenant, record)
    return found


class _Shares:
    """Weighted dominant shares, as they grow down the queue."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._held = {tenant: (each.vram_bytes, each.share_ppm) for tenant, each in standing.held.items()}

    def add(self, record: SliceRecord) -> None:
        tenant, (vram_bytes, share_ppm) = (
            record.request.tenant,
            demand(record.request, self._standing.total, self._standing.profiles),
        )
        held = self._held.get(tenant, (0, 0))
        self._held[tenant] = (held[0] + vram_bytes, held[1] + share_ppm)

    def of(self, tenant: str) -> float:
        return self._standing.dominant(*self._held.get(tenant, (0, 0))) / self._standing.weights.get(tenant, 1.0)


def _fairly(group: list[SliceRecord], share: _Shares) -> list[SliceRecord]:
    """One band, oldest first when it comes: again and again the oldest of the tenant with the lowest share."""
    by_tenant: dict[str, list[SliceRecord]] = {}
    for record in reversed(group):
        by_tenant.setdefault(record.request.tenant, []).append(record)
    heap = [(share.of(tenant), age_key(queue[-1]), tenant) for tenant, queue in by_tenant.items()]
    heapq.heapify(heap)
    ordered: list[SliceRecord] = []
    while heap:
        tenant = heapq.heappop(heap)[2]
        record = by_tenant[tenant].pop()
        ordered.append(record)
        share.add(record)
        if by_tenant[tenant]:
            heapq.heappush(heap, (share.of(tenant), age_key(by_tenant[tenant][-1]), tenant))
    return ordered


def demand(request: RequestSlice, total: Holding, profiles: Mapping[str, StoredProfile] = NO_PROFILES) -> tuple[int, int]:
    """VRAM (bytes) and compute (ppm) of all its members; where it leaves compute open, the fleet's mean for its memory."""
    complete = with_stored(request, profiles)
    size = complete if isinstance(complete, Refusal) else size_of(complete)
    if isinstance(size, Refusal):
        return 0, 0
    share_ppm = size.share_ppm
    if share_ppm is None:
        share_ppm = size.vram_bytes * total.share_ppm // total.vram_bytes if total.vram_bytes else 0
    return size.vram_bytes * request.devices, share_ppm * request.devices
