"""How long processes of a slice that goes, or that was moved away, may stay."""

from mica.enforcer.drains import DEFAULT_GRACE_S, grace_of
from mica.enforcer.places import Place
from mica.events import Departure, Held, Ledger, LedgerEntry, Mode, Tier

ENTRY = LedgerEntry(id="s", tenant="t", generation=1, tier=Tier.BURST, mode=Mode.FCSP, vram_bytes=1, share_ppm=1)


def test_a_departure_says_it_else_the_move_does_else_nobody() -> None:
    """By device: a slice that was moved is pressed only where it was."""
    moved = Ledger(node="n", held={"old": {"s": Held(entry=ENTRY, generation=2, grace_s=30.0)}})
    assert grace_of(moved, Place("old", "s")) == 30.0
    assert grace_of(moved, Place("new", "s")) == DEFAULT_GRACE_S
    leaving = Ledger(node="n", departures={"s": Departure(tenant="t", generation=2, grace_s=7.0)}, held=moved.held)
    assert grace_of(leaving, Place("old", "s")) == 7.0
