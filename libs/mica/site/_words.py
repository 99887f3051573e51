"""What an operator says that a node is. Invariant: a field that nobody knows is refused."""

import re
from typing import Any, Final

from mica.events import Site

SOURCE: Final = "operator"
FIELDS: Final = ("cloud", "instance_type", "region", "zone", "product", "air_gapped")
WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
LONGEST: Final = 128
TRUTHS: Final = {"true": True, "false": False}


class SiteError(ValueError):
    """MICA_SITE says something that no node can be: what was given and what is allowed."""


def parse_site(text: str) -> Site:
    """The fields in ``cloud=aws,instance_type=p5.48xlarge,zone=us-east-1a``; the others are empty.

    Raises:
        SiteError: an unknown field, one that is given twice, or a value that it can't have.
    """
    given: dict[str, Any] = {}
    for part in text.split(","):
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if field not in FIELDS or not equals:
            raise SiteError(f"MICA_SITE: got {part.strip()[:80]!r}, allowed: FIELD=VALUE with {', '.join(FIELDS)}")
        if field in given:
            raise SiteError(f"MICA_SITE: {field} is given twice")
        given[field] = _value(field, value)
    return Site(**given, source=SOURCE)


def _value(field: str, value: str) -> str | bool:
    if field == "air_gapped":
        if value not in TRUTHS:
            raise SiteError(f"MICA_SITE: {field}: got {value[:80]!r}, allowed: true, false")
        return TRUTHS[value]
    if field == "product":
        if not 0 < len(value) <= LONGEST or not value.isprintable():
            raise SiteError(f"MICA_SITE: {field}: got {value[:80]!r}, allowed: 1 to {LONGEST} characters")
        return value
    if not WORD.fullmatch(value):
        raise SiteError(f"MICA_SITE: {field}: got {value[:80]!r}, allowed: 1 to {LONGEST} of A-Z a-z 0-9 . _ : -")
    return value
