"""What a place was weighed by, for people. Invariant: one table says how each term is shown and what it means."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct


class Term(Struct, frozen=True):
    """A term of ``Decision.terms``: its column in a table, its value as text, and what that says."""

    name: str
    head: str
    show: Callable[[float], str]
    meaning: str


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _yes(value: float) -> str:
    return "yes" if value else "no"


def _of_a_device(milli: float) -> str:
    return f"{milli / 1000:+.3f}" if abs(milli) >= 0.5 else "0"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


TERMS: Final = (
    Term("price", "PRICE", _plain, "an hour of it, by the pool's prices; the cheapest place comes first"),
    Term("kept", "KEPT", _yes, "the place was kept for requests like this one, which are expected from what came before"),
    Term("beside", "BESIDE", _yes, "it takes none of the places that are kept for other requests"),
    Term(
        "useless_milli",
        "USELESS",
        _of_a_device,
        "of a device more would be of no use to the requests to come; below 0, so much less",
    ),
    Term("unused", "UNUSED", _percent, "of the device's memory is in the partition and was not asked for"),
    Term("futures", "FUTURES", _plain, "ways to make one more partition are left; a fuller device is taken before an empty one"),
    Term("left", "LEFT", _plain, "of the device stays free: memory and compute added up, 2 is all of it"),
)
"""In the order in which they count."""


def columns(rows: Iterable[Mapping[str, float]]) -> tuple[Term, ...]:
    """The terms that any of the rows has."""
    there = {name for row in rows for name in row}
    return tuple(term for term in TERMS if term.name in there)


def cells(terms: Mapping[str, float], wanted: Iterable[Term]) -> tuple[str, ...]:
    """A row's part of the table."""
    return tuple(term.show(terms[term.name]) if term.name in terms else "" for term in wanted)


def meanings(terms: Mapping[str, float]) -> list[str]:
    """A line for each term that is there: its name, its value, and what that means."""
    there = [(term.head.lower(), term.show(terms[term.name]), term.meaning) for term in TERMS if term.name in terms]
    names, values = (max((len(each[at]) for each in there), default=0) for at in (0, 1))
    return [f"{name:<{names}}  {value:>{values}}  {meaning}" for name, value, meaning in there]


def legend(names: Iterable[str]) -> list[str]:
    """What the columns of these terms mean."""
    there = set(names)
    return [f"{term.head}: {term.meaning}" for term in TERMS if term.name in there]
