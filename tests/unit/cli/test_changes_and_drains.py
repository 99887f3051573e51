"""What ``mica resize`` waits for and ``mica drain`` decides, in words and in policies."""

import pytest

from mica.cli._errors import CliError
from mica.cli.commands.change import asked_text, is_of
from mica.cli.commands.drain import Area, How, area_of, decided, left_text
from mica.events import (
    Departure,
    Device,
    Held,
    Inventory,
    Ledger,
    LedgerEntry,
    Mode,
    NodePolicy,
    Placement,
    ResizeSlice,
    Service,
    SliceAsked,
    SliceResized,
    Tier,
    Vendor,
)

GIB = 1 << 30


def in_force(vram_bytes: int, mode: Mode = Mode.FCSP) -> SliceResized:
    placement = Placement(
        node="n", device_id="d", model="L4", vendor=Vendor.NVIDIA, mode=mode, vram_bytes=vram_bytes, share_ppm=100_000
    )
    return SliceResized(at=1, id="a", generation=3, placements=(placement,))


def test_a_size_that_was_not_asked_for_is_not_taken_for_the_outcome() -> None:
    """A shrink that was given up leaves the old size in force; a partition has the size that it has."""
    command = ResizeSlice(id="a", vram_bytes=GIB)
    assert is_of(command, in_force(GIB))
    assert not is_of(command, in_force(4 * GIB))
    assert is_of(command, in_force(10 * GIB, Mode.HARDWARE))
    assert is_of(ResizeSlice(id="a", share_ppm=5), in_force(4 * GIB))


@pytest.mark.parametrize(
    ("then", "words"), [("given_up", "the shrink is given up in 20s"), ("terminated", "are terminated in 20s")]
)
def test_what_is_waited_for_is_said_with_the_numbers(then: str, words: str) -> None:
    """Who holds how much, what is left to them, and what follows when."""
    fact = SliceAsked(
        at=0,
        id="a",
        node="n",
        device_id="GPU-1",
        what="shrink",
        vram_bytes=2 * GIB,
        used_bytes=3 * GIB,
        until=20 * 10**9,
        then=then,
    )
    text = asked_text(fact)
    assert "slice a: programs hold 3GiB of GPU-1, 2GiB are left to them" in text
    assert words in text


def how(**given: object) -> How:
    defaults: dict[str, object] = {
        "undo": False, "cordon": False, "grace_s": None, "message": "", "timeout": 1.0, "no_wait": False, "server": None,
        "as_json": False,
    }  # fmt: skip
    return How(**(defaults | given))


def test_a_node_is_drained_cordoned_and_opened_by_its_policy() -> None:
    """What else the policy says stays; opening the node opens its devices, too."""
    policy = NodePolicy(mps_across_tenants=True, devices={"d": Service.CORDONED})
    drained = decided(policy, Area("n"), how(grace_s=7.0))
    assert (drained.service, drained.drain_grace_s, drained.mps_across_tenants) == (Service.DRAINED, 7.0, True)
    assert decided(policy, Area("n"), how(cordon=True)).service is Service.CORDONED
    assert decided(drained, Area("n"), how(undo=True)) == NodePolicy(mps_across_tenants=True)


def test_a_device_is_drained_beside_others() -> None:
    """And opened again alone."""
    both = decided(NodePolicy(devices={"d": Service.CORDONED}), Area("n", "e"), how())
    assert both.devices == {"d": Service.CORDONED, "e": Service.DRAINED}
    assert decided(both, Area("n", "e"), how(undo=True)).devices == {"d": Service.CORDONED}


def test_who_is_left_is_told_until_nobody_is() -> None:
    """Slices that stand there, and those that are on their way out, of the device or of the whole node."""
    entry = LedgerEntry(id="a", tenant="t", generation=1, tier=Tier.SPOT, mode=Mode.FCSP, vram_bytes=1, share_ppm=1)
    ledger = Ledger(
        node="n", devices={"d": {"a": entry}, "e": {"b": entry}}, held={"d": {"c": Held(entry=entry, generation=1)}},
        departures={"c": Departure(tenant="t", generation=1)},
    )  # fmt: skip
    assert Area("n", "d").left(ledger) == {"a": "stands", "c": "leaves"}
    assert Area("n").left(ledger) == {"a": "stands", "b": "stands", "c": "leaves"}
    assert left_text(Area("n", "d").left(ledger)) == "2 slices are left: a stands, c leaves"
    assert left_text({}) == "nothing is left there"


def test_a_place_is_a_node_or_else_a_device() -> None:
    """What is neither is named."""
    inventory = Inventory(
        node="n", pool="p", boot_id="b", devices=(Device(id="GPU-1", index=0, vendor=Vendor.NVIDIA, model="L4", vram_bytes=1),)
    )
    assert (area_of([inventory], "n"), area_of([inventory], "GPU-1")) == (Area("n"), Area("n", "GPU-1"))
    with pytest.raises(CliError, match="nowhere: no such node or device"):
        area_of([inventory], "nowhere")
