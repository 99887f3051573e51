"""``mica explain``: a decision told as its reader asks: what, where, why so, and what else there was.

Invariant: it follows from the record, the facts and the time alone; what is not known is not told.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct, field

from mica.cli._asked import asked_text, only_text, size_text
from mica.cli._decision import describe
from mica.cli._quantities import show_seconds
from mica.cli._refusals import Refusal, readable
from mica.cli._table import table
from mica.cli._terms import cells, columns, meanings
from mica.cli.commands.listing import short
from mica.events import (
    Alternative,
    Decision,
    Mode,
    Phase,
    Placement,
    RequestSlice,
    SliceAsked,
    SliceAttached,
    SliceFact,
    SlicePlaced,
    SliceQueued,
    SliceRecord,
    SliceRejected,
)

WIDTH: Final = 11
MODES: Final = {
    Mode.HARDWARE: "a partition of the device holds it, the strongest mode there is: of the free ones the smallest that does",
    Mode.FCSP: "a shim holds it to its memory and its share, and the device runs slices side by side",
    Mode.TIMESLICE: "the device runs one slice at a time, and a shim holds it to its windows",
}
NO_STRONGER: Final = "; no stronger mode was to be had on any device"
STANDS: Final = {
    Phase.QUEUED: "waits",
    Phase.PLACED: "is placed",
    Phase.RELEASING: "is being given back",
    Phase.REJECTED: "was rejected",
    Phase.FAILED: "failed: no device could be made to hold it",
    Phase.RELEASED: "was given back",
    Phase.EVICTED: "was evicted",
    Phase.LOST: "was lost",
}


class Account(Struct, frozen=True, kw_only=True):
    """All that is known of a slice. ``facts`` are those about it, oldest first; ``models`` what devices are, by id."""

    record: SliceRecord
    state: str
    facts: Sequence[SliceFact] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    now_ns: int = 0


def told(account: Account) -> list[str]:
    """The answer, line by line."""
    record = account.record
    decision = record.decision or Decision(summary="")
    lines = [_headline(account), "", item("asked", asked_text(record.request))]
    only = only_text(record.request)
    lines += [item("only", only)] if only else []
    lines += [item("size", readable(size_text(record.request, decision.size)))] if decision.summary else []
    lines += [item("before", f"it was ready elsewhere; {record.lost.message}")] if record.lost is not None else []
    lines += _story(account)
    if record.placements:
        lines += _where(account, decision)
    elif record.phase in (Phase.QUEUED, Phase.REJECTED):
        lines += _in_the_way(record)
    return lines + _others(decision.rejected, account.models, found=bool(record.placements))


def item(key: str, text: str) -> str:
    """One line under its key; of several only the first has one."""
    return f"{key:<{WIDTH}}{text}".rstrip()


def refused(fact: SliceRejected, now_ns: int) -> list[str]:
    """A request that owns no record: it was malformed, or under another's id."""
    refusal = Refusal(fact.field, fact.given, fact.allowed)
    return [
        f"request {fact.id} of tenant {fact.tenant or 'unknown'} was rejected, before any device was looked at",
        "",
        item("decided", when(fact.at, now_ns)),
        item("because", refusal.text()),
    ]


def _headline(account: Account) -> str:
    record = account.record
    stands = STANDS[record.phase]
    if record.phase is Phase.PLACED and account.state != str(Phase.PLACED):
        stands = "is ready" if account.state == "ready" else f"is ready, and told to {account.state}"
    if record.phase is Phase.RELEASING and record.evicted:
        stands = "leaves its place, and goes on elsewhere" if record.again else "is being evicted"
    if record.phase is Phase.QUEUED and record.waits_for.position:
        stands = f"waits, {record.waits_for.position} of {record.waits_for.length} in the queue"
    what = "request" if record.phase in (Phase.QUEUED, Phase.REJECTED) else "slice"
    line = f"{what} {record.id} of tenant {record.request.tenant} {stands}"
    ended = record.phase not in (Phase.QUEUED, Phase.PLACED, Phase.REJECTED)
    return f"{line}: {record.message}" if ended and record.message else line


def when(at: int, now_ns: int) -> str:
    """``2026-11-28 01:52:10 UTC, 5s ago``; of the time to come ``in 5s``."""
    moment = datetime.fromtimestamp(at // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    seconds = (now_ns - at) / 1e9
    return f"{moment}, " + (f"{show_seconds(seconds)} ago" if seconds >= 0 else f"in {show_seconds(-seconds)}")


def _story(account: Account) -> list[str]:
    """When it was decided, and what happened since."""
    record, facts = (
        account.record,
        [each for each in sorted(account.facts, key=lambda each: each.at) if not isinstance(each, SliceAttached | SliceAsked)],
    )
    deciding = [each.at for each in facts if isinstance(each, SlicePlaced | SliceRejected)]
    waited = [each.at for each in facts if isinstance(each, SliceQueued)]
    decided = (deciding or [record.updated_at])[-1]
    if record.phase is Phase.QUEUED:
        return _waiting(record, waited, account.now_ns)
    lines = [] if not decided else [item("decided", when(decided, account.now_ns))]
    if waited and deciding:
        lines.append(item("waited", show_seconds((decided - waited[0]) / 1e9)))
    lasting = [each for each in facts if not isinstance(each, SliceQueued)]
    if len(lasting) > 1:
        lines.append(item("happened", ", ".join(f"{_past(each)} {_clock(each.at)}" for each in lasting)))
    return lines


def _waiting(record: SliceRecord, told_at: list[int], now_ns: int) -> list[str]:
    end = "lost" if record.lost is not None else "rejected"
    since = (told_at or [record.until - int(record.request.queue_s * 1e9)])[0]
    return [item("since", when(since, now_ns)), item("until", f"{when(record.until, now_ns)}; then it is {end}")]


def _past(fact: SliceFact) -> str:
    return str(fact.__struct_config__.tag).removeprefix("slice.")


def _clock(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000_000, UTC).strftime("%H:%M:%S")


def _where(account: Account, decision: Decision) -> list[str]:
    placements = account.record.placements
    lines = [item("where" if not index else "", describe(each)) for index, each in enumerate(placements)]
    first = [each for each in account.facts if isinstance(each, SlicePlaced)][-1:]
    if first and [_place(each) for each in first[0].placements] != [_place(each) for each in placements]:
        lines.append(item("", "it was moved or resized since it was placed; what follows is why it was placed as it was then"))
    return [*lines, *why(decision, placements[0].mode, account.record.request)]


def _place(placement: Placement) -> tuple[object, ...]:
    return placement.node, placement.device_id, placement.mode, placement.vram_bytes, placement.share_ppm


def why(decision: Decision, mode: Mode, request: RequestSlice) -> list[str]:
    """Why in that mode, and why on that device."""
    pinned = "; the request asks for it" if request.mode is mode else ""
    lines = ["", f"Why in {mode}", f"  {MODES[mode]}{pinned or ('' if mode is Mode.HARDWARE else NO_STRONGER)}"]
    lines += [f"  on this device not, because: {readable(decision.stronger)}"] if decision.stronger and not pinned else []
    lines += ["", "Why there", f"  {readable(_of_the_place(decision))}"]
    return lines + indented(meanings(decision.terms))


def _of_the_place(decision: Decision) -> str:
    """The summary without what is told elsewhere: the mode, which comes first in it, and the size, which comes last."""
    _, _, rest = decision.summary.partition("; ")
    return rest.removesuffix(decision.size).removesuffix("; ") or decision.summary


def _in_the_way(record: SliceRecord) -> list[str]:
    refusal = Refusal(record.field, record.given, record.allowed)
    waits = record.phase is Phase.QUEUED
    lines = [item("waits for" if waits else "because", readable(refusal.text()) if record.field else record.message)]
    if waits:
        victims = record.waits_for.victims
        lines.append(item("evicts", f"{', '.join(victims)}, to make room for it" if victims else "nobody"))
        places = [f"{each.node}/{each.device_id} ({each.model})" for each in record.nominated]
        return [*lines, *([item("kept", f"{', '.join(places)}: nothing else is placed there meanwhile")] if places else [])]
    passing = refusal.would_pass(record.request.queue_s)
    return [*lines, *(item("would pass" if not index else "or", each) for index, each in enumerate(passing))]


def _others(rejected: Sequence[Alternative], models: Mapping[str, str], *, found: bool) -> list[str]:
    if not rejected:
        return []
    shown = columns(each.terms for each in rejected)
    head = ("DEVICE", "MODE", *(term.head for term in shown), "WHY NOT")
    rows = [
        (device_text(each, models), str(each.mode or "-"), *cells(each.terms, shown), readable(each.reason)) for each in rejected
    ]
    title = "Looked at and not taken" if found else "Looked at, the nearest first"
    return ["", title, *indented(table(head, rows).splitlines())]


def device_text(alternative: Alternative, models: Mapping[str, str]) -> str:
    """``demo/GPU-d4a580a1 NVIDIA L4``."""
    model = models.get(alternative.device_id, "")
    return f"{alternative.node}/{short(alternative.device_id)} {model}".rstrip()


def indented(lines: Iterable[str]) -> list[str]:
    """Each two spaces in."""
    return [f"  {line}" for line in lines]
