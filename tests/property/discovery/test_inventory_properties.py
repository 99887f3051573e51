"""Inventories over any history of surveys."""

from hypothesis import given
from hypothesis import strategies as st

from mica.discovery.health import Failure
from mica.discovery.inventory import Identity, Survey, take_stock
from mica.events import Device, Health, Inventory, Vendor

IDENTITY = Identity(node="n1", pool="default", boot_id="boot-1")
NAMES = tuple("abcdef")


def device(name: str) -> Device:
    """A device whose index follows from its name."""
    return Device(id=name, index=NAMES.index(name), vendor=Vendor.NVIDIA, model="L4", vram_bytes=24 << 30)


@st.composite
def surveys(draw: st.DrawFn) -> Survey:
    """Some devices listed, some of those erring, and at times a silent library."""
    listed = draw(st.sets(st.sampled_from(NAMES)))
    failing = draw(st.sets(st.sampled_from(sorted(listed)))) if listed else set()
    silent = {Vendor.NVIDIA: "nvmlInit"} if not listed and draw(st.booleans()) else {}
    devices = tuple(device(name) for name in draw(st.permutations(sorted(listed))))
    return Survey(devices=devices, failures=dict.fromkeys(failing, Failure("lost")), silent=silent)


@given(st.lists(surveys(), max_size=12))
def test_within_a_boot_nothing_is_forgotten(history: list[Survey]) -> None:
    """Every device ever listed is in the inventory, healthy exactly if the last survey listed it without an error."""
    known: Inventory | None = None
    ever: set[str] = set()
    for survey in history:
        known = take_stock(IDENTITY, known, survey)
        listed = {found.id for found in survey.devices}
        ever |= listed
        health = {found.id: found.health for found in known.devices}
        assert set(health) == ever
        assert {name for name, value in health.items() if value is Health.HEALTHY} == listed - set(survey.failures)


@given(st.lists(surveys(), max_size=6), surveys())
def test_the_same_survey_changes_nothing(history: list[Survey], last: Survey) -> None:
    """Taking stock twice of the same finding gives the same inventory, whatever the order of the devices."""
    known: Inventory | None = None
    for survey in history:
        known = take_stock(IDENTITY, known, survey)
    once = take_stock(IDENTITY, known, last)
    again = Survey(devices=tuple(reversed(last.devices)), failures=last.failures, silent=last.silent)
    assert take_stock(IDENTITY, once, again) == once
