"""State as it stands now, read whole. Invariant: it only reads."""

from typing import TypeVar

from mica.bus import Bucket, Bus
from mica.events import Document, Inventory, Ledger, Observed, SliceRecord

T = TypeVar("T", bound=Document)


async def snapshot(bucket: Bucket, pattern: str, kind: type[T]) -> dict[str, T]:
    """The latest document of every key that matches, by key."""
    watch = bucket.watch(pattern, kind)
    try:
        batch = await anext(watch)
    finally:
        await watch.aclose()  # type: ignore[attr-defined] # every bucket's watch is an async generator
    return {change.key: change.value for change in batch if change.value is not None}


async def records(bus: Bus) -> list[SliceRecord]:
    """Every slice record, by id."""
    found = await snapshot(bus.state, "slice.*", SliceRecord)
    return [found[key] for key in sorted(found)]


async def inventories(bus: Bus) -> list[Inventory]:
    """Every node's inventory, by node."""
    found = await snapshot(bus.state, "inventory.*", Inventory)
    return [found[key] for key in sorted(found)]


async def ledgers(bus: Bus) -> dict[str, Ledger]:
    """Every node's ledger, by node."""
    return {ledger.node: ledger for ledger in (await snapshot(bus.state, "ledger.*", Ledger)).values()}


async def observations(bus: Bus) -> dict[str, Observed]:
    """What every node's enforcer sees, by node."""
    return {observed.node: observed for observed in (await snapshot(bus.state, "observed.*", Observed)).values()}
