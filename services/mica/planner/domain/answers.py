"""What the planner says about a record.

Invariant: an answer follows from the record alone, so that it can be repeated but never contradicted.
"""

from mica.events import (
    Decision,
    Fact,
    Phase,
    PoolRepacked,
    SliceExplained,
    SliceFact,
    SliceFailed,
    SliceLost,
    SlicePlaced,
    SliceQueued,
    SliceRecord,
    SliceRefused,
    SliceRejected,
    SlicesRightsized,
    shorten,
)
from mica.planner.domain.misfits import Refusal


def answer_of(record: SliceRecord) -> SliceFact | None:
    """The fact that tells the record's phase; None for those that the enforcer tells."""
    at, id_, tenant, generation = record.updated_at, record.id, record.request.tenant, record.generation
    decision = record.decision or Decision(summary="")
    match record.phase:
        case Phase.PLACED:
            return SlicePlaced(
                at=at, id=id_, tenant=tenant, generation=generation, placements=record.placements, decision=decision
            )
        case Phase.QUEUED:
            return SliceQueued(
                at=at, id=id_, tenant=tenant, generation=generation, until=record.until, decision=decision,
                waits_for=record.waits_for,
            )  # fmt: skip
        case Phase.REJECTED:
            return SliceRejected(
                at=at, id=id_, tenant=tenant, generation=generation, field=record.field, given=record.given,
                allowed=record.allowed, message=record.message, decision=record.decision,
            )  # fmt: skip
        case Phase.FAILED:
            return SliceFailed(at=at, id=id_, tenant=tenant, generation=generation, message=record.message)
        case Phase.LOST:
            return SliceLost(at=at, id=id_, tenant=tenant, generation=generation, message=record.message)
        case _:
            return None


def waits_to_resume(record: SliceRecord) -> SliceQueued:
    """A suspended slice waits for room to come back; no time is set for that."""
    return SliceQueued(
        at=record.updated_at, id=record.id, tenant=record.request.tenant, generation=record.generation, until=0,
        decision=Decision(summary=f"suspended; waits for {record.waits_for.field or 'room'} to come back"),
        waits_for=record.waits_for,
    )  # fmt: skip


def message_id(fact: Fact) -> str:
    """The same for every repetition of a fact."""
    tag = str(fact.__struct_config__.tag)
    if isinstance(fact, SliceQueued) and fact.waits_for.change:
        return f"{tag}-{fact.id}-{fact.generation}-{fact.waits_for.change}"
    if isinstance(fact, SliceFact):
        return f"{tag}-{fact.id}-{fact.generation}"
    if isinstance(fact, SlicesRightsized):
        return f"{tag}-{fact.about}" if fact.about.isdigit() else f"{tag}-{fact.about}-{fact.at // 60_000_000_000}"
    if isinstance(fact, PoolRepacked):
        return f"{tag}-{fact.about}" if fact.about != fact.pool else f"{tag}-{fact.about}-{fact.at}"
    if isinstance(fact, SliceRefused | SliceExplained):
        return f"{tag}-{fact.sequence}"
    return ""


def unowned_rejection(sequence: int, tenant: str, refusal: Refusal, at: int) -> SliceRejected:
    """The answer to a request that owns no record: malformed, or under an id that is another's."""
    return SliceRejected(
        at=at, id=f"seq-{sequence}", tenant=tenant, field=shorten(refusal.field), given=shorten(refusal.given),
        allowed=refusal.allowed, message=f"{shorten(refusal.field)}: got {shorten(refusal.given)}, allowed: {refusal.allowed}",
    )  # fmt: skip


def refused(sequence: int, command: str, slice_id: str, refusal: Refusal, at: int) -> SliceRefused:
    """The answer to any other command that is not carried out."""
    given = shorten(refusal.given)
    return SliceRefused(
        at=at, sequence=sequence, command=command, id=slice_id, field=shorten(refusal.field), given=given,
        allowed=refusal.allowed, message=f"{shorten(refusal.field)}: got {given}, allowed: {refusal.allowed}",
        offer=refusal.offer,
    )  # fmt: skip
