"""Bytes to events and back; the one place that turns bad bytes into one clear error.

Invariant: ``decode(encode(event)) == event`` in both encodings.
"""

import re
from collections.abc import Hashable
from enum import EnumType
from functools import cache
from typing import Any, Final, TypeVar, cast, get_args, get_type_hints

import msgspec

from mica.events._commands import Command
from mica.events._facts import Fact
from mica.events._state import Document
from mica.events._streams import CHANNEL_OF, channel_for

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
SHOWN_CHARACTERS: Final = 80
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
NAMELESS: Final = '""'
"""How a field is told whose name is empty."""

T = TypeVar("T")
_json_encoder = msgspec.json.Encoder()
_msgpack_encoder = msgspec.msgpack.Encoder()
_SHORTENED = re.compile(rf".{{{SHOWN_CHARACTERS}}}… \(\d{{1,19}} characters\)", re.DOTALL)
_PATH = re.compile(r" - at `\$\.?(?P<path>.*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>.*)`$", re.DOTALL)


class EventError(ValueError):
    """An event that can never be understood: ``field`` held ``given`` where ``allowed`` was expected."""

    def __init__(self, field: str, given: str, allowed: str) -> None:
        self.field = field
        self.given = shorten(given)
        self.allowed = allowed
        super().__init__(f"{field}: got {self.given}, allowed: {allowed}")


def shorten(text: str) -> str:
    """``text`` cut to 80 characters, with its full length named, so that no answer carries a tenant's megabyte.

    What was shortened already stays as it is.
    """
    if len(text) <= SHOWN_CHARACTERS or _SHORTENED.fullmatch(text):
        return text
    return f"{text[:SHOWN_CHARACTERS]}… ({len(text)} characters)"


def encode(event: Command | Fact) -> bytes:
    """``event`` as the bytes of its channel: JSON, or MessagePack for telemetry."""
    return _msgpack_encoder.encode(event) if CHANNEL_OF[type(event)].packed else _json_encoder.encode(event)


def content_type(event: Command | Fact) -> str:
    """The Content-Type header that tells the two encodings apart."""
    return MSGPACK if CHANNEL_OF[type(event)].packed else JSON


def encode_document(document: Document) -> bytes:
    """A state document as JSON."""
    return _json_encoder.encode(document)


@cache
def _decoder(kind: Hashable, packed: bool) -> Any:  # noqa: FBT001 - msgspec's decoders are generic over any type
    return msgspec.msgpack.Decoder(kind) if packed else msgspec.json.Decoder(kind)


def decode_document(data: bytes, kind: type[T]) -> T:
    """A state document of type ``kind``.

    Raises:
        EventError: the bytes are not such a document.
    """
    return _decode(data, kind, packed=False)


def decode(subject: str, data: bytes, content: str | None = None) -> Command | Fact:
    """The event that travelled on ``subject``.

    Raises:
        EventError: naming the field, what was given and what is allowed.
    """
    try:
        channel = channel_for(subject)
    except KeyError:
        raise EventError("subject", subject, "a subject of proto/asyncapi.yaml") from None
    event: Command | Fact = _decode(data, channel.event, packed=content == MSGPACK)
    return event


def _decode(data: bytes, kind: type[T], *, packed: bool) -> T:
    try:
        decoded: T = _decoder(cast("Hashable", kind), packed).decode(data)
    except msgspec.ValidationError as error:
        raise _explain(str(error), data, kind, packed=packed) from None
    except UNREADABLE as error:
        form = "MessagePack" if packed else "JSON"
        raise EventError("body", data[:SHOWN_CHARACTERS].decode(errors="replace"), f"one {form} object ({error})") from None
    return decoded


def _explain(message: str, data: bytes, kind: Any, *, packed: bool) -> EventError:
    """Turn msgspec's message into field, given and allowed; the given value is looked up in the raw body."""
    try:
        raw = _decoder(Any, packed).decode(data)
    except UNREADABLE:
        raw = None
    path_match = _PATH.search(message)
    path = path_match["path"] if path_match else ""
    reason = message[: path_match.start()] if path_match else message
    unknown, missing = _UNKNOWN.match(reason), _MISSING.match(reason)
    if unknown:
        field = shorten(_join(path, unknown["field"] or NAMELESS))
        return EventError(field, _show(_look_up(raw, field)), "no such field; see proto/events")
    if missing:
        return EventError(_join(path, missing["field"]), "nothing", "a value; the field is required")
    return EventError(path or "body", _show(_look_up(raw, path)), _allowed(reason, kind, path))


def _allowed(reason: str, kind: Any, path: str) -> str:
    if reason.startswith("Invalid enum value"):
        return "one of " + ", ".join(_members(kind, path))
    if reason.startswith("Invalid value"):
        return f"{kind.__struct_config__.tag}, or leave it out"
    return reason.removeprefix("Expected ").replace("`", "")


def _members(kind: Any, path: str) -> list[str]:
    """The values of the enumeration at ``path`` of ``kind``."""
    for part in re.findall(r"[^.\[\]]+", path):
        candidates = [kind, *get_args(kind)]
        struct = next((c for c in candidates if isinstance(c, type) and issubclass(c, msgspec.Struct)), None)
        if struct is not None:
            kind = get_type_hints(struct).get(part)
    return [member.value for c in (kind, *get_args(kind)) if isinstance(c, EnumType) for member in c]  # type: ignore[var-annotated]


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _look_up(raw: Any, path: str) -> Any:
    value = raw
    for part in re.findall(r"[^.\[\]]+", path):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return value


def _show(value: Any) -> str:
    """As JSON, or, for what only MessagePack knows (extensions, keys of any type), as Python writes it."""
    if isinstance(value, str):
        return value
    try:
        return _json_encoder.encode(value).decode(errors="replace")
    except (TypeError, ValueError, RecursionError):
        return repr(value)
