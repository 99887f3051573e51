"""Policy of overruns: what becomes of a process whose work stays on a device beyond its time.

Invariant: a step comes only after the one before it, and after its own grace.
"""

from typing import Annotated

from msgspec import Meta

from mica.events._state import Document
from mica.events._vocabulary import OverrunStep, Tier

Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class Grace(Document, frozen=True, kw_only=True):
    """How long an overrun lasts before each step, counted from the step before (s)."""

    throttle_s: Seconds = 1.0
    pause_s: Seconds = 2.0
    terminate_s: Seconds = 5.0


class BurstGrace(Grace, frozen=True, kw_only=True):
    """Of burst slices."""

    throttle_s: Seconds = 0.5
    pause_s: Seconds = 1.0
    terminate_s: Seconds = 2.0


class SpotGrace(Grace, frozen=True, kw_only=True):
    """Of spot slices."""

    throttle_s: Seconds = 0.25
    pause_s: Seconds = 0.5
    terminate_s: Seconds = 1.0


class Overruns(Document, frozen=True, kw_only=True):
    """How patient the node is, by tier, and how far it goes.

    ``timeslice`` and ``fcsp`` are the furthest steps there: on a time-sliced device a kernel that does not end has it for itself,
    elsewhere the driver takes turns. A process that has behaved for ``calm_s`` climbs down a step.
    """

    guaranteed: Grace = Grace()
    burst: BurstGrace = BurstGrace()
    spot: SpotGrace = SpotGrace()
    timeslice: OverrunStep = OverrunStep.TERMINATED
    fcsp: OverrunStep = OverrunStep.THROTTLED
    calm_s: Seconds = 5.0

    def grace(self, tier: Tier) -> Grace:
        """The tier's."""
        return {Tier.GUARANTEED: self.guaranteed, Tier.BURST: self.burst, Tier.SPOT: self.spot}[tier]
