"""Which document stands under which key. Invariant: one table, and a key that is in none of its rows is refused."""

import re
from collections.abc import Mapping
from typing import Final

from mica.events import ID_PATTERN, EventError, GatePolicy, NodePolicy, PoolPolicy, StoredProfile, TenantPolicy

Policy = PoolPolicy | NodePolicy | TenantPolicy | StoredProfile | GatePolicy

KINDS: Final[Mapping[str, type[Policy]]] = {
    "pool": PoolPolicy,
    "node": NodePolicy,
    "tenant": TenantPolicy,
    "profile": StoredProfile,
    "gate": GatePolicy,
}
"""By the first part of the key; the second is a name."""

KEYS_ALLOWED: Final = ", ".join(f"{head}.NAME" for head in KINDS) + ", NAME of 1 to 64 of A-Z a-z 0-9 _ -"


def kind_of(key: str) -> type[Policy]:
    """What the document under ``key`` is.

    Raises:
        EventError: no policy has such a key.
    """
    head, _, name = key.partition(".")
    if head not in KINDS or not re.fullmatch(ID_PATTERN, name):
        raise EventError("key", key, KEYS_ALLOWED)
    return KINDS[head]
