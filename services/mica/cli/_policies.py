"""Policies as an operator handles them: one key with its versions, and what is made of it.

Invariant: nothing is written that was not checked, and nothing over a version that was not seen.
"""

import getpass
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from mica.bus import Bucket, Entry, Note, StaleRevisionError, Version
from mica.cli._errors import CliError
from mica.cli._quantities import QuantityError, parse_bytes
from mica.events import EventError, decode_document
from mica.policy import Policy, check, fields_of, kind_of, readable

NOT_SET: Final = "not set"


class Held(Struct, frozen=True):
    """A policy key as it was read: its versions, oldest first."""

    key: str
    kind: type[Policy]
    versions: tuple[Version, ...]

    @property
    def latest(self) -> Version | None:
        """The latest version; None where there never was one."""
        return self.versions[-1] if self.versions else None

    @property
    def number(self) -> int:
        """The latest version's number; 0 where the key is not set."""
        return self.latest.revision if self.latest is not None and self.latest.data is not None else 0

    @property
    def in_force(self) -> Entry[Policy] | None:
        """What the services go by."""
        return readable(self.versions, self.kind)

    @property
    def complaint(self) -> str:
        """Why the latest version can't be read, and what is in force instead; empty where it can be."""
        try:
            if self.latest is not None:
                self.value(self.latest)
        except EventError as error:
            stays = f"version {self.in_force.revision} stays in force" if self.in_force is not None else "its defaults hold"
            return f"version {self.number} can not be read ({error}); {stays}"
        return ""

    def value(self, version: Version) -> Policy | None:
        """The policy that a version is; None where it was unset. Raises EventError."""
        return decode_document(version.data, self.kind) if version.data is not None else None

    def version(self, number: int) -> Version:
        """The version of that number. Raises CliError."""
        for version in self.versions:
            if version.revision == number:
                return version
        kept = ", ".join(str(version.revision) for version in self.versions) or "none"
        raise CliError(f"policy {self.key}: no version {number}; kept: {kept}")

    def before(self) -> Version:
        """Where a rollback leads: what is in force if the latest can't be read, else the latest that says something else.

        Raises:
            CliError: there is no such version.
        """
        now = self.in_force
        if self.complaint and now is not None:
            return self.version(now.revision)
        for version in reversed(self.versions[:-1]):
            try:
                if self.value(version) != (now.value if now is not None else None):
                    return version
            except EventError:
                continue
        raise CliError(f"policy {self.key}: no earlier version says anything else")


async def held(bucket: Bucket, key: str) -> Held:
    """A key with all that is kept of it.

    Raises:
        EventError: no policy has such a key.
    """
    kind = kind_of(key)
    return Held(key, kind, tuple(await bucket.versions(key)))


async def write(bucket: Bucket, seen: Held, wanted: Policy | None, message: str) -> int:
    """Write, or unset, what stands on the latest version that was seen; the new version's number.

    Raises:
        CliError: somebody else wrote in between.
    """
    revision = seen.latest.revision if seen.latest is not None else 0
    note = Note(author(), message)
    try:
        if wanted is None:
            return await bucket.delete(seen.key, revision=revision, note=note)
        return await bucket.update(seen.key, wanted, revision, note=note)
    except StaleRevisionError:
        other = (await held(bucket, seen.key)).latest
        who = f" ({other.note.author})" if other is not None and other.note.author else ""
        came = f"version {other.revision}{who} came in between" if other is not None else "it was written in between"
        raise CliError(
            f"policy {seen.key}: {came}, nothing is written; see `mica policy history {seen.key}` and try again"
        ) from None


def author() -> str:
    """Who writes, as far as this machine knows: MICA_AUTHOR, else user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.geteuid())
    return " ".join((os.environ.get("MICA_AUTHOR") or f"{user}@{socket.gethostname()}").split())[:128]


def proposed(key: str, body: bytes | None, assignments: Sequence[str], now: Policy | None) -> Policy:
    """The policy that was typed: a whole body, fields to change in it, or fields to change in what is in force.

    Raises:
        EventError: naming the field, what was given and what is allowed.
    """
    kind = kind_of(key)
    if body is None:
        raw = msgspec.to_builtins(now) if now is not None else {}
    else:
        check(key, body)
        raw = msgspec.json.decode(body)
    for assignment in assignments:
        field, _, text = assignment.partition("=")
        _assign(raw, field, _value(field, text, fields_of(kind())))
    return check(key, msgspec.json.encode(raw))


def _value(field: str, text: str, known: dict[str, Any]) -> Any:
    """What was typed for a field, as JSON has it; UNSET for nothing."""
    if not text:
        return msgspec.UNSET
    if field.endswith("_bytes"):
        try:
            return parse_bytes(text) if text not in ("0", "null") else msgspec.json.decode(text)
        except QuantityError as error:
            raise EventError(field, text, error.allowed) from None
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    return value.split(",") if isinstance(known.get(field), list) and isinstance(value, str) else value


def _assign(raw: dict[str, Any], field: str, value: Any) -> None:
    *outer, name = field.split(".")
    for part in outer:
        inner = raw.setdefault(part, {})
        if not isinstance(inner, dict):
            raise EventError(part, str(inner), f"an object, to have {field}")
        raw = inner
    if value is msgspec.UNSET:
        raw.pop(name, None)
    else:
        raw[name] = value
