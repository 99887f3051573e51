"""vNPUs are numbered by where they start, and their starts are read back from their numbers."""

from hypothesis import given
from hypothesis import strategies as st

from mica.events import PartitionProfile
from mica.hardware import Catalogue
from mica.vendors.huawei._numbers import UNKNOWN_PROFILE, first_number, numbers_for, partitions, vnpu_of, vnpu_uuid

CHIP = "0000000A-0000000B-0000000C-0000000D-0000000E"
MODELS = {key: Catalogue.load().model(key) for key in ("310P3", "910A", "910A-30", "910B2", "910B3", "910B4")}


def offered(key: str) -> dict[str, PartitionProfile]:
    """A model's templates, by name."""
    return {each.name: each for each in MODELS[key].partition_profiles() if not each.layout}


def starts(key: str, *vnpus: tuple[int, str]) -> dict[str, int]:
    """Where each vNPU starts, by its name."""
    return {each.uuid: each.start for each in partitions(CHIP, 0, vnpus, offered(key))}


def test_numbers_begin_at_a_hundred_and_sixteen_apart() -> None:
    """As npu-smi documents it: [phy_id * 16 + 100, phy_id * 16 + 115]."""
    assert [first_number(physical) for physical in (0, 1, 7)] == [100, 116, 212]


def test_what_mica_numbers_is_read_back_where_it_was_planned() -> None:
    """The first number for every start of every template of every chip gives back that start, and lies in the chip's range."""
    for key in MODELS:
        for profile in offered(key).values():
            for start in profile.starts:
                number = next(numbers_for(profile, start, 3))
                assert first_number(3) <= number <= first_number(3) + 15
                (found,) = partitions(CHIP, 3, [(number, profile.name)], offered(key))
                assert (found.start, found.size, found.profile_id) == (start, profile.size, profile.profile_id)


def test_numbers_that_people_get_from_the_chip_count_through_the_starts() -> None:
    """npu-smi numbers from the first that is free: 100 and 101 are the first and the second of a 910B3's halves."""
    assert starts("910B3", (100, "vir10_3c_32g"), (101, "vir10_3c_32g")) == {f"{CHIP}-vnpu100": 0, f"{CHIP}-vnpu101": 2}


def test_a_vnpu_stays_where_it_is_when_another_one_goes() -> None:
    """Its start follows from its own number."""
    assert starts("910B3", (101, "vir10_3c_32g")) == {f"{CHIP}-vnpu101": 2}


def test_of_two_on_one_slot_the_higher_number_moves() -> None:
    """A whole half under 100 and a quarter under 101 would overlap."""
    assert starts("910B3", (100, "vir10_3c_32g"), (101, "vir05_1c_16g")) == {f"{CHIP}-vnpu100": 0, f"{CHIP}-vnpu101": 2}


def test_another_number_stands_for_a_slot_whose_own_is_taken() -> None:
    """They are tried in turn, the plain one first."""
    quarter = offered("910B3")["vir05_1c_16g"]
    assert list(numbers_for(quarter, 1, 0)) == [101, 105, 109, 113]


@given(st.data(), st.sampled_from(sorted(MODELS)))
def test_vnpus_never_overlap(data: st.DataObject, key: str) -> None:
    """However people number them: whatever fits on the chip at once has slots of its own."""
    profiles = offered(key)
    names, slots = [], 0
    for name in data.draw(st.lists(st.sampled_from(sorted(profiles)), max_size=16)):
        if slots + profiles[name].size <= MODELS[key].memory_slots and names.count(name) < profiles[name].max_instances:
            slots += profiles[name].size
            names.append(name)
    numbers = data.draw(st.permutations(range(100, 116)))[: len(names)]
    found = partitions(CHIP, 0, zip(numbers, names, strict=True), profiles)
    taken = [slot for each in found for slot in range(each.start, each.start + each.size)]
    assert len(taken) == len(set(taken))
    assert {each.uuid for each in found} == {vnpu_uuid(CHIP, number) for number in numbers}


def test_a_template_that_the_chip_does_not_offer_is_listed_all_the_same() -> None:
    """Under a profile id that is nobody's: it exists."""
    (found,) = partitions(CHIP, 1, [(118, "vir99")], offered("910B3"))
    assert (found.profile, found.profile_id, found.start, found.size) == ("vir99", UNKNOWN_PROFILE, 2, 1)


def test_names_of_vnpus_and_of_chips() -> None:
    """One is told from the other."""
    assert vnpu_of(vnpu_uuid(CHIP, 116)) == (CHIP, 116)
    assert vnpu_of(CHIP) is None
    assert vnpu_of(f"{CHIP}-vnpux") is None
