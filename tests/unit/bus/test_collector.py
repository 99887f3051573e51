"""When a service searches for cycles: what is new at once, what is old once an hour, and never by itself."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from mica.bus import Collector


class Knot:
    """Something that only a search for cycles frees."""

    def __init__(self) -> None:
        self.itself = self


class Wall:
    """A clock that is set by hand, in seconds."""

    now_s = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


@pytest.fixture
def wall() -> Wall:
    """The time as the test has it."""
    return Wall()


@pytest.fixture
def collector(wall: Wall) -> Iterator[Collector]:
    """At work, and gone afterwards."""
    collector = Collector(wall)
    yield collector
    collector.end()


def test_a_new_cycle_is_found_at_the_next_step(wall: Wall, collector: Collector) -> None:
    """It is gone a tenth of a second later, and not before that."""
    gone = weakref.ref(Knot())
    collector.step()
    assert gone() is not None
    wall.now_s += 0.1
    collector.step()
    assert gone() is None


def test_what_has_lived_for_a_step_is_left_alone_for_an_hour(wall: Wall, collector: Collector) -> None:
    """A cycle that was in use when its time came is found when all is searched."""
    knot = Knot()
    gone = weakref.ref(knot)
    wall.now_s += 0.1
    collector.step()
    del knot
    wall.now_s += 1.0
    collector.step()
    assert gone() is not None
    wall.now_s += 3600.0
    collector.step()
    assert gone() is None


def test_python_searches_by_itself_again_after_the_end() -> None:
    """While a collector is there Python does nothing; then nothing stays put aside."""
    collector = Collector()
    assert not gc.isenabled()
    assert gc.get_freeze_count()
    collector.end()
    assert gc.isenabled()
    assert not gc.get_freeze_count()
