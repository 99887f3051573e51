"""What every device would do with a request: a dry run, for people.

Invariant: it changes nothing, and what it calls the choice is what ``decide`` decides on the same fleet.
"""

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from mica.events import Candidate, Mode
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.gangs import why_not
from mica.planner.domain.misfits import Misfit
from mica.planner.domain.modes import ALL_MODES, would_switch
from mica.planner.domain.packing import Fit
from mica.planner.domain.placing import Ask, Placed, Rank, Unplaced, fit_for, modes_for, rank

SHOWN_MAX: Final = 256
"""Candidates in one answer; the best and the nearest misses are kept."""


def explain(fleet: Fleet, ask: Ask, outcome: Placed | Unplaced) -> tuple[tuple[Candidate, ...], int]:
    """Every device in every mode that is worth naming, the best first, and how many more there are.

    ``outcome`` is what was decided. Of a device the modes weaker than the one that it would get are left out.
    """
    taken = {each.device_id: each.mode for each in outcome.placements} if isinstance(outcome, Placed) else {}
    rows = [(key, each) for node, claims in fleet.devices() for key, each in _rows(node, claims, ask)]
    fitting = sorted((row for row in rows if row[0] is not None), key=lambda row: row[0] or ())
    best = next((key for key, each in fitting if taken.get(each.device_id) is each.mode), None)
    found = [
        replace(
            each,
            rank=number,
            chosen=taken.get(each.device_id) is each.mode,
            reason=_why(fleet, ask, each, outcome, as_good=key == best),
        )
        for number, (key, each) in enumerate(fitting, start=1)
    ]
    found.sort(key=lambda each: not each.chosen)
    found += sorted((each for key, each in rows if key is None), key=lambda each: (each.node, each.device_id))
    return tuple(found[:SHOWN_MAX]), max(0, len(found) - SHOWN_MAX)


def _rows(node: NodeState, claims: DeviceClaims, ask: Ask) -> Iterator[tuple[Rank | None, Candidate]]:
    """One row for each mode from the strongest down to the first that fits; one alone where no mode matters."""
    device = claims.device
    assert device is not None
    row = Candidate(node=node.name, device_id=device.id, model=device.model, vendor=device.vendor)
    general = modes_for(node, claims, ask)
    if isinstance(general, Misfit) and general.field not in ("mode", "runtime", "limits"):
        yield None, replace(row, reason=general.reason)
        return
    seen: set[str] = set()
    for mode in Mode:
        pinned = _pinned_out(node, ask, mode)
        modes = modes_for(node, claims, ask, frozenset({mode}) if not pinned else ALL_MODES)
        result = Misfit("mode", pinned) if pinned else modes
        if not isinstance(result, Misfit):
            fit = fit_for(node, claims, ask, mode)
            if isinstance(fit, Fit):
                yield rank(node, claims, fit, ask), _fitting(row, claims, fit)
                return
            result = fit
        if result.reason not in seen:
            seen.add(result.reason)
            yield None, replace(row, mode=mode, reason=result.reason)


def _fitting(row: Candidate, claims: DeviceClaims, fit: Fit) -> Candidate:
    return replace(
        row,
        mode=fit.mode,
        fits=True,
        waste=round(fit.waste[0], 4),
        vram_bytes=fit.vram_bytes,
        share_ppm=fit.share_ppm,
        partition=fit.partition,
        window=fit.window,
        switches=would_switch(claims, fit.mode),
    )


def _pinned_out(node: NodeState, ask: Ask, mode: Mode) -> str:
    """Who does not want the mode, if somebody does not."""
    if ask.request.mode not in (None, mode):
        return f"the request asks for {ask.request.mode}"
    if ask.pins.tenant_mode not in (None, mode):
        return f"policy tenant.{ask.request.tenant} pins {ask.pins.tenant_mode}"
    allowed = ask.pins.pool(node.pool).modes
    return f"policy pool.{node.pool} allows {', '.join(allowed)}" if allowed and mode not in allowed else ""


def _why(fleet: Fleet, ask: Ask, each: Candidate, outcome: Placed | Unplaced, *, as_good: bool) -> str:
    if isinstance(outcome, Unplaced):
        few = ask.members > 1
        return "fits, but too few others of its kind on the node do" if few else f"fits, but {outcome.refusal.message}"
    if any((each.device_id, each.mode) == (taken.device_id, taken.mode) for taken in outcome.placements):
        return "taken"
    beside = [taken.device_id for taken in outcome.placements if taken.node == each.node]
    if ask.members > 1:
        connections = fleet.node(each.node).connections
        return why_not(connections, beside, each.device_id) if beside else "fits; no set of its node is connected better"
    return "fits as well as what is taken" if as_good else "fits; others fit better"
