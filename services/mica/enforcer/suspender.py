"""Runs what ``suspensions.py`` finds to be done: several slices at once, each in a thread of its own.

Invariant: the processes of a slice are counted after its record says ``suspend``. Whoever comes later finds that word before it
has taken any memory, and waits.
"""

import asyncio
import logging
import signal
from collections.abc import Callable

from mica.enforcer.attachments import Attachments
from mica.enforcer.errors import CannotApplyError
from mica.enforcer.node import Node
from mica.enforcer.places import Place
from mica.enforcer.suspending import Outcome, resume, suspend
from mica.enforcer.suspensions import Errand
from mica.enforcer.world import World
from mica.events import Ledger

log = logging.getLogger(__name__)


class Suspender:
    """Takes slices off devices and brings them back."""

    def __init__(self, world: World, node: Node, attachments: Attachments, sweep: Callable[[Place], None]) -> None:
        """``sweep`` sees to it that every process which holds a slot at a place is known."""
        self._world = world
        self._node = node
        self._attachments = attachments
        self._sweep = sweep
        self._under_way: set[str] = set()

    def due(self, ledger: Ledger) -> list[Errand]:
        """What is to be done and not under way."""
        found = self._node.suspensions.errands(ledger, self._node.held)
        return [each for each in found if each.slice_id not in self._under_way]

    async def run(self, errands: list[Errand]) -> None:
        """Do all of them, side by side."""
        self._under_way |= {each.slice_id for each in errands}
        try:
            await asyncio.gather(*(self._do(each) for each in errands))
        finally:
            self._under_way -= {each.slice_id for each in errands}

    async def _do(self, errand: Errand) -> None:
        suspensions = self._node.suspensions
        suspensions.set_out(errand)
        outcome, by_place = await self._ask(errand)
        if outcome.broken:
            self._attachments.signal_pids(errand.places, outcome.broken, signal.SIGKILL)
        suspensions.took_ns[errand.slice_id] = outcome.took_ns
        if outcome.refusal:
            what = "not suspended" if errand.suspends else "not resumed yet"
            log.warning("slice %s: %s: %s", errand.slice_id, what, outcome.refusal)
            suspensions.stays(errand, outcome.refusal)
        elif errand.suspends:
            suspensions.went(errand, {place: sum(its.values()) for place, its in by_place.items()})
        else:
            suspensions.came_back(errand)

    async def _ask(self, errand: Errand) -> tuple[Outcome, dict[Place, dict[int, int]]]:
        for place in errand.places:
            self._sweep(place)
        by_place = {place: self._attachments.charged(place) for place in errand.places}
        charged: dict[int, int] = {}
        for its in by_place.values():
            for pid, held in its.items():
                charged[pid] = charged.get(pid, 0) + held
        if not charged:
            return Outcome(), by_place
        try:
            driver = await asyncio.to_thread(self._world.checkpoints.on, errand.places[0].device_id)
        except CannotApplyError as error:
            was_away = errand.suspends or any(place in self._node.suspensions.away for place in errand.places)
            return Outcome(str(error) if was_away else ""), by_place
        if errand.suspends:
            call = asyncio.to_thread(suspend, driver, charged, errand.lock_s, self._world.clock.monotonic_ns)
        else:
            call = asyncio.to_thread(resume, driver, charged, self._world.clock.monotonic_ns)
        return await call, by_place
