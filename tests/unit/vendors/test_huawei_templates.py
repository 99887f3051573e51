"""Templates become profiles that promise no more than a vNPU has."""

import pytest

from mica.events import Vendor
from mica.hardware import Catalogue, Model
from mica.vendors.huawei._templates import Resources, Template, catalogue_templates, profiles_of

SPLIT = [each for each in Catalogue.load().models.values() if each.vendor is Vendor.HUAWEI and each.profiles]


def resources(model: Model) -> Resources:
    """What a chip of the model says that it has."""
    return Resources(model.multiprocessors, model.vram_bytes, model.auxiliary, model.budgets.get("jpeg_decoders", 0))


@pytest.mark.parametrize("model", SPLIT, ids=lambda model: model.key)
def test_the_catalogue_and_the_arithmetic_agree(model: Model) -> None:
    """What follows from a chip's templates is what the catalogue lists: sizes, starts, memory, needs, how many there can be."""
    live = profiles_of(resources(model), catalogue_templates(model), model)
    assert live == model.partition_profiles()


@pytest.mark.parametrize("model", SPLIT, ids=lambda model: model.key)
def test_the_chip_itself_comes_last_and_takes_everything(model: Model) -> None:
    """As a layout of its own: never beside a vNPU."""
    *_, whole = model.partition_profiles()
    assert (whole.layout, whole.starts, whole.size, whole.vram_bytes) == ("whole", (0,), model.memory_slots, model.vram_bytes)
    assert whole.needs == model.budgets


def test_how_many_fit() -> None:
    """As Huawei says it: seven of a 310P, four or two of a 910B3, one vir16 of a 910 with 30 cores."""
    counts = {f"{model.key} {each.name}": each.max_instances for model in SPLIT for each in model.partition_profiles()}
    assert counts["310P3 vir01"] == 7
    assert counts["910B3 vir05_1c_16g"] == 4
    assert counts["910B3 vir10_3c_32g"] == 2
    assert counts["910A-30 vir16"] == 1
    assert counts["910A vir16"] == 2
    assert counts["910B1 vir03_1c_8g"] == 7
    assert counts["910B4 vir10_4c_16g_m"] == 1


def test_memory_is_the_smaller_of_the_name_and_the_share() -> None:
    """A vir01 of 3 GB has an eighth of a 310P's 21527 MB; one of 2 GB would have 2 GB."""
    chip = Resources(8, 21527 << 20, 7)
    big, small, _ = profiles_of(chip, (Template("vir01", 1, 3, 1), Template("small", 1, 2, 1)), None)
    assert (big.vram_bytes >> 20, small.vram_bytes >> 20) == (2690, 2048)


def test_a_chip_that_the_catalogue_lacks() -> None:
    """Slots are what divides all its templates, and its kind is its cores and memory."""
    chip = Resources(28, 96 << 30, 9)
    one, two, whole = profiles_of(chip, (Template("vir07", 7, 24, 2), Template("vir14", 14, 48, 4)), None)
    assert (one.size, one.starts, one.max_instances, one.shared) == (1, (0, 1, 2, 3), 4, "28c-96g")
    assert (two.size, two.starts, two.max_instances) == (2, (0, 2), 2)
    assert (whole.size, len({one.profile_id, two.profile_id, whole.profile_id})) == (4, 3)


def test_templates_of_no_sense_offer_nothing() -> None:
    """More cores than there are, or none: the chip is had whole."""
    chip = Resources(8, 16 << 30)
    found = profiles_of(chip, (Template("vir99", 99, 4), Template("vir00", 0, 4)), None)
    assert [each.name for each in found] == ["whole"]
