"""Every check, in one list. Invariant: a check is run on every reading, whatever the others found."""

from collections.abc import Callable
from typing import Final

from mica.audit._finding import Tally
from mica.audit._world import World
from mica.audit.answers import check_answers
from mica.audit.documents import check_documents
from mica.audit.drivers import check_drivers
from mica.audit.regions import check_regions

CHECKS: Final[tuple[Callable[[World, Tally], None], ...]] = (
    check_documents,
    check_answers,
    check_regions,
    check_drivers,
)


def check_world(world: World, tally: Tally) -> None:
    """Run them all."""
    for check in CHECKS:
        check(world, tally)
