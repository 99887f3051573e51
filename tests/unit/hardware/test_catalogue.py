"""The catalogue: complete, consistent with itself, and clear about what it does not know."""

from itertools import pairwise

import pytest

from mica.events import Vendor
from mica.hardware import Catalogue, CatalogueError, Model

MODELS = Catalogue.load().models
MIG_MODELS = [model for model in MODELS.values() if model.mig]


def by_key(model: Model) -> str:
    return model.key


def test_the_usual_accelerators_are_known() -> None:
    """What data centres run, from Pascal to Hopper."""
    expected = {"H100-SXM-80GB", "H100-PCIe-80GB", "H200", "A100-SXM-80GB", "A100-SXM-40GB", "A30", "L4", "L40S", "T4"}
    assert expected | {"P40", "P100", "V100-16GB", "V100-32GB"} <= set(MODELS)


@pytest.mark.parametrize("model", MODELS.values(), ids=by_key)
def test_a_model_is_plausible(model: Model) -> None:
    """The reserve is a small part of the memory, units are bytes and kHz (0: not known), and only Ampere and later have MIG."""
    assert 0 <= model.reserve_bytes < model.vram_bytes // 20
    assert 3 << 30 < model.vram_bytes < 400 << 30
    assert model.clock_khz == 0 or 500_000 < model.clock_khz < 3_000_000
    assert (model.capability is not None) == (model.vendor is Vendor.NVIDIA)
    assert model.limits.multiprocessor_threads_max in {1024, 1536, 2048}
    assert not model.mig or (model.capability or (0, 0)) >= (8, 0)


@pytest.mark.parametrize("model", MIG_MODELS, ids=by_key)
def test_profiles_fit_their_device(model: Model) -> None:
    """Every start lies on the grid, no profile is larger than the device, and as many as allowed have room side by side."""
    for profile in model.profiles:
        assert all(start + profile.size <= model.memory_slots for start in profile.starts)
        assert profile.memory_bytes <= model.usable_bytes
        assert profile.multiprocessors <= model.multiprocessors
        assert profile.max_instances * profile.compute_slices <= model.compute_slices
        assert profile.max_instances * profile.memory_bytes <= model.usable_bytes
        apart = sorted(profile.starts)
        assert all(later - earlier >= profile.size for earlier, later in pairwise(apart))


@pytest.mark.parametrize("model", MIG_MODELS, ids=by_key)
def test_profile_ids_are_unique(model: Model) -> None:
    """Neither NVML's numbers nor the ids of instances nor the names repeat within a model."""
    for field in ("index", "profile_id", "name"):
        values = [getattr(profile, field) for profile in model.profiles]
        assert len(set(values)) == len(values)


def test_the_standard_grid_is_nvidias() -> None:
    """Ids, starts, sizes and engines of an H100 as the vendor documents them."""
    profiles = {p.name: p for p in MODELS["H100-SXM-80GB"].profiles}
    three = profiles["3g.40gb"]
    assert (three.profile_id, three.starts, three.size, three.max_instances, three.multiprocessors) == (9, (0, 4), 4, 2, 60)
    seven = profiles["7g.80gb"]
    assert (seven.profile_id, seven.starts, seven.size, seven.copy_engines, seven.jpegs) == (0, (0,), 8, 8, 7)
    assert [name for name, p in profiles.items() if p.media_extensions] == ["1g.10gb+me"]


def test_an_unknown_model_lists_what_is_allowed() -> None:
    """The error names the model asked for and every model there is."""
    with pytest.raises(CatalogueError, match=r"unknown model 'H900'; allowed: .*H100-SXM-80GB.*P40"):
        Catalogue.load().model("H900")


def test_an_unknown_profile_lists_what_is_allowed() -> None:
    """The error names the model's profiles, or says that it has none."""
    with pytest.raises(CatalogueError, match=r"no profile '5g.50gb'; allowed: 1g.10gb.*7g.80gb"):
        MODELS["H100-SXM-80GB"].profile("5g.50gb")
    with pytest.raises(CatalogueError, match="it has no partitions"):
        MODELS["L4"].profile("1g.10gb")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"models = 3", "models"),
        (b"vendor = 'amd'\n[models.x]\nname = 'x'", "missing required field"),
        (b"no toml", "catalogue"),
    ],
)
def test_a_broken_catalogue_is_refused(text: bytes, message: str) -> None:
    """Not TOML, missing fields and wrong types are one error each."""
    with pytest.raises(CatalogueError, match=message):
        Catalogue.parse(text)
