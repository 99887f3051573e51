"""What is kept of all nodes together, their slices, sums, pools and groups, is what a walk over them would find."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "planner"))

from planner_house import h100, l4, p40

from mica.events import Departure, Held, Holding, Inventory, Ledger, LedgerEntry, Mode, RequestSlice, Tier
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.nodes import NodeState
from mica.planner.domain.packing import PPM

NODES, SLICES = st.sampled_from(["n1", "n2", "n3"]), st.sampled_from(["s1", "s2", "s3", "s4"])
TABLES = st.sampled_from(["devices", "held", "departures", "fenced", "none"])
DEVICES = st.lists(st.sampled_from([h100("a"), l4("b"), p40("c")]), unique_by=lambda device: device.id)
CHANGES = st.one_of(
    st.tuples(st.just("ledger"), NODES, st.dictionaries(SLICES, TABLES)),
    st.tuples(st.just("inventory"), NODES, st.none() | st.tuples(st.sampled_from(["default", "edge"]), DEVICES)),
    st.tuples(st.just("look"), NODES, SLICES),
)


ONE_OF_THEM = RequestSlice(tenant="t", vram_bytes=1, apart="g")


def entry(slice_id: str) -> LedgerEntry:
    """Of a slice; every other one is of a group."""
    group = "g" if slice_id in ("s1", "s3") else ""
    return LedgerEntry(
        id=slice_id, tenant="t", generation=1, tier=Tier.BURST, mode=Mode.FCSP, vram_bytes=1, share_ppm=1, apart=group
    )


def members(fleet: Fleet) -> list[tuple[str, str]]:
    """Those of the group, and where, as the fleet knows them."""
    return sorted((each.node, each.slice_id) for each in fleet.group(ONE_OF_THEM, but=""))


def members_by_a_walk(fleet: Fleet) -> list[tuple[str, str]]:
    entries = [(name, each) for name, node in fleet.nodes.items() for on in node.ledger.devices.values() for each in on.values()]
    return sorted((name, each.id) for name, each in entries if each.apart)


def ledger(node: str, tables: dict[str, str]) -> Ledger:
    """Every slice in its table, those of devices and of what is held on a device of the node."""
    made = Ledger(node=node)
    for id_, table in tables.items():
        if table == "devices":
            made = replace(made, devices={"a": {**made.devices.get("a", {}), id_: entry(id_)}})
        elif table == "held":
            held = Held(entry=entry(id_), generation=1, grace_s=1.0)
            made = replace(made, held={"a": {**made.held.get("a", {}), id_: held}})
        elif table == "departures":
            gone = Departure(tenant="t", generation=1, ledger_generation=1, grace_s=1.0)
            made = replace(made, departures={**made.departures, id_: gone})
        elif table == "fenced":
            made = replace(made, fenced={**made.fenced, id_: 1})
    return made


def mentions(books: Ledger, slice_id: str) -> bool:
    tables = (books.departures, books.fenced, *books.devices.values(), *books.held.values())
    return any(slice_id in table for table in tables)


@given(st.lists(CHANGES, max_size=30))
@settings(max_examples=300, deadline=None)
def test_the_census_finds_what_a_walk_over_all_nodes_finds(changes: list[tuple[str, str, object]]) -> None:
    """Whatever documents come and go, and whenever somebody asks in between."""
    fleet = Fleet()
    for what, name, given_ in changes:
        if what == "ledger":
            assert isinstance(given_, dict)
            fleet.node(name).take_ledger(ledger(name, given_))
        elif what == "inventory":
            pool, devices = given_ if isinstance(given_, tuple) else ("", None)
            made = Inventory(node=name, pool=pool, boot_id="b", devices=tuple(devices)) if devices is not None else None
            fleet.node(name).take_inventory(made)
        else:
            fleet.census.holders(str(given_))
            assert members(fleet) == members_by_a_walk(fleet)
    for id_ in ("s1", "s2", "s3", "s4"):
        walked = sorted(node.name for node in fleet.nodes.values() if mentions(node.ledger, id_))
        assert [node.name for node in fleet.census.holders(id_)] == walked
    offered = [claims.device for _, claims in fleet.devices() if claims.device is not None]
    assert fleet.census.total == Holding(
        vram_bytes=sum(each.vram_bytes - each.reserve_bytes for each in offered), share_ppm=PPM * len(offered)
    )
    assert fleet.pools() == sorted({node.pool for node in fleet.nodes.values() if node.inventory is not None})
    assert members(fleet) == members_by_a_walk(fleet)


def test_a_fleet_that_does_not_hear_of_a_member_misses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: where a node says nothing of who came, the group stays what it was."""
    monkeypatch.setattr(NodeState, "_note", lambda *_: None)
    fleet = Fleet()
    assert members(fleet) == []
    fleet.node("n1").take_ledger(ledger("n1", {"s1": "devices"}))
    assert members(fleet) != members_by_a_walk(fleet)
