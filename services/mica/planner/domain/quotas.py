"""What a tenant may hold. Invariant: a charge that would exceed the quota is never made (I7); nothing else is refused."""

from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from mica.events import Holding, Placement, TenantHoldings, TenantQuota
from mica.planner.domain.misfits import Refusal

SIZES_MAX: Final = 4_096
"""Of so many sizes there is one object for all slices."""


def holding_of(placements: tuple[Placement, ...]) -> Holding:
    """What a slice charges to its tenant, summed over its devices."""
    return _holding(sum([each.vram_bytes for each in placements]), sum([each.share_ppm for each in placements]))


@lru_cache(maxsize=SIZES_MAX)
def _holding(vram_bytes: int, share_ppm: int) -> Holding:
    """The one object for all slices of a size: tenants have many of few."""
    return Holding(vram_bytes=vram_bytes, share_ppm=share_ppm)


def over_quota(holdings: TenantHoldings, slice_id: str, asked: Holding, quota: TenantQuota) -> Refusal | None:
    """Which part of the quota the slice would break, if any. Its own earlier charge does not count."""
    if quota.slices is None and quota.vram_bytes is None and quota.share_ppm is None:
        return None
    others = [holding for id_, holding in holdings.holdings.items() if id_ != slice_id]
    of = f"of tenant {holdings.tenant}'s quota"
    if quota.slices is not None and len(others) + 1 > quota.slices:
        return Refusal("tenant", f"{len(others) + 1} slices", f"at most {quota.slices} slices {of}")
    vram_bytes = sum(holding.vram_bytes for holding in others)
    if quota.vram_bytes is not None and vram_bytes + asked.vram_bytes > quota.vram_bytes:
        left = max(0, quota.vram_bytes - vram_bytes)
        return Refusal("vram_bytes", str(asked.vram_bytes), f"at most {left} left {of} of {quota.vram_bytes}")
    share_ppm = sum(holding.share_ppm for holding in others)
    if quota.share_ppm is not None and share_ppm + asked.share_ppm > quota.share_ppm:
        left = max(0, quota.share_ppm - share_ppm)
        return Refusal("share_ppm", str(asked.share_ppm), f"at most {left} left {of} of {quota.share_ppm}")
    return None


def is_more(holding: Holding, than: Holding | None) -> bool:
    """Whether a charge would be raised by it, in any part."""
    return than is None or holding.vram_bytes > than.vram_bytes or holding.share_ppm > than.share_ppm


def charge(holdings: TenantHoldings, slice_id: str, asked: Holding) -> TenantHoldings:
    """The holdings with the slice at ``asked``; the same object when it is there already."""
    if holdings.holdings.get(slice_id) == asked:
        return holdings
    return replace(holdings, holdings={**holdings.holdings, slice_id: asked})


def uncharge(holdings: TenantHoldings, slice_id: str) -> TenantHoldings:
    """The holdings without the slice; the same object when it is not there."""
    if slice_id not in holdings.holdings:
        return holdings
    return replace(holdings, holdings={id_: each for id_, each in holdings.holdings.items() if id_ != slice_id})
