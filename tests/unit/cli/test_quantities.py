"""What people may type for sizes, shares and times."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mica.cli._quantities import (
    QuantityError,
    parse_burst,
    parse_bytes,
    parse_count,
    parse_cpus,
    parse_pinned,
    parse_rate,
    parse_seconds,
    parse_share,
    parse_speed,
    show_bytes,
    show_cpus,
    show_share,
)

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


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_pinned, "4GiB", 4 * GIB),
        (parse_pinned, "none", 0),
        (parse_rate, "500", 500),
        (parse_rate, "500/s", 500),
        (parse_rate, "2kHz", 2000),
        (parse_rate, "None", 0),
        (parse_speed, "10GiB/s", 10 * GIB),
        (parse_speed, "10GB", 10**10),
        (parse_count, "64", 64),
        (parse_burst, "20ms", 20_000_000),
        (parse_burst, "none", 0),
    ],
)
def test_a_limit_is_read_exactly_and_none_lifts_it(parse: Callable[[str], int], text: str, value: int) -> None:
    """Each with its own units; 0 is what the event calls no limit."""
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_pinned, "0"),
        (parse_rate, "0.5"),
        (parse_rate, "fast"),
        (parse_speed, "10GiB/h"),
        (parse_count, "-1"),
        (parse_burst, "0"),
    ],
)
def test_what_is_no_limit_says_what_was_given_and_that_none_lifts_it(parse: Callable[[str], int], text: str) -> None:
    """The text as it was typed, not as it was taken apart."""
    with pytest.raises(QuantityError, match="none, which lifts the limit") as caught:
        parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(("text", "cpu_milli"), [("4", 4_000), ("0.5", 500), ("500m", 500), (" 64 ", 64_000), ("1.125", 1_125)])
def test_processors_are_read_exactly(text: str, cpu_milli: int) -> None:
    """Whole ones, parts, and thousandths, as Kubernetes writes them; shown, they read the same."""
    assert parse_cpus(text) == cpu_milli
    assert parse_cpus(show_cpus(cpu_milli)) == cpu_milli


@pytest.mark.parametrize("text", ["0", "-1", "0.0001", "4 cores", "1.5m", "many"])
def test_what_is_no_number_of_processors_is_refused(text: str) -> None:
    """None, fewer, part of a thousandth, other words."""
    with pytest.raises(QuantityError):
        parse_cpus(text)
