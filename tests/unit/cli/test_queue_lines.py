"""``mica queue``: what a waiting request's line says."""

from mica.cli.commands.queue import waits_text
from mica.events import WaitsFor


def test_a_line_says_what_is_missing_and_who_has_to_leave() -> None:
    """The field, what was asked, what would have passed; the victims by name; nothing where nothing was looked at yet."""
    waits_for = WaitsFor(position=1, length=2, field="vram_bytes", asked="8", free_now="at most 4 now", victims=("a", "b"))
    assert waits_text(waits_for) == "vram_bytes: asked 8, at most 4 now; evicted for it: a, b"
    assert waits_text(WaitsFor()) == ""
