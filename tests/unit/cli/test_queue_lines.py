"""``mica queue``: what a waiting request's line says."""

import pytest
from msgspec.structs import replace

from mica.cli.commands.queue import is_waiting, row_of, waits_text
from mica.events import Loss, Phase, RequestSlice, SliceRecord, WaitsFor

S = 1_000_000_000
REQUEST = RequestSlice(tenant="t1", id="s1", vram_bytes=1 << 30, queue_s=60.0)
QUEUED = SliceRecord(
    id="s1", request=REQUEST, phase=Phase.QUEUED, generation=1, sequence=1, request_sequence=1, until=100 * S, updated_at=70 * S
)
LOST = replace(QUEUED, lost=Loss(message="node n1: gone", generation=1))
AWAY = replace(QUEUED, phase=Phase.PLACED, suspended=True, resumes=True)


def test_a_line_says_what_is_missing_and_who_has_to_leave() -> None:
    """The field, what was asked, what would have passed; the victims by name; nothing where nothing was looked at yet."""
    waits_for = WaitsFor(position=1, length=2, field="vram_bytes", asked="8", free_now="at most 4 now", victims=("a", "b"))
    assert waits_text(waits_for) == "vram_bytes: asked 8, at most 4 now; evicted for it: a, b"
    assert waits_text(WaitsFor()) == ""


@pytest.mark.parametrize(
    ("record", "wants", "since_s", "until_s"),
    [(QUEUED, "a place", 40, 100), (LOST, "another place", 70, 100), (AWAY, "to come back", 70, 0)],
)
def test_a_line_says_who_wants_what_and_since_when(record: SliceRecord, wants: str, since_s: int, until_s: int) -> None:
    """A request since it came; a slice since it is without its place, or without its devices, and that without an end."""
    assert is_waiting(record)
    row = row_of(record)
    assert (row["wants"], row["since"], row["until"]) == (wants, since_s * S, until_s * S)


@pytest.mark.parametrize(
    "record", [replace(AWAY, resumes=False), replace(AWAY, suspended=False), replace(QUEUED, phase=Phase.LOST)]
)
def test_who_does_not_come_back_by_itself_does_not_wait(record: SliceRecord) -> None:
    """Suspended until somebody resumes it, in force, or over."""
    assert not is_waiting(record)
