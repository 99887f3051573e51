"""What the documents on a house's bus say, for tests."""

from planner_house import House

from mica.events import Ledger, SliceFact, SliceRecord, TenantHoldings


async def record(house: House, id_: str = "s1") -> SliceRecord:
    """The slice's record, which is there."""
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    return entry.value


async def nodes(house: House, id_: str = "s1") -> list[str]:
    """Where it is."""
    return [each.node for each in (await record(house, id_)).placements]


async def ledger(house: House, node: str) -> Ledger:
    """The node's, empty before it has one."""
    entry = await house.bus.state.get(f"ledger.{node}", Ledger)
    return entry.value if entry is not None else Ledger(node=node)


async def charged(house: House) -> dict[str, int]:
    """What tenant ``t1`` is charged for, in bytes by slice."""
    entry = await house.bus.state.get("tenant.t1", TenantHoldings)
    return {id_: each.vram_bytes for id_, each in entry.value.holdings.items()} if entry is not None else {}


def told(house: House, id_: str = "s1") -> list[tuple[str, int]]:
    """All that was said of it, with the generation."""
    facts = house.bus.published(f"slice.*.{id_}")
    return [(str(f.__struct_config__.tag), f.generation) for f in facts if isinstance(f, SliceFact)]
