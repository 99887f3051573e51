"""What every device would do with a request: a dry run, for people.

Invariant: it changes nothing, and what it calls the choice is what ``decide`` decides on the same fleet.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.events import Candidate, Mode, Placement
from mica.packing import Why
from mica.planner.domain.asks import Ask
from mica.planner.domain.blaming import Candidate as Place
from mica.planner.domain.decisions import Placed, Unplaced, farness, terms_of
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.gangs import why_not
from mica.planner.domain.misfits import Misfit
from mica.planner.domain.modes import would_switch
from mica.planner.domain.packing import Fit
from mica.planner.domain.placing import in_mode, modes_for, weighed
from mica.planner.domain.ranking import preference, price_of, rank_of, worse

LOOKED_AT_MAX: Final = 512
"""So many devices at most are looked at one by one: of a larger fleet the nearest, and the next best by the boards."""
SHOWN_MAX: Final = 256
"""Candidates in one answer; the best and the nearest misses are kept."""
NEXT_BEST: Final = 16


class _Looked(Struct, frozen=True):
    """What was asked of which fleet, and what was decided."""

    fleet: Fleet
    ask: Ask
    outcome: Placed | Unplaced

    @property
    def taken(self) -> tuple[Placement, ...]:
        """Where it goes."""
        return self.outcome.placements if isinstance(self.outcome, Placed) else ()

    def taken_at(self, place: Place) -> Placement | None:
        """What a member takes of the device, if one goes there."""
        here = (place.node.name, place.device_id)
        return next((each for each in self.taken if (each.node, each.device_id) == here), None)

    @property
    def why(self) -> Why:
        """What the boards said for the choice."""
        terms = self.outcome.decision.terms
        return next((why for why in Why if str(why) in terms), Why.BEST)


def explain(fleet: Fleet, ask: Ask, outcome: Placed | Unplaced) -> tuple[tuple[Candidate, ...], int]:
    """Every device in every mode that is worth naming, the best first, and how many more there are.

    ``outcome`` is what was just decided. Of a device the modes weaker than the one that it would get are left out.
    """
    looked = _Looked(fleet, ask, outcome)
    places, unseen = _places(looked)
    rows = [row for place in places for row in _rows(looked, place)]
    fitting = [each for each in rows if isinstance(each.result, Fit)]
    fitting.sort(key=lambda each: (looked.taken_at(each) is None, preference(each, ask)))
    found = [
        _told(each, rank=number, chosen=looked.taken_at(each) is not None, reason=_why(looked, each, fitting[0]))
        for number, each in enumerate(fitting, start=1)
    ]
    found += [_told(each, reason=each.result.reason) for each in _nearest_first(looked, rows)]
    return tuple(found[:SHOWN_MAX]), max(0, len(found) - SHOWN_MAX) + unseen


def _places(looked: _Looked) -> tuple[list[Place], int]:
    """The devices to look at, and how many there are beside these."""
    index = looked.fleet.index
    index.refresh(looked.ask.pins)
    near = index.nearest(looked.ask, LOOKED_AT_MAX)
    beside = [place for place, _ in index.beside(looked.ask.id, NEXT_BEST)] if looked.taken else []
    taken = [(node, node.devices[each.device_id]) for each in looked.taken for node in (looked.fleet.node(each.node),)]
    places = {id(claims): Place(node, claims, Misfit("", "")) for node, claims in (*near, *beside, *taken) if claims.device}
    return list(places.values()), sum(1 for _ in looked.fleet.devices()) - len(places)


def _rows(looked: _Looked, place: Place) -> Iterator[Place]:
    """One for each mode from the strongest down to the one that it would get; one alone where no mode matters."""
    node, claims = place.place
    general = modes_for(node, claims, looked.ask)
    if isinstance(general, Misfit) and general.field not in ("mode", "runtime", "limits"):
        yield Place(node, claims, general)
        return
    taken = looked.taken_at(place)
    seen: set[str] = set()
    for mode in Mode:
        result = in_mode(node, claims, looked.ask, mode)
        is_taken = taken is not None and taken.mode is mode
        if isinstance(result, Fit) and (taken is None or is_taken):
            yield _weighed(looked, Place(node, claims, result, looked.why if is_taken else None))
            return
        if isinstance(result, Misfit) and result.reason not in seen:
            seen.add(result.reason)
            yield Place(node, claims, replace(result, mode=mode))


def _weighed(looked: _Looked, place: Place) -> Place:
    """With its price, and with what the boards say of it where it is in the mode that they were asked about."""
    if looked.taken and looked.taken[0].mode is place.result.mode:
        return weighed(looked.fleet.index, looked.ask, place)
    fit = place.result
    return replace(place, price=price_of(looked.ask, *place.place, fit)) if isinstance(fit, Fit) else place


def _nearest_first(looked: _Looked, rows: Iterable[Place]) -> list[Place]:
    """Those that do not fit, by device: of a refusal, the devices that lack the least of what it names first."""
    outcome = looked.outcome
    field, possible = (outcome.refusal.field, outcome.possible) if isinstance(outcome, Unplaced) else ("", False)
    lacking = [each for each in rows if isinstance(each.result, Misfit)]
    nearest: dict[tuple[str, str], tuple[object, ...]] = {}
    for each in lacking:
        far = farness(each, field, possible=possible)
        nearest[_where(each)] = min(far, nearest.get(_where(each), far))
    return sorted(lacking, key=lambda each: (nearest[_where(each)], _where(each)))


def _where(place: Place) -> tuple[str, str]:
    return place.node.name, place.device_id


def _told(place: Place, reason: str, *, rank: int = 0, chosen: bool = False) -> Candidate:
    device, result = place.claims.device, place.result
    assert device is not None
    row = Candidate(
        node=place.node.name, device_id=device.id, model=device.model, vendor=device.vendor, mode=result.mode, reason=reason
    )
    if isinstance(result, Misfit):
        return row
    return replace(
        row,
        fits=True,
        rank=rank,
        chosen=chosen,
        waste=round(result.waste[0], 4),
        terms=terms_of(place),
        vram_bytes=result.vram_bytes,
        share_ppm=result.share_ppm,
        partition=result.partition,
        window=result.window,
        switches=would_switch(place.claims, result.mode),
    )


def _why(looked: _Looked, each: Place, chosen: Place) -> str:
    ask, outcome = looked.ask, looked.outcome
    if isinstance(outcome, Unplaced):
        few = ask.members > 1
        return "fits, but too few others of its kind on the node do" if few else f"fits, but {outcome.refusal.message}"
    if looked.taken_at(each) is not None:
        return "taken"
    if ask.members == 1 or each.result.mode is not chosen.result.mode:
        return worse(ask, each, chosen, rank_of(chosen, ask))
    beside = [taken.device_id for taken in outcome.placements if taken.node == each.node.name]
    if not beside:
        return "fits; no set of its node is connected better"
    return why_not(looked.fleet.node(each.node.name).connections, beside, each.device_id)
