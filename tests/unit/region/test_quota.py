"""The quota region through its Python face."""

import os
import struct
from pathlib import Path

import msgspec
import pytest

from mica.events import Control, Tier
from mica.region import (
    RECORDS_MAX,
    Defect,
    Limits,
    LimitsError,
    QuotaRegion,
    RegionAccessError,
    RegionBusyError,
    RegionDefectError,
    RegionError,
    RegionMissingError,
    SliceState,
    create_token,
)

LIMITS = Limits(
    slice_id="slice-1",
    generation=7,
    vram_limit_bytes=24 << 30,
    share_ppm=300_000,
    ceiling_ppm=500_000,
    burst_ns=2_000_000,
    tier=Tier.SPOT,
    control=Control.DRAIN,
    state=SliceState.DRAINING,
)
SEQUENCE_OFFSET = 256
RECORD_BYTES = 256


@pytest.fixture
def region(tmp_path: Path):
    with QuotaRegion.create(tmp_path / "quota", "GPU-1") as opened:
        yield opened


def poke(path: Path, offset: int, word: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack("<Q", word))


def test_readers_see_what_the_enforcer_wrote(region: QuotaRegion) -> None:
    """A record written through one mapping is read whole through another, read-only one."""
    region.write(3, LIMITS)
    with QuotaRegion(region.path) as reader:
        assert reader.read(3) == LIMITS
        assert reader.records() == {3: LIMITS}
        assert reader.find("slice-1") == 3
        assert reader.find("slice-2") is None
        assert reader.read(4) is None
        region.clear(3)
        assert reader.records() == {}
        assert reader.find("slice-1") is None


def test_free_index_is_the_lowest_until_all_are_taken(region: QuotaRegion) -> None:
    """Records are handed out lowest first, and a full region has none."""
    for index in range(RECORDS_MAX):
        assert region.free_index() == index
        region.write(index, msgspec.structs.replace(LIMITS, slice_id=f"s{index}"))
    assert region.free_index() is None
    region.clear(5)
    assert region.free_index() == 5


def test_create_adopts_what_is_there(region: QuotaRegion) -> None:
    """An enforcer that starts again finds its records and its heartbeat, in a file that only it may write."""
    region.write(0, LIMITS)
    region.heartbeat(99)
    assert region.path.stat().st_mode & 0o777 == 0o644
    with QuotaRegion.create(region.path, "GPU-1") as again:
        assert (again.read(0), again.heartbeat_ns, again.device_id) == (LIMITS, 99, "GPU-1")
    with pytest.raises(RegionError, match="device GPU-1, expected GPU-2"):
        QuotaRegion.create(region.path, "GPU-2")


def test_record_whose_writer_died_is_busy_until_repaired(region: QuotaRegion) -> None:
    """A record left odd is never shown; repairing frees exactly that one."""
    region.write(0, LIMITS)
    region.write(1, LIMITS)
    poke(region.path, SEQUENCE_OFFSET + RECORD_BYTES, 3)
    with pytest.raises(RegionBusyError, match="record 1"):
        region.read(1)
    with pytest.raises(RegionBusyError, match="slice-9"):
        region.find("slice-9")
    assert region.repair() == 1
    assert region.records() == {0: LIMITS}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slice_id": "../x"}, "allowed are 1 to 64 of"),
        ({"slice_id": "x" * 1_000_000}, "allowed are 1 to 64 of"),
        ({"slice_id": ""}, "allowed are 1 to 64 of"),
        ({"vram_limit_bytes": -1}, "vram_limit_bytes is -1"),
        ({"burst_ns": 1 << 64}, "burst_ns is 18446744073709551616"),
        ({"ceiling_ppm": 299_999}, "ceiling_ppm is 299999, allowed is share_ppm 300000 or more"),
    ],
)
def test_limits_that_no_record_can_carry_are_named(region: QuotaRegion, change: dict[str, object], said: str) -> None:
    """Bad limits are refused with the field and what is allowed, shortly, and the record stays as it was."""
    region.write(0, LIMITS)
    with pytest.raises(LimitsError, match=said) as caught:
        region.write(0, msgspec.structs.replace(LIMITS, **change))
    assert len(str(caught.value)) < 300
    assert region.read(0) == LIMITS


def test_unknown_values_are_named_not_guessed(region: QuotaRegion) -> None:
    """A control word of a later version is an error that says where it was found."""
    region.write(2, LIMITS)
    poke(region.path, 256 + 2 * RECORD_BYTES + 72 + 3 * 8, 9)
    with pytest.raises(LimitsError, match="record 2: control is 9"):
        region.read(2)


def test_misuse_is_an_error_not_a_crash(region: QuotaRegion) -> None:
    """Writing through a reader's mapping, a record out of range and a closed region are refused."""
    with QuotaRegion(region.path) as reader, pytest.raises(RegionError, match="opened to read"):
        reader.write(0, LIMITS)
    for index in (-1, RECORDS_MAX):
        with pytest.raises(RegionError, match="allowed are 0 to 127"):
            region.read(index)
    region.close()
    region.close()
    with pytest.raises(RegionError, match="is closed"):
        region.read(0)


@pytest.mark.parametrize(
    ("offset", "word", "defect"),
    [(0, 1, Defect.FOREIGN), (8, 5, Defect.FUTURE), (8, 2, Defect.PAST), (16, 2, Defect.WRONG_KIND), (160, 0, Defect.OTHER_BOOT)],
)
def test_defects_say_what_was_found(region: QuotaRegion, offset: int, word: int, defect: Defect) -> None:
    """A damaged header is refused with its path, the kind of damage, and what was found beside what was expected."""
    poke(region.path, offset, word)
    with pytest.raises(RegionDefectError, match=r"expected a quota region, layout 4, 33024 bytes; found 33024 bytes") as caught:
        QuotaRegion(region.path)
    assert caught.value.defect is defect
    assert caught.value.path == region.path


def test_truncated_and_missing_files_are_told_apart(region: QuotaRegion, tmp_path: Path) -> None:
    """A short file is a defect, a missing one is not; a missing directory is the system's refusal."""
    os.truncate(region.path, 300)
    with pytest.raises(RegionDefectError) as caught:
        QuotaRegion(region.path)
    assert caught.value.defect is Defect.TRUNCATED
    with pytest.raises(RegionMissingError, match="absent"):
        QuotaRegion(tmp_path / "absent")
    with pytest.raises(RegionAccessError, match="no/quota"):
        QuotaRegion.create(tmp_path / "no" / "quota", "GPU-1")


def test_token_region_is_made_once(tmp_path: Path) -> None:
    """A token region is writable by everybody, and a second creation leaves it alone."""
    path = tmp_path / "token"
    assert create_token(path, "GPU-1")
    assert path.stat().st_mode & 0o777 == 0o666
    poke(path, 256, 5)
    assert not create_token(path, "GPU-1")
    assert path.read_bytes()[256] == 5
