"""For every card of the catalogue: every legal set of partitions can be reached, and no illegal one.

The oracle knows the rules and nothing of the planner: a partition starts where its profile may, no two cover a slot, compute
slices and budgets hold, no profile is there more often than it may be, and all are of one layout.
"""

import random
from collections.abc import Iterator

import pytest
from msgspec import structs

from mica.events import Device, Partition
from mica.hardware import Catalogue, HardwareProfile, Model
from mica.planner.domain import partitions
from mica.planner.domain.partitions import Geometry, Key, occupied

CARDS = [model for model in Catalogue.load().models.values() if model.profiles]
Member = tuple[HardwareProfile, int]
"""A profile and where it starts."""


def is_legal(model: Model, members: tuple[Member, ...]) -> bool:
    """The rules, as the vendors' documents state them."""
    profiles = [profile for profile, _ in members]
    if len({profile.layout for profile in profiles}) > 1:
        return False
    slots = [slot for profile, start in members for slot in range(start, start + profile.size)]
    if len(slots) != len(set(slots)) or any(start not in profile.starts for profile, start in members):
        return False
    if any(profiles.count(profile) > profile.max_instances for profile in profiles):
        return False
    if profiles and profiles[0].layout:
        return True
    media = sum(profile.media_extensions for profile in profiles)
    auxiliary = sum(profile.auxiliary for profile in profiles)
    jpegs, most = sum(p.jpegs for p in profiles), max(p.jpegs for p in model.profiles)
    if not model.mig and most and jpegs > most:
        return False
    return sum(p.compute_slices for p in profiles) <= model.compute_slices and media <= 1 and auxiliary <= model.auxiliary


def legal_sets(model: Model) -> set[frozenset[Key]]:
    """All of them: a set is legal only if every set with one member less is, so that they are found by their size."""
    everything = [(profile, start) for profile in model.profiles for start in profile.starts]
    keys = {member: (member[0].profile_id, member[1], member[0].size) for member in everything}
    found: set[frozenset[Key]] = {frozenset()}
    level: list[tuple[Member, ...]] = [()]
    while level:
        longer = [(*members, each) for members in level for each in after(everything, members)]
        level = [members for members in longer if is_legal(model, members)]
        found |= {frozenset(keys[member] for member in members) for members in level}
    return found


def after(everything: list[Member], members: tuple[Member, ...]) -> list[Member]:
    """Those behind the last member in the list, so that every set comes up once."""
    return everything[everything.index(members[-1]) + 1 :] if members else everything


def planned_sets(model: Model) -> set[frozenset[Key]]:
    """What the planner's geometry lets grow from nothing, one partition after the other."""
    geometry = Geometry(device_of(model))
    found: set[frozenset[Key]] = {frozenset()}
    grown = [frozenset[Key]()]
    while grown:
        members = grown.pop()
        for longer in one_more(geometry, members):
            if longer not in found:
                found.add(longer)
                grown.append(longer)
    return found


def one_more(geometry: Geometry, members: frozenset[Key]) -> Iterator[frozenset[Key]]:
    keys, mask = occupied(Partition(profile="", profile_id=id_, start=start, size=size) for id_, start, size in members)
    for profile in geometry.profiles:
        for start in geometry.starts(keys, mask, profile):
            yield members | {(profile.profile_id, start, profile.size)}


def walk(model: Model, seed: int) -> None:
    """From nothing to a full device: at every step the planner lets exactly those in that are legal."""
    chance = random.Random(seed)
    geometry = Geometry(device_of(model))
    everything = {(p.profile_id, start, p.size): (p, start) for p in model.profiles for start in p.starts}
    members: frozenset[Key] = frozenset()
    while True:
        here = tuple(everything[key] for key in members)
        legal = {members | {key} for key, each in everything.items() if key not in members and is_legal(model, (*here, each))}
        assert set(one_more(geometry, members)) == legal
        if not legal:
            return
        members = chance.choice(sorted(legal, key=sorted))


def device_of(model: Model) -> Device:
    return Device(
        id="D", index=0, vendor=model.vendor, model=model.name, vram_bytes=model.vram_bytes, profiles=model.partition_profiles(),
        compute_slices=model.compute_slices, multiprocessors=model.multiprocessors, budgets=model.budgets, partitioned=True,
    )  # fmt: skip


def shape_of(model: Model) -> tuple[object, ...]:
    """What the sets depend on: cards that are alike in it need not be gone through twice."""
    rows = tuple(
        (p.profile_id, p.size, p.starts, p.compute_slices, p.max_instances, p.layout, p.auxiliary, p.media_extensions)
        for p in model.profiles
    )
    return model.compute_slices, model.auxiliary, rows


GRIDS = list({shape_of(model): model for model in CARDS}.values())


def by_key(model: Model) -> str:
    return model.key


@pytest.mark.parametrize("model", [model for model in GRIDS if model.mig], ids=by_key)
def test_the_planner_reaches_every_legal_set_and_no_other(model: Model) -> None:
    """On every card that has MIG, growing from an empty device, one partition at a time."""
    assert planned_sets(model) == legal_sets(model)


@pytest.mark.parametrize("model", GRIDS, ids=by_key)
def test_the_planner_lets_in_what_is_legal_and_nothing_else(model: Model) -> None:
    """Everywhere, on random ways from an empty device to a full one: some have more sets than can be counted."""
    for seed in range(30):
        walk(model, seed)


def test_every_card_is_among_the_grids() -> None:
    """What is checked once for all that are alike covers all of the catalogue."""
    assert {shape_of(model) for model in CARDS} == {shape_of(model) for model in GRIDS}
    assert len(CARDS) >= 6


@pytest.mark.parametrize("rule", ["slots", "media engines", "layouts"])
def test_a_planner_without_one_of_the_rules_is_caught(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controls: with slots shared, more media engines than there are, or layouts mixed it lets in what is not legal."""
    model = judged = Catalogue.load().model("A30")
    if rule == "slots":
        monkeypatch.setattr(partitions, "_mask", lambda start, size: 0)
    elif rule == "media engines":
        monkeypatch.setattr(partitions, "needs", lambda profile: {})
        one = structs.replace(model.profile("1g.6gb+me"), max_instances=4)
        model = judged = structs.replace(model, profiles=(one,))
    else:
        judged = structs.replace(model, profiles=tuple(structs.replace(each, layout=each.name) for each in model.profiles))
    assert planned_sets(model) - legal_sets(judged)
