"""Properties of the regions: limits survive a record, and memory never exceeds its limit."""

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from mica.events import Control, Tier
from mica.region import Limits, QuotaRegion, SliceState, Spatial, TenantRegion, create_usage, read_usage, reclaim_slot

WORDS = st.integers(0, (1 << 64) - 1)
IDS = st.text("abcXYZ019_-", min_size=1, max_size=64)


@st.composite
def any_limits(draw: st.DrawFn) -> Limits:
    """Limits with any value that a record can carry."""
    share, ceiling = sorted((draw(WORDS), draw(WORDS)))
    taken = {"slice_id", "state", "tier", "control", "share_ppm", "ceiling_ppm", "spatial_kind"}
    return Limits(
        slice_id=draw(IDS),
        state=draw(st.sampled_from([SliceState.LIVE, SliceState.DRAINING])),
        tier=draw(st.sampled_from(Tier)),
        control=draw(st.sampled_from(Control)),
        spatial_kind=draw(st.sampled_from(Spatial)),
        share_ppm=share,
        ceiling_ppm=ceiling,
        **{name: draw(WORDS) for name in Limits.__struct_fields__ if name not in taken},
    )


@given(st.dictionaries(st.integers(0, 127), any_limits(), max_size=8))
@settings(max_examples=100, deadline=None)
def test_limits_survive_the_region(records: dict[int, Limits]) -> None:
    """Whatever is written is read back equal, through another mapping, and nothing else is there."""
    with tempfile.TemporaryDirectory() as directory, QuotaRegion.create(Path(directory) / "quota", "GPU-1") as region:
        for index, limits in records.items():
            region.write(index, limits)
        with QuotaRegion(region.path) as reader:
            assert reader.records() == records
            assert all(reader.find(limits.slice_id) is not None for limits in records.values())


class MemoryMachine(RuleBasedStateMachine):
    """Processes that attach, reserve, refund, leave and die, beside a model that only adds and subtracts."""

    tenants = Bundle("tenants")

    @initialize(limit_bytes=st.integers(1, 1000))
    def begin(self, limit_bytes: int) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "GPU-1.usage"
        create_usage(self.path, "GPU-1", "slice-1", os.getuid())
        self.limit_bytes = limit_bytes
        self.held: dict[TenantRegion, list[int]] = {}
        self.peak_bytes = 0
        self.refusals = 0

    def total(self) -> int:
        return sum(sum(charges) for charges in self.held.values())

    @rule(target=tenants)
    def attach(self) -> TenantRegion:
        tenant = TenantRegion(self.path)
        self.held[tenant] = []
        return tenant

    @rule(tenant=tenants, vram_bytes=st.integers(1, 400))
    def reserve(self, tenant: TenantRegion, vram_bytes: int) -> None:
        fits = self.total() + vram_bytes <= self.limit_bytes
        assert tenant.reserve(vram_bytes, self.limit_bytes) == fits
        if fits:
            self.held[tenant].append(vram_bytes)
            self.peak_bytes = max(self.peak_bytes, self.total())
        else:
            self.refusals += 1

    @rule(tenant=tenants)
    def refund(self, tenant: TenantRegion) -> None:
        if self.held[tenant]:
            tenant.refund(self.held[tenant].pop())

    @rule(limit_bytes=st.integers(1, 1000))
    def resize(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes

    @rule(tenant=consumes(tenants))
    def leave(self, tenant: TenantRegion) -> None:
        del self.held[tenant]
        tenant.close()

    @rule(tenant=consumes(tenants))
    def die(self, tenant: TenantRegion) -> None:
        del self.held[tenant]
        assert reclaim_slot(self.path, tenant.slot, tenant.owner)
        tenant._unmap()

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "path"):
            return
        seen = read_usage(self.path)
        assert seen.vram_bytes == self.total()
        assert len(seen.processes) == len(self.held)
        assert (seen.vram_peak_bytes, seen.refusals) == (self.peak_bytes, self.refusals)
        for tenant in self.held:
            assert tenant.used_bytes() == self.total()

    def teardown(self) -> None:
        for tenant in getattr(self, "held", {}):
            tenant.close()
        if hasattr(self, "directory"):
            self.directory.cleanup()


MemoryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMemory = MemoryMachine.TestCase
