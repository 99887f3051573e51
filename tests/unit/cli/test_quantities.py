"""What people may type for sizes, shares and times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mica.cli._quantities import QuantityError, parse_bytes, parse_seconds, parse_share, show_bytes, show_share

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("24GiB", 24 * GIB),
        ("24G", 24 * GIB),
        ("24g", 24 * GIB),
        ("1.5GiB", 3 * GIB // 2),
        ("24GB", 24 * 10**9),
        ("512", 512),
        (" 2 MiB ", 2 << 20),
    ],
)
def test_a_size_is_read_exactly(text: str, count: int) -> None:
    """Binary and decimal units, fractions of them, and plain bytes."""
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1GiB", "24XB", "GiB", "1e9", "0.3", "nan", "9" * 1000, "24 GiB each"])
def test_what_is_no_size_says_what_is_allowed(text: str) -> None:
    """Nothing, less than a byte, part of a byte or an unknown unit is refused, however long it is."""
    with pytest.raises(QuantityError, match="allowed: a size above 0") as caught:
        parse_bytes(text)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("text", "ppm"), [("70%", 700_000), ("0.7", 700_000), ("700000ppm", 700_000), ("100%", 1_000_000), ("1", 1_000_000)]
)
def test_a_share_is_read_exactly(text: str, ppm: int) -> None:
    """Percent, a part of one, or ppm."""
    assert parse_share(text) == ppm


@pytest.mark.parametrize("text", ["70", "0", "0%", "101%", "-5%", "0.00000001", "half"])
def test_what_is_no_share_says_what_is_allowed(text: str) -> None:
    """A share is above nothing and at most the whole."""
    with pytest.raises(QuantityError, match=r"70%, 0\.7 or 700000ppm"):
        parse_share(text)


def test_times_have_units() -> None:
    """Seconds are the default; a time below zero is none."""
    assert [parse_seconds(text) for text in ("30s", "500ms", "2m", "1h", "7", "0")] == [30, 0.5, 120, 3600, 7, 0]
    with pytest.raises(QuantityError, match="a time such as"):
        parse_seconds("-1s")


@given(st.integers(1, 1_000_000))
def test_a_share_that_is_shown_can_be_typed_again(share_ppm: int) -> None:
    """What is printed is within half of the last digit shown."""
    shown = show_share(share_ppm)
    assert abs(share_ppm - float(shown.rstrip("%")) * 10_000) <= 51


def test_sizes_are_shown_in_the_largest_unit_that_leaves_one() -> None:
    """No trailing zeros, no unit for bytes."""
    assert [show_bytes(n) for n in (0, 1023, 1 << 20, 3 * GIB // 2, 1 << 40)] == ["0", "1023", "1MiB", "1.5GiB", "1TiB"]
