"""What became of hardware partitions without us: by hand, by a reset, by another driver.

Invariants: pure; a partition that a slice has is never called an orphan; those of a layout are nobody's to take away.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from mica.enforcer.places import Held, Place
from mica.enforcer.steps import same_slots
from mica.events import Ledger, Observed, Partition


class Drift(Struct, frozen=True):
    """By place, what its partition is now (None: gone), and the partitions that are nobody's, each with a place of its own."""

    changed: Mapping[Place, Partition | None]
    orphans: Mapping[Place, Partition]


def orphan_at(device_id: str, partition: Partition) -> Place:
    """The place of a partition that belongs to no slice. No slice id contains a colon."""
    return Place(device_id, f":{partition.profile_id}@{partition.start}")


def is_fixed(device_id: str, partition: Partition) -> bool:
    """Whether it is there whoever wants it: one of a layout, or all of a device."""
    return bool(partition.layout) or partition.uuid == device_id


def drift(held: Mapping[Place, Held], living: Mapping[str, Iterable[Partition]]) -> Drift:
    """How what is there differs from what was known."""
    unclaimed = {device_id: list(partitions) for device_id, partitions in living.items()}
    changed: dict[Place, Partition | None] = {}
    for place, known in ((place, its.partition) for place, its in held.items()):
        if known is None or known.uuid == place.device_id:
            continue
        here = unclaimed.get(place.device_id, [])
        found = next((each for each in here if same_slots(each, known)), None)
        if found is not None:
            here.remove(found)
        if found is None or (found.uuid and found.uuid != known.uuid):
            changed[place] = found
    orphans = {
        orphan_at(device_id, each): each
        for device_id, partitions in unclaimed.items()
        for each in partitions
        if not is_fixed(device_id, each)
    }
    return Drift(changed, orphans)


def owners_of(observed: Observed, ledger: Ledger) -> Iterator[tuple[Place, Partition]]:
    """Which slice is to have which partition: what was last observed first, then what the ledger wants."""
    for documents in (observed.devices, ledger.devices):
        for device_id, slices in documents.items():
            for slice_id, item in slices.items():
                if item.partition is not None:
                    yield Place(device_id, slice_id), item.partition
