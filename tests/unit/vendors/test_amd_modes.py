"""AMD's compute and memory modes as partitions."""

import pytest

from mica.events import Vendor
from mica.hardware import Catalogue, Model
from mica.vendors.amd._modes import Size, known_count, offered, partition_names, partitions_of, profile_of, profiles_of, whole

MODELS = [model for model in Catalogue.load().models.values() if model.vendor is Vendor.AMD and model.profiles]


def entry(compute: str, count: int, *memory: str) -> dict[str, object]:
    return {"profile_type": compute, "num_partitions": count, "memory_caps": list(memory)}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.key)
def test_the_catalogue_and_amdsmi_make_the_same_profiles(model: Model) -> None:
    """Name, number, slots, memory and compute units of a mode follow from how many partitions it has."""
    size = Size(model.vram_bytes, model.multiprocessors, model.memory_slots)
    for profile in model.partition_profiles():
        made = profile_of(profile.name, profile.max_instances, size)
        assert abs(made.vram_bytes - profile.vram_bytes) < 1 << 20
        assert (made.name, made.profile_id, made.size, made.starts) == (
            profile.name, profile.profile_id, profile.size, profile.starts,
        )  # fmt: skip
        assert (made.compute_slices, made.multiprocessors) == (profile.compute_slices, profile.multiprocessors)
        assert (made.layout, made.shared) == (profile.layout, profile.shared)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.key)
def test_the_catalogue_keeps_the_drivers_rules(model: Model) -> None:
    """SPX in NPS1 only, DPX up to NPS2, QPX in NPS1 or NPS4, and one partition never spans two parts of the memory."""
    allowed = {"SPX": {1}, "DPX": {1, 2}, "TPX": {1}, "QPX": {1, 4}, "CPX": {1, 2, 4}}
    assert "SPX/NPS1" in model.layouts
    for profile in model.profiles:
        compute, _, memory = profile.layout.partition("/NPS")
        assert int(memory) in allowed[compute]
        assert profile.max_instances % int(memory) == 0
        assert profile.max_instances * profile.size == model.memory_slots
        assert profile.shared == f"NPS{memory}"


def test_what_amdsmi_offers() -> None:
    """Compute modes in those of their memory modes that the device has; what makes no sense is left out."""
    config = {
        "profiles": [
            entry("SPX", 1, "NPS1"), entry("DPX", 2, "NPS1", "NPS2"), entry("CPX", 8, "NPS1", "NPS4", "N/A"),
            entry("XPX", 2, "NPS1"), entry("QPX", 1 << 31, "NPS1"), {"profile_type": "TPX", "num_partitions": "N/A"},
        ]
    }  # fmt: skip
    assert offered(config, {"partition_caps": ["NPS1", "NPS4"]}) == {"SPX/NPS1": 1, "DPX/NPS1": 2, "CPX/NPS1": 8, "CPX/NPS4": 8}
    assert "DPX/NPS2" in offered(config, {"partition_caps": ["N/A"]})
    assert offered(None, None) == {}


def test_uneven_modes_are_left_out() -> None:
    """A device of six XCDs is not divided in four."""
    assert [each.name for each in profiles_of({"QPX/NPS1": 4, "TPX/NPS1": 3}, Size(6 << 30, 6, 6))] == ["TPX/NPS1"]


def test_partitions_have_their_slots_in_order() -> None:
    """The n-th partition starts at the n-th start, and has the layout's name."""
    found = partitions_of(profile_of("QPX/NPS4", 4, Size(8 << 30, 8, 8)), "abcd")
    assert [(each.uuid, each.start, each.size, each.layout) for each in found] == [
        ("a", 0, 2, "QPX/NPS4"), ("b", 2, 2, "QPX/NPS4"), ("c", 4, 2, "QPX/NPS4"), ("d", 6, 2, "QPX/NPS4"),
    ]  # fmt: skip


@pytest.mark.parametrize("said", [("GPU-1", "GPU-1"), ("GPU-0000", "GPU-0001"), ("GPU-1",), ("", "")])
def test_names_that_tell_nothing_apart(said: tuple[str, ...]) -> None:
    """Equal, empty and missing UUIDs are not used; names made instead are the device's, the mode's and a number."""
    assert partition_names("d", "DPX/NPS1", said, 2) == ("d-dpx-nps1-0", "d-dpx-nps1-1")


def test_names_that_do() -> None:
    """The runtime's UUIDs are used as they are."""
    assert partition_names("d", "DPX/NPS1", ("GPU-a1", "GPU-b2"), 2) == ("GPU-a1", "GPU-b2")


def test_how_many_partitions_a_mode_has() -> None:
    """That depends on the device in CPX alone; a mode that is not known says nothing."""
    assert [known_count(mode) for mode in ("SPX/NPS1", "QPX/NPS4", "CPX/NPS1", "XPX/NPS1", "")] == [1, 4, 0, 0, 0]


def test_figures_of_a_part_or_of_all() -> None:
    """What a processor says is taken for the part or the whole by what the catalogue has; else for the part."""
    assert (whole(24, 8, 192), whole(190, 8, 192), whole(24, 8, 0)) == (192, 190, 192)
