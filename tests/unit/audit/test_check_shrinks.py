"""Shrinks that wait for processes, and partitions that are to be others: right for a while, and found when they are not."""

import audit_world as w
import pytest
from msgspec.structs import replace
from test_checks import GIB, Break, at, chained, findings, formerly, holdings, ledger_entry

from mica.audit import World
from mica.events import Held, Holding, Partition

OTHER = Partition(profile="1g.10gb", profile_id=19, start=1, size=1)


def shrinking(until: int = 0) -> Break:
    """Half a GiB of four is to be left to the slice, of which its process holds one; it is charged for all four."""
    small = {"generation": 2, "vram_bytes": GIB // 2}

    def broken(world: World) -> World:
        held = {w.SOFT: {"soft": Held(entry=w.entry("soft"), generation=5, until=until)}}
        placement = replace(w.record("soft").placements[0], vram_bytes=GIB // 2)
        record = w.record("soft", generation=2, placements=(placement,))
        world = w.with_documents(world, records={**world.documents.records, "soft": record})
        return w.with_ledger(ledger_entry("soft", **small)(world), held=held)

    return broken


BROKEN: dict[str, tuple[str, Break]] = {
    "a shrink that should have been given up long ago": ("ledger-held", chained(shrinking(until=1), at(40_000_000_000))),
    "a charge above what is held": (
        "tenant-record", chained(shrinking(), holdings(soft=Holding(vram_bytes=5 * GIB, share_ppm=500_000))),
    ),
    "a partition that nobody made, and nobody waits for": ("ledger-observed", ledger_entry("hard", generation=2)),
}  # fmt: skip
LEGITIMATE: dict[str, Break] = {
    "a shrink that waits and is charged for what it had": shrinking(until=1),
    "a partition that is to be another once its processes have left": chained(
        ledger_entry("hard", generation=2, partition=OTHER),
        formerly("hard"),
        lambda world: w.with_documents(
            world,
            records={
                **world.documents.records,
                "hard": w.record("hard", generation=2, placements=(replace(w.record("hard").placements[0], partition=OTHER),)),
            },
        ),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_change_that_should_be_over_is_found(case: str) -> None:
    """And so is a charge that nothing explains."""
    check, broken = BROKEN[case]
    assert check in {name for name, _ in findings(broken(w.sound()))}


@pytest.mark.parametrize("case", LEGITIMATE)
def test_a_change_that_waits_is_no_finding(case: str) -> None:
    """As long as processes may hold what they had."""
    assert findings(LEGITIMATE[case](w.sound())) == []
