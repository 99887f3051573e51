"""Whether a document may be written. Invariant: stricter than reading; a field that nobody knows is a typo."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec

from mica.events import EventError, PoolPolicy, StoredProfile, decode_document
from mica.policy._kinds import Policy, kind_of
from mica.sizing import check_profile


def check(key: str, data: bytes) -> Policy:
    """The policy that ``data`` is, for ``key``.

    Raises:
        EventError: naming the field, what was given and what is allowed.
    """
    kind = kind_of(key)
    policy = decode_document(data, kind)
    for error in _unknown(msgspec.json.decode(data), kind, ""):
        raise error
    if isinstance(policy, PoolPolicy) and len(set(policy.modes)) < len(policy.modes):
        raise EventError("modes", ", ".join(policy.modes), "each mode once")
    if isinstance(policy, StoredProfile):
        _check_profile(policy)
    return policy


def _check_profile(profile: StoredProfile) -> None:
    """A stored profile stands for itself, and makes sense. Raises EventError."""
    if profile.name is not None:
        raise EventError("name", profile.name, "nothing: the key is a stored profile's name")
    wrong = check_profile(profile)
    if wrong is not None:
        raise EventError(wrong.field.removeprefix("profile."), wrong.given, wrong.allowed)


def _unknown(raw: Mapping[str, Any], kind: type[msgspec.Struct], path: str) -> Iterator[EventError]:
    """The fields of ``raw`` that ``kind``, or a struct inside it, does not have."""
    known = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for name, value in raw.items():
        if name not in known:
            yield EventError(path + (name or '""'), _shown(value), "one of " + ", ".join(path + field for field in known))
            continue
        inner = _struct_in(known[name])
        if inner is not None and isinstance(value, Mapping):
            yield from _unknown(value, inner, f"{path}{name}.")


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The struct that a field's type is or may be."""
    candidates = (kind, *get_args(kind))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, msgspec.Struct)), None)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
