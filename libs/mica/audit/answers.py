"""I6: every request has exactly one final answer.

An id may live again after its tombstone is gone, so that its facts are split into lives first: a life ends with an ending. A
repeated fact is the same fact (at least once); two different finals in one life contradict each other.
"""

from collections.abc import Iterable
from typing import Final

from mica.audit._finding import Tally
from mica.audit._world import World
from mica.events import (
    SLICES,
    Phase,
    SliceEvicted,
    SliceFact,
    SliceFailed,
    SliceLost,
    SliceReady,
    SliceRecord,
    SliceRejected,
    SliceReleased,
)

FINAL: Final = (SliceReady, SliceRejected, SliceFailed)
ENDING: Final = (SliceReleased, SliceEvicted, SliceLost)
EXPECTED: Final = {
    Phase.REJECTED: "slice.rejected",
    Phase.FAILED: "slice.failed",
    Phase.RELEASED: "slice.released",
    Phase.EVICTED: "slice.evicted",
    Phase.LOST: "slice.lost",
}


def check_answers(world: World, tally: Tally) -> None:
    """Every answer against the other answers, and against the records."""
    facts: dict[str, list[SliceFact]] = {}
    for heard in world.facts:
        if isinstance(heard.event, FINAL + ENDING):
            facts.setdefault(heard.event.id, []).append(heard.event)
    for slice_id, about in facts.items():
        _check_lives(slice_id, about, tally)
    for slice_id, record in world.documents.records.items():
        if record.request_sequence:
            _check_record(world, record, facts.get(slice_id, []), tally)


def lives(facts: Iterable[SliceFact]) -> list[list[SliceFact]]:
    """The facts of one id, split after each ending; a repeated ending makes no life of its own."""
    found: list[list[SliceFact]] = [[]]
    last: SliceFact | None = None
    for fact in facts:
        if last is not None and isinstance(last, ENDING) and _same(last, fact):
            continue
        found[-1].append(fact)
        last = fact
        if isinstance(fact, ENDING):
            found.append([])
    return [life for life in found if life]


def _same(one: SliceFact, other: SliceFact) -> bool:
    return type(one) is type(other) and one.generation == other.generation


def _check_lives(slice_id: str, facts: list[SliceFact], tally: Tally) -> None:
    for number, life in enumerate(lives(facts), start=1):
        finals = sorted({(tag(fact), fact.generation) for fact in life if isinstance(fact, FINAL)})
        told = " and ".join(f"{kind} (generation {generation})" for kind, generation in finals)
        tally.expect(len(finals) <= 1, "I6", f"slice {slice_id}, life {number}", f"answered {told}: they contradict each other")


def _check_record(world: World, record: SliceRecord, facts: list[SliceFact], tally: Tally) -> None:
    """A record whose answer is due has it in the stream, unless that no longer reaches back so far."""
    if world.now_ns - record.updated_at > SLICES.max_age_s * 0.9e9:
        return
    latest = lives(facts)[-1:] or [[]]
    told = {tag(fact) for fact in latest[0]}
    subject = f"slice {record.id} ({record.phase}, generation {record.generation})"
    if record.phase is Phase.PLACED and len({placement.node for placement in record.placements}) > 1:
        whole = record.ready_generation > 0 or "slice.ready" not in told
        tally.expect(whole, "I6", subject, "was told slice.ready, but its nodes were never all seen live")
    if record.phase is Phase.PLACED and is_live(world, record):
        tally.expect("slice.ready" in told, "I6", subject, f"it is live, but was told {_list(told)}, expected slice.ready")
    elif record.phase in EXPECTED:
        expected = EXPECTED[record.phase]
        tally.expect(expected in told, "I6", subject, f"was told {_list(told)}, expected {expected}")
    elif record.phase is Phase.QUEUED and record.until:
        overdue_s = (world.now_ns - record.until) / 1e9
        tally.expect(overdue_s < 0, "I6", subject, f"should have been answered {overdue_s:.1f} s ago")


def is_live(world: World, record: SliceRecord) -> bool:
    """Whether every device of a placed slice gives it what its newest generation asks."""
    for placement in record.placements:
        item = world.documents.seen(placement.node).get((placement.device_id, record.id))
        if item is None or item.state != "live" or item.generation != record.generation:
            return False
    return bool(record.placements)


def tag(fact: SliceFact) -> str:
    """The fact's name on the wire."""
    return str(fact.__struct_config__.tag)


def _list(names: set[str]) -> str:
    return " and ".join(sorted(names)) or "nothing"
