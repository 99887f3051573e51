"""Sizes, shares and times as people write them. Invariant: parsing is exact; what is no whole byte or ppm is refused."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

import click

PPM: Final = 1_000_000
_NUMBER: Final = re.compile(r"^\s*(?P<number>-?\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z%]*)\s*$")
_BYTES: Final = {
    "": 1, "B": 1,
    "K": 1 << 10, "KIB": 1 << 10, "M": 1 << 20, "MIB": 1 << 20, "G": 1 << 30, "GIB": 1 << 30, "T": 1 << 40, "TIB": 1 << 40,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_SHARES: Final = {"": PPM, "%": PPM // 100, "PPM": 1}
_SECONDS: Final = {"": Fraction(1), "S": Fraction(1), "MS": Fraction(1, 1000), "M": Fraction(60), "H": Fraction(3600)}

BYTES_ALLOWED: Final = "a size above 0 such as 24GiB, 24G (the same), 24GB (10^9 bytes each) or 25769803776"
SHARE_ALLOWED: Final = "a share above 0 and up to the whole, such as 70%, 0.7 or 700000ppm"
_HERTZ: Final = {"": Fraction(1), "HZ": Fraction(1), "KHZ": Fraction(1000)}

CPUS_ALLOWED: Final = "processors above 0 such as 4, 0.5 or 500m (thousandths)"
_CPUS: Final = {"": Fraction(1000), "M": Fraction(1)}

SECONDS_ALLOWED: Final = "a time such as 30s, 500ms, 2m or 1h"
LIFTED: Final = "none"
"""What lifts a limit."""
LIMIT_ALLOWED: Final = f"; or {LIFTED}, which lifts the limit"
RATE_ALLOWED: Final = "a whole number of launches a second such as 500, 500/s or 2kHz"
REQUESTS_ALLOWED: Final = "requests a second or a minute such as 50/s, 0.5/s or 30/m"
SPEED_ALLOWED: Final = "a size a second such as 10GiB/s"
COUNT_ALLOWED: Final = "a whole number above 0"


class QuantityError(ValueError):
    """Text that is no such quantity: says what was given and what is allowed."""

    def __init__(self, given: str, allowed: str) -> None:
        shown = given if len(given) <= 40 else f"{given[:40]}… ({len(given)} characters)"
        self.allowed = allowed
        super().__init__(f"got {shown!r}, allowed: {allowed}")


def parse_bytes(text: str) -> int:
    """Bytes in ``24GiB``, ``24G`` or ``25769803776``.

    Raises:
        QuantityError: no number, an unknown unit, part of a byte, or nothing at all.
    """
    value = _parse(text, {unit: Fraction(factor) for unit, factor in _BYTES.items()}, BYTES_ALLOWED)
    if value <= 0 or value.denominator != 1:
        raise QuantityError(text, BYTES_ALLOWED)
    return int(value)


def parse_share(text: str) -> int:
    """Parts per million in ``70%``, ``0.7`` or ``700000ppm``.

    Raises:
        QuantityError: as for bytes, or a share above the whole.
    """
    value = _parse(text, {unit: Fraction(factor) for unit, factor in _SHARES.items()}, SHARE_ALLOWED)
    if not 0 < value <= PPM or value.denominator != 1:
        raise QuantityError(text, SHARE_ALLOWED)
    return int(value)


def parse_ceiling(text: str) -> int:
    """As ``parse_share``, and 0 for ``none``. Raises QuantityError."""
    return 0 if _lifts(text) else _or_none(parse_share, text)


def parse_cpus(text: str) -> int:
    """Thousandths of a processor in ``4``, ``0.5`` or ``500m``.

    Raises:
        QuantityError: as for bytes, or part of a thousandth.
    """
    value = _parse(text, _CPUS, CPUS_ALLOWED)
    if value <= 0 or value.denominator != 1:
        raise QuantityError(text, CPUS_ALLOWED)
    return int(value)


def parse_seconds(text: str) -> float:
    """Seconds in ``30s``, ``500ms``, ``2m`` or ``30``.

    Raises:
        QuantityError: no number, an unknown unit, or a time below 0.
    """
    value = _parse(text, _SECONDS, SECONDS_ALLOWED)
    if value < 0:
        raise QuantityError(text, SECONDS_ALLOWED)
    return float(value)


def parse_pinned(text: str) -> int:
    """Bytes as for ``parse_bytes``; 0 for ``none``. Raises QuantityError."""
    return 0 if _lifts(text) else _or_none(parse_bytes, text)


def parse_rate(text: str) -> int:
    """Hertz in ``500``, ``500/s`` or ``2kHz``; 0 for ``none``. Raises QuantityError."""
    return 0 if _lifts(text) else _whole(text, text.strip().removesuffix("/s"), _HERTZ, RATE_ALLOWED)


def parse_requests(text: str) -> float:
    """Requests a second in ``50``, ``50/s``, ``0.5/s`` or ``30/m``; 0 for ``none``. Raises QuantityError."""
    if _lifts(text):
        return 0.0
    number, _, each = text.strip().partition("/")
    try:
        value = _parse(number, _HERTZ, REQUESTS_ALLOWED) / _SECONDS[each.strip().upper() or "S"]
    except (QuantityError, KeyError):
        value = Fraction(0)
    if value <= 0:
        raise QuantityError(text, REQUESTS_ALLOWED + LIMIT_ALLOWED)
    return float(value)


def parse_speed(text: str) -> int:
    """Bytes a second in ``10GiB/s`` or ``10GiB``; 0 for ``none``. Raises QuantityError."""
    units = {unit: Fraction(factor) for unit, factor in _BYTES.items()}
    return 0 if _lifts(text) else _whole(text, text.strip().removesuffix("/s"), units, SPEED_ALLOWED)


def parse_count(text: str) -> int:
    """A number above 0; 0 for ``none``. Raises QuantityError."""
    return 0 if _lifts(text) else _whole(text, text, {"": Fraction(1)}, COUNT_ALLOWED)


def parse_burst(text: str) -> int:
    """Nanoseconds in ``20ms``; 0 for ``none``. Raises QuantityError."""
    units = {unit: factor * 10**9 for unit, factor in _SECONDS.items()}
    return 0 if _lifts(text) else _whole(text, text, units, SECONDS_ALLOWED)


def _lifts(text: str) -> bool:
    return text.strip().lower() == LIFTED


def _or_none(parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except QuantityError as error:
        raise QuantityError(text, error.allowed + LIMIT_ALLOWED) from None


def _whole(given: str, number: str, units: dict[str, Fraction], allowed: str) -> int:
    """A whole number above 0; ``given`` is how it was typed."""
    try:
        value = _parse(number, units, allowed)
    except QuantityError:
        value = Fraction(-1)
    if value <= 0 or value.denominator != 1:
        raise QuantityError(given, allowed + LIMIT_ALLOWED)
    return int(value)


def _parse(text: str, units: dict[str, Fraction], allowed: str) -> Fraction:
    match = _NUMBER.match(text)
    if match is None or match["unit"].upper() not in units or len(text) > 64:
        raise QuantityError(text, allowed)
    return Fraction(match["number"]) * units[match["unit"].upper()]


def show_bytes(count: int) -> str:
    """``24GiB``, ``1.5GiB``, ``512MiB``, ``0``: the largest unit that leaves at least one."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        size = _BYTES[unit.upper()]
        if count >= size:
            return f"{f'{count / size:.2f}'.rstrip('0').rstrip('.')}{unit}"
    return str(count)


def show_share(share_ppm: int) -> str:
    """``70%``, ``14.29%``."""
    return f"{f'{share_ppm / 10_000:.2f}'.rstrip('0').rstrip('.')}%"


def show_seconds(seconds: float) -> str:
    """``12s``, ``5m``, ``3h``, ``2d``: whole ones of the largest unit."""
    whole = max(0, int(seconds))
    size, unit = next(((size, unit) for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")) if whole >= size), (1, "s"))
    return f"{whole // size}{unit}"


def show_cpus(cpu_milli: int) -> str:
    """``4``, ``0.5``: processors."""
    return f"{cpu_milli / 1000:.3f}".rstrip("0").rstrip(".")


class _Quantity(click.ParamType[Any]):
    """A click type over one of the parsers."""

    def __init__(self, name: str, parse: Any) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The parsed quantity; text that is none is a usage error."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except QuantityError as error:
            self.fail(str(error), param, ctx)


BYTES: Final = _Quantity("size", parse_bytes)
SHARE: Final = _Quantity("share", parse_share)
CPUS: Final = _Quantity("processors", parse_cpus)
SECONDS: Final = _Quantity("time", parse_seconds)
PINNED: Final = _Quantity("size", parse_pinned)
RATE: Final = _Quantity("rate", parse_rate)
REQUESTS: Final = _Quantity("rate", parse_requests)
SPEED: Final = _Quantity("speed", parse_speed)
COUNT: Final = _Quantity("count", parse_count)
BURST: Final = _Quantity("time", parse_burst)
CEILING: Final = _Quantity("share", parse_ceiling)
