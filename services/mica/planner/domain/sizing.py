"""How much a request needs: ``mica.sizing`` asked in the planner's terms. Invariant: pure; what was assumed is in ``reason``."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from mica.events import Device, Profile, RequestSlice, StoredProfile
from mica.planner.domain.misfits import Misfit, Refusal
from mica.sizing import Asked, Unsizable, need_of

LISTED_MAX: Final = 8
SOURCE_MAX: Final = 256
_USUAL: Final = Profile()


class Size(Struct, frozen=True):
    """What each member of a slice needs.

    ``share_ppm`` is None when the request leaves it open: then it is the same part of the device's compute as of its memory.
    ``shares``: by model of device, where the share depends on it (as in ``mica.sizing.Need``); ``share_ppm`` is the least then.
    """

    vram_bytes: int
    share_ppm: int | None
    reason: str = ""
    shares: Mapping[str, int] = field(default_factory=dict)

    def on(self, device: Device) -> "Size | Misfit":
        """The size on that device, or why nothing is promised there."""
        if not self.shares:
            return self
        share_ppm = self.shares.get(device.model)
        if share_ppm is None:
            return Misfit("slo", f"nothing says how fast the workload is on {device.model}; share_ppm would")
        if share_ppm == 0:
            return Misfit("slo", f"even a whole {device.model} is too slow")
        return Size(self.vram_bytes, share_ppm, self.reason)


def size_of(request: RequestSlice) -> Size | Refusal:
    """The size of every member of the slice, or which field is missing or can not be met."""
    if request.profile is not None and request.profile.name is not None:
        return Refusal("profile.name", request.profile.name, "a profile that is stored under that name")
    need = need_of(
        Asked(
            profile=request.profile, slo=request.slo, vram_bytes=request.vram_bytes, share_ppm=request.share_ppm,
            mode=request.mode, devices=request.devices,
        )
    )  # fmt: skip
    if isinstance(need, Unsizable):
        return Refusal(need.field, need.given, need.allowed)
    source = [f"from {request.profile.source}"] if request.profile is not None and request.profile.source and need.said else []
    return Size(need.vram_bytes, need.share_ppm, "; ".join([*source, *need.said]), need.shares)


def with_stored(request: RequestSlice, stored: Mapping[str, StoredProfile]) -> RequestSlice | Refusal:
    """The request with the profile that it names, under the fields that it gives itself."""
    own = request.profile
    if own is None or own.name is None:
        return request
    found = stored.get(own.name)
    if found is None:
        listed = ", ".join(sorted(stored)[:LISTED_MAX]) or "none is stored"
        return Refusal("profile.name", own.name, f"a stored profile ({listed})")
    fields = {each: getattr(found, each) for each in own.__struct_fields__}
    fields |= {each: value for each in own.__struct_fields__ if (value := getattr(own, each)) != getattr(_USUAL, each)}
    source = f"profile.{own.name}" + (f", {found.source}" if found.source else "")
    return replace(request, profile=Profile(**(fields | {"name": None, "source": source[:SOURCE_MAX]})))
