"""Which slices are to be sampled, and where. Pure. Invariant: a slice whose tenant is unknown is charged to nobody."""

from msgspec import Struct

from mica.events import Ledger, Mode, Observed, ObservedState


class Target(Struct, frozen=True, kw_only=True):
    """One slice on one device. ``partition_uuid`` is empty but in hardware mode."""

    slice_id: str
    tenant: str
    device_id: str
    mode: Mode
    vram_limit_bytes: int
    share_ppm: int
    partition_uuid: str = ""


def tenants(ledger: Ledger) -> dict[str, str]:
    """Slice id to tenant, slices on their way out included."""
    staying = {slice_id: entry.tenant for entries in ledger.devices.values() for slice_id, entry in entries.items()}
    return {slice_id: departure.tenant for slice_id, departure in ledger.departures.items()} | staying


def targets(observed: Observed, tenant_of: dict[str, str]) -> tuple[Target, ...]:
    """What can be sampled: slices that are live or still hold something."""
    return tuple(
        Target(
            slice_id=slice_id,
            tenant=tenant_of[slice_id],
            device_id=device_id,
            mode=seen.mode,
            vram_limit_bytes=seen.vram_bytes,
            share_ppm=seen.share_ppm,
            partition_uuid=seen.partition.uuid if seen.partition is not None else "",
        )
        for device_id, slices in observed.devices.items()
        for slice_id, seen in slices.items()
        if seen.state is not ObservedState.FAILED and slice_id in tenant_of
    )
