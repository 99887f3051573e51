"""A change in flight is no disagreement; one that stays is."""

import asyncio
from collections.abc import Iterator

from mica.audit import Tally, World, settled
from mica.audit._settle import SETTLE_S
from mica.bus import ManualClock


class Readings:
    """Disagreements by reading; time passes with every reading."""

    def __init__(self, readings: Iterator[set[str]]) -> None:
        self.clock = ManualClock()
        self._readings = readings
        self._now: set[str] = set()

    async def read(self) -> World:
        self._now = next(self._readings)
        return World()

    def check(self, _: World, tally: Tally) -> None:
        for subject in ("a", "b", "c"):
            tally.expect(subject not in self._now, "x", subject, "wrong")

    async def settled(self) -> list[str]:
        task = asyncio.ensure_future(settled(self.read, self.check, self.clock))
        while not task.done():
            await asyncio.sleep(0)
            self.clock.advance(0.1)
        report = task.result()
        assert report.checks == 3
        return [finding.subject for finding in report.findings]


async def test_agreement_at_once_is_one_reading() -> None:
    """Nothing is read twice when nothing disagrees."""
    assert await Readings(iter([set()])).settled() == []


async def test_what_passes_is_forgotten() -> None:
    """Each disagreement that is absent from one reading was a change in flight, though another one was there then."""
    assert await Readings(iter([{"a"}, {"b"}])).settled() == []


async def test_what_stays_is_reported_after_the_whole_time() -> None:
    """Only what disagreed in every reading is left, and not before SETTLE_S have passed."""

    def readings() -> Iterator[set[str]]:
        yield {"a", "b"}
        while True:
            yield {"b", "c"}

    house = Readings(readings())
    begun = house.clock.monotonic_ns()
    assert await house.settled() == ["b"]
    assert house.clock.monotonic_ns() - begun >= SETTLE_S * 1e9
