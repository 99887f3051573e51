"""What two versions of a policy differ in. Invariant: a field that was left out counts as its default."""

from typing import Any

import msgspec
from msgspec import Struct

from mica.policy._kinds import Policy


class Difference(Struct, frozen=True):
    """One field, such as ``quota.slices``, and its two values as JSON has them."""

    field: str
    before: Any
    after: Any


def fields_of(document: Struct, prefix: str = "") -> dict[str, Any]:
    """Every field with its value, those of structs inside by their path."""
    found: dict[str, Any] = {}
    for name in document.__struct_fields__:
        value = getattr(document, name)
        if isinstance(value, Struct):
            found |= fields_of(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = list(msgspec.to_builtins(value)) if isinstance(value, tuple) else msgspec.to_builtins(value)
    return found


def differences(before: Policy | None, after: Policy | None) -> list[Difference]:
    """The fields with other values in ``after``. What is not set has the defaults of the other."""
    either = before if before is not None else after
    if either is None:
        return []
    nothing = type(either)()
    old, new = fields_of(before or nothing), fields_of(after or nothing)
    names = dict.fromkeys((*old, *new))
    return [Difference(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]
