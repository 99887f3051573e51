"""The compiled layout is the one that the header asserts."""

import re
from pathlib import Path

from mica.region._abi import ffi, lib

ROOT = Path(__file__).resolve().parents[3]
HEADER = (ROOT / "proto" / "quota_region.h").read_text()
ASSERTS = re.findall(r"static_assert\((sizeof|offsetof)\(struct (\w+)(?:, (\w+))?\) == ([^,]+),", HEADER)


def value_of(expression: str) -> int:
    """Evaluate the right side of an assertion: integers and MICA_ constants, joined by + and *."""
    text = re.sub(r"MICA_\w+", lambda match: str(getattr(lib, match[0])), expression)
    assert re.fullmatch(r"[\d\s+*]+", text)
    return int(eval(text))


def test_layout_is_what_c_asserts() -> None:
    """Every size and offset that the header asserts holds in the binding too."""
    assert len(ASSERTS) >= 14
    for what, struct, field, expected in ASSERTS:
        observed = ffi.sizeof(f"struct {struct}") if what == "sizeof" else ffi.offsetof(f"struct {struct}", field)
        assert observed == value_of(expected), (what, struct, field)


def test_words_are_naturally_aligned() -> None:
    """Every field of every shared structure lies at a multiple of eight bytes."""
    for struct in (
        "region_header",
        "slice_record",
        "quota_region",
        "process_slot",
        "usage_region",
        "token_region",
        "attach_message",
    ):
        for name, field in ffi.typeof(f"struct mica_{struct}").fields:
            assert field.offset % 8 == 0, (struct, name)


def test_every_constant_of_the_headers_is_bound() -> None:
    """No integer constant of the two headers is missing from the binding."""
    text = HEADER + (ROOT / "native" / "region" / "region.h").read_text()
    constants = set(re.findall(r"^#define (MICA_[A-Z0-9_]+) +[0-9(]", text, re.MULTILINE))
    constants |= set(re.findall(r"\b(MICA_[A-Z_]+) = \d", text))
    assert constants <= set(dir(lib))
    assert lib.MICA_REGION_MAGIC == 0x314143494D0A0D00
