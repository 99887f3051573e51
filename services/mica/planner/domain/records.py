"""How a slice's record moves from phase to phase.

Owns the transitions. Invariants: ``generation`` never falls, a terminal phase is never left, and ``sequence`` is that of the last
command that was applied.
"""

from typing import Final

from msgspec.structs import replace

from mica.events import Decision, Loss, Phase, Placement, RequestSlice, SliceRecord, SuspendSlice, WaitsFor
from mica.planner.domain.misfits import Refusal

TOMBSTONE_S: Final = 86_400
"""How long the end of a slice is remembered: until then its id is not given to another."""

UNKNOWN_TENANT: Final = "_unknown"
"""In the record of an id that was released before anybody asked for it."""


def blank(slice_id: str, request: RequestSlice, sequence: int, at: int) -> SliceRecord:
    """A request before anything is decided: what it was, and until when it may wait."""
    until = at + int(request.queue_s * 1e9) if request.queue_s else 0
    return SliceRecord(
        id=slice_id, request=request, phase=Phase.QUEUED, generation=0, sequence=sequence, request_sequence=sequence, until=until
    )


def placed(record: SliceRecord, placements: tuple[Placement, ...], decision: Decision, at: int) -> SliceRecord:
    """It goes there."""
    return replace(
        record, phase=Phase.PLACED, generation=record.generation + 1, placements=placements, decision=decision,
        updated_at=at, field="", given="", allowed="", message="",
    )  # fmt: skip


def queued(record: SliceRecord, refusal: Refusal, decision: Decision, at: int) -> SliceRecord:
    """It waits; the refusal is what stands in the way so far."""
    return replace(
        record, phase=Phase.QUEUED, generation=record.generation + 1, placements=(), decision=decision, updated_at=at,
        field=refusal.field, given=refusal.given, allowed=refusal.allowed, message=refusal.message,
        waits_for=WaitsFor(field=refusal.field, asked=refusal.given, free_now=refusal.allowed),
    )  # fmt: skip


def rejected(record: SliceRecord, refusal: Refusal, decision: Decision | None, at: int) -> SliceRecord:
    """It can not be. What was queued or placed before has no command left to repeat it: ``until`` says so until it is told."""
    until = (record.until or at) if record.generation else 0
    return replace(
        record, phase=Phase.REJECTED, generation=record.generation + 1, placements=(), decision=decision, updated_at=at,
        until=until, field=refusal.field, given=refusal.given, allowed=refusal.allowed, message=refusal.message,
    )  # fmt: skip


def releasing(record: SliceRecord, sequence: int, at: int, message: str = "", *, evicted: bool = False) -> SliceRecord:
    """It is to go; what it had stays named until it is gone."""
    return replace(record, phase=Phase.RELEASING, sequence=sequence, updated_at=at, message=message, evicted=evicted, again=False)


def changed(record: SliceRecord, placements: tuple[Placement, ...], sequence: int, at: int) -> SliceRecord:
    """It has another size or place from the next generation on."""
    return replace(record, generation=record.generation + 1, placements=placements, sequence=sequence, updated_at=at)


def turned_down(record: SliceRecord, refusal: Refusal, decision: Decision | None, at: int) -> SliceRecord:
    """It has no place: a request is rejected; what was ready before, and lost its node, is lost for good."""
    if record.lost is None:
        return rejected(record, refusal, decision, at)
    return replace(
        record, phase=Phase.LOST, generation=record.generation + 1, placements=(), decision=decision, updated_at=at,
        until=record.until or at, message=f"{record.lost.message}; no other place: {refusal.message}",
    )  # fmt: skip


def homeless(record: SliceRecord, message: str, at: int, queue_s: float) -> SliceRecord:
    """It was ready where it can't be any more, and looks for another place for so long."""
    return replace(
        record, placements=(), nominated=(), waits_for=WaitsFor(), resizing=None, updated_at=at,
        suspended=False, resumes=False, evicted=False, again=False,
        until=at + int(queue_s * 1e9), lost=Loss(message=message, generation=record.generation),
    )  # fmt: skip


def suspended(record: SliceRecord, command: SuspendSlice, sequence: int, at: int) -> SliceRecord:
    """It is to hold nothing of its devices from the next generation on."""
    why = f"suspended: {command.reason}" if command.reason else ""
    return replace(
        changed(record, record.placements, sequence, at), suspended=True, resumes=command.resumes, lock_s=command.lock_s,
        message=why, unsuspendable="", waits_for=WaitsFor(),
    )  # fmt: skip


def resumed(record: SliceRecord, placements: tuple[Placement, ...], sequence: int, at: int) -> SliceRecord:
    """It is to be back on its devices from the next generation on."""
    return replace(changed(record, placements, sequence, at), suspended=False, resumes=False, message="")


def not_suspended(record: SliceRecord, why: str, at: int) -> SliceRecord:
    """It could not be suspended, and stays what it was."""
    back = resumed(record, record.placements, record.sequence, at)
    return replace(back, unsuspendable=why, message=f"not suspended: {why}")


def is_waiting(record: SliceRecord) -> bool:
    """Whether it stands in the queue: a request without a place, or a suspended slice that is to come back."""
    return record.phase is Phase.QUEUED or (record.phase is Phase.PLACED and record.suspended and record.resumes)


def ended(record: SliceRecord, phase: Phase, message: str, at: int) -> SliceRecord:
    """It is over."""
    return replace(record, phase=phase, message=message or record.message, updated_at=at, until=0)


def released_early(slice_id: str, sequence: int, at: int) -> SliceRecord:
    """A release for an id that nobody has asked for yet: a request that was sent before it comes too late."""
    return SliceRecord(
        id=slice_id, request=RequestSlice(tenant=UNKNOWN_TENANT, id=slice_id), phase=Phase.RELEASED, generation=0,
        sequence=sequence, request_sequence=0, updated_at=at, message=f"released by command {sequence} before it was requested",
    )  # fmt: skip


def is_unannounced(record: SliceRecord) -> bool:
    """Whether what was queued or placed was rejected, or lost in the queue, and it is not certain that anybody was told."""
    return record.phase in (Phase.REJECTED, Phase.LOST) and record.until > 0


def announced(record: SliceRecord) -> SliceRecord:
    """Everybody was told."""
    return replace(record, until=0)


def is_unrequested(record: SliceRecord) -> bool:
    """Whether the record only remembers a release that came first."""
    return record.request_sequence == 0
