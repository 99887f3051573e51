"""Right-sizing: what a slice was seen to use, and which size would do. Invariant: an advice says what it rests on."""

from typing import Annotated

from msgspec import Meta, Struct

from mica.events._vocabulary import Automation, Bytes, Sizing, SliceId, TenantName, Tier


class SizeAdvice(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One slice: what it has, what it used, and what it should have.

    ``used_bytes``: the most memory seen in use; ``used_ppm``: the compute that it stayed within 95 % of the time; ``throttled``:
    the part of the time for which its work was held back; ``refusals``: allocations that its limit did not allow. All of them
    within the last ``seconds``. ``to_vram_bytes`` and ``to_share_ppm`` are what it has now where nothing is to be changed.
    """

    id: SliceId
    tenant: TenantName
    tier: Tier
    action: Sizing
    vram_bytes: Bytes
    share_ppm: int
    to_vram_bytes: Bytes
    to_share_ppm: int
    used_bytes: Bytes = 0
    used_ppm: int = 0
    throttled: float = 0.0
    refusals: int = 0
    seconds: float = 0.0
    why: str = ""


class Rightsizing(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A tenant's policy for the sizes of its slices.

    ``mode``: ``off``, ``advise`` (tell what would fit better) or ``auto`` (resize). Looks back ``window_s``, all of it after the
    slice's last change, so that a size is never judged by what was used in another. ``shrink_guaranteed``: the tenant agrees
    that guaranteed slices get less than it has asked for.
    """

    mode: Automation = Automation.OFF
    window_s: Annotated[float, Meta(ge=60, le=900)] = 300.0
    shrink_guaranteed: bool = False
