"""A dry run told: what would become of a request, then every candidate. Invariant: the one that would be taken comes first."""

from mica.cli._asked import asked_text, only_text, size_text
from mica.cli._explaining import indented, item, why
from mica.cli._quantities import show_bytes, show_share
from mica.cli._refusals import Refusal, readable
from mica.cli._table import table
from mica.cli._terms import Term, cells, columns, legend
from mica.cli.commands.listing import short
from mica.events import Candidate, RequestSlice, SliceExplained

FATE = {"placed": "would be placed", "queued": "would wait", "rejected": "would be rejected"}


def explained(answer: SliceExplained, asked: RequestSlice) -> list[str]:
    """The answer, line by line."""
    lines = [f"a dry run, nothing was changed: the request {FATE[answer.outcome]}", "", item("asked", asked_text(asked))]
    only, decision = only_text(asked), answer.decision
    lines += [item("only", only)] if only else []
    lines += [item("size", readable(size_text(asked, decision.size)))] if decision is not None and answer.candidates else []
    lines += _in_the_way(answer, asked)
    chosen = [each for each in answer.candidates if each.chosen]
    lines += [
        item("where" if not index else "", f"{_device(each)}: {each.mode}, {_gives(each)}") for index, each in enumerate(chosen)
    ]
    if decision is not None and chosen and chosen[0].mode is not None:
        lines += why(decision, chosen[0].mode, asked)
    return lines + _candidates(answer)


def _in_the_way(answer: SliceExplained, asked: RequestSlice) -> list[str]:
    if answer.outcome == "placed":
        return []
    waits, refusal = answer.outcome == "queued", Refusal(answer.field, answer.given, answer.allowed)
    lines = [item("waits for" if waits else "because", readable(refusal.text()) if answer.field else answer.summary)]
    if waits:
        return [
            *lines,
            item("evicts", f"{', '.join(answer.would_evict)}, to make room for it" if answer.would_evict else "nobody"),
        ]
    return lines + [item("would pass" if not at else "or", each) for at, each in enumerate(refusal.would_pass(asked.queue_s))]


def _candidates(answer: SliceExplained) -> list[str]:
    if not answer.candidates:
        return []
    shown = columns(each.terms for each in answer.candidates)
    fits = any(each.fits for each in answer.candidates)
    head = ("", "DEVICE", "MODE", *(("GIVES", *(term.head for term in shown)) if fits else ()), "VERDICT")
    rows = [_line(each, shown, fits=fits) for each in answer.candidates]
    lines = [
        "",
        "Every device, the best first" if fits else "Every device, the nearest first",
        *indented(table(head, rows).splitlines()),
    ]
    if answer.left_out:
        lines.append(f"  and {answer.left_out} more, which fit less well, or not at all, or were not looked at one by one")
    return lines + _legend(answer)


def _legend(answer: SliceExplained) -> list[str]:
    """What the columns mean that the choice has not already told."""
    told = set(answer.decision.terms) if answer.decision is not None else set()
    others = legend(name for each in answer.candidates for name in each.terms if name not in told)
    return ["", *indented(others)] if others else []


def _line(each: Candidate, shown: tuple[Term, ...], *, fits: bool) -> tuple[str, ...]:
    mark = "*" if each.chosen else str(each.rank) if each.fits else "-"
    verdict = readable(each.reason) + ("; the device is switched for it" if each.switches else "")
    middle = (_gives(each) if each.fits else "", *cells(each.terms, shown)) if fits else ()
    return mark, _device(each), str(each.mode or "-"), *middle, verdict


def _device(each: Candidate) -> str:
    return f"{each.node}/{short(each.device_id)} {each.model}"


def _gives(each: Candidate) -> str:
    gives = [show_bytes(each.vram_bytes), show_share(each.share_ppm)]
    if each.partition is not None:
        gives.append(f"{each.partition.profile} at {each.partition.start}")
    if each.window is not None:
        gives.append(f"{each.window.length_ns / 1e6:g} of {each.window.period_ns / 1e6:g} ms")
    return ", ".join(gives)
