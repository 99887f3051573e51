"""Every check, in one list. Invariant: a check is run on every reading, whatever the others found."""

from collections.abc import Callable
from typing import Final

from mica.audit._finding import Finding, Tally
from mica.audit._world import World
from mica.audit.answers import check_answers
from mica.audit.documents import check_documents
from mica.audit.drivers import check_drivers
from mica.audit.invariants import check_compute, check_host, check_mode, check_quotas, check_slots, check_vram, devices
from mica.audit.regions import check_regions


def check_capacity(world: World, tally: Tally) -> None:
    """I1 to I4 of every device, I8 of every node, and I7 of every tenant, on the documents."""
    documents = world.documents
    for node, device, shares in devices(documents):
        subject = f"device {device.id} of node {node}"
        for violations in (
            check_vram(device, shares),
            check_compute(shares),
            check_slots(device, shares),
            check_mode(device, shares),
        ):
            tally.all_of(Finding(invariant, subject, message) for invariant, message in violations)
    for node in documents.inventories:
        tally.all_of(Finding(invariant, f"node {node}", message) for invariant, message in check_host(documents, node))
    over = list(check_quotas(documents))
    for tenant in documents.tenants:
        mine = [violation for violation in over if violation.subject == f"tenant {tenant}"]
        tally.all_of(Finding(violation.invariant, violation.subject, violation.message) for violation in mine)
    strangers = [violation for violation in over if violation.subject.removeprefix("tenant ") not in documents.tenants]
    tally.all_of(Finding(violation.invariant, violation.subject, violation.message) for violation in strangers)


CHECKS: Final[tuple[Callable[[World, Tally], None], ...]] = (
    check_capacity,
    check_documents,
    check_answers,
    check_regions,
    check_drivers,
)


def check_world(world: World, tally: Tally) -> None:
    """Run them all."""
    for check in CHECKS:
        check(world, tally)
