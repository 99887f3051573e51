"""What the queue's order rests on, gathered from the planner's documents. Invariant: no I/O."""

from mica.events import Holding
from mica.planner.desk import Desk
from mica.planner.domain.queueing import Standing
from mica.planner.waiting import Waiting


def standing_of(desk: Desk, waiting: Waiting, tenant: str = "") -> Standing:
    """The standing of all tenants that wait, and of ``tenant``, as this replica knows it now."""
    tenants = waiting.tenants() | ({tenant} if tenant else set())
    return Standing(
        now_ns=desk.now_ns(),
        held={each: _sum(list(desk.tenants.of(each).value.holdings.values())) for each in tenants},
        weights={each: desk.policies.tenant(each).weight for each in tenants},
        total=waiting.total,
        profiles=desk.policies.profiles,
    )


def _sum(holdings: list[Holding]) -> Holding:
    return Holding(vram_bytes=sum(each.vram_bytes for each in holdings), share_ppm=sum(each.share_ppm for each in holdings))
