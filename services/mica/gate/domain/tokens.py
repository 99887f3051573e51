"""When an answer's first and last token came, and how many there were, as its bytes pass by.

Owns reading server-sent events and what OpenAI-compatible servers say in them. Invariant: whatever the bytes are, memory is
bounded and nothing is raised: an answer that cannot be read is measured by its first byte.
"""

from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

EVENT_MAX: Final = 1 << 20
"""A longer event is not read, nor what follows it."""
DONE: Final = b"[DONE]"
DELTA: Final = ".delta"


class Tokens(Struct, frozen=True):
    """What was seen of an answer: when its first and its last token came, and how many there were. Times are the server's."""

    first_ns: int
    last_ns: int
    count: int

    @property
    def tpot_ns(self) -> int | None:
        """Time for each token after the first; None: there were too few."""
        return (self.last_ns - self.first_ns) // (self.count - 1) if self.count > 1 else None


class Timing(Protocol):
    """Looks at an answer as it passes."""

    def on_bytes(self, data: bytes, at_ns: int) -> None:
        """These came at ``at_ns`` of the server's time."""

    def tokens(self) -> Tokens | None:
        """What was seen; None: no token that could be told from others."""


class FirstByte:
    """An answer that is not read: its first byte stands for its first token, and nothing for the others."""

    __slots__ = ("_first_ns",)

    def __init__(self) -> None:
        self._first_ns = -1

    def on_bytes(self, data: bytes, at_ns: int) -> None:
        """Note when the first came."""
        if self._first_ns < 0 and data:
            self._first_ns = at_ns

    def tokens(self) -> Tokens | None:
        """One, or none of an empty answer."""
        return Tokens(self._first_ns, self._first_ns, 1) if self._first_ns >= 0 else None


class Unmeasured:
    """An answer that came as a whole from an endpoint that makes tokens: nothing tells when the first was made."""

    __slots__ = ()

    def on_bytes(self, data: bytes, at_ns: int) -> None:
        """Nothing to see."""

    def tokens(self) -> Tokens | None:
        """None that could be told."""


class _Usage(Struct):
    completion_tokens: int | None = None
    output_tokens: int | None = None


class _Delta(Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(Struct):
    delta: _Delta | None = None
    text: str | None = None


class _Response(Struct):
    usage: _Usage | None = None


class _Chunk(Struct):
    """What chat/completions, completions and responses send, as far as it matters here."""

    type: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    response: _Response | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


def weigh(data: bytes) -> tuple[bool, int]:
    """Whether an event's data holds a part of the answer, and how many tokens it says that there were, 0 if it does not.

    An event of any other form than OpenAI's is a part.
    """
    if data == DONE:
        return False, 0
    try:
        chunk = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True, 0
    usage = chunk.usage or (chunk.response.usage if chunk.response else None)
    told = (usage.completion_tokens or usage.output_tokens or 0) if usage else 0
    if chunk.choices is not None:
        return any(map(_has_content, chunk.choices)), told
    if chunk.type is not None:
        return chunk.type.endswith(DELTA) or chunk.type == "content_block_delta", told
    return usage is None, told


def _has_content(choice: _Choice) -> bool:
    delta = choice.delta
    if delta is None:
        return bool(choice.text)
    return bool(
        delta.content or delta.reasoning_content or delta.reasoning or delta.refusal or delta.tool_calls or delta.function_call
    )


class EventStream:
    """Reads a stream of server-sent events. Source: the HTML standard, 9.2.6; a line ends in CR, LF or both."""

    __slots__ = ("_count", "_data", "_first_ns", "_last_ns", "_line", "_size", "_told", "_unreadable")

    def __init__(self) -> None:
        self._line = b""
        self._data: list[bytes] = []
        self._size = 0
        self._unreadable = False
        self._first_ns = self._last_ns = -1
        self._count = self._told = 0

    def on_bytes(self, data: bytes, at_ns: int) -> None:
        """Read on."""
        if self._unreadable:
            return
        text = self._line + data if self._line else data
        if b"\r" in text:
            # A CR at the very end may be half of a line end, so that it waits for what follows.
            held = b"\r" if text.endswith(b"\r") else b""
            text = text.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        *lines, self._line = text.split(b"\n")
        for line in lines:
            self._on_line(line, at_ns)
        if len(self._line) + self._size > EVENT_MAX:
            self._unreadable = True
            self._line, self._data = b"", []

    def tokens(self) -> Tokens | None:
        """What the events tell: the server's own count, or else how many events had a part of the answer."""
        return Tokens(self._first_ns, self._last_ns, self._told or self._count) if self._count else None

    def _on_line(self, line: bytes, at_ns: int) -> None:
        if not line:
            if self._data:
                self._on_event(b"\n".join(self._data), at_ns)
                self._data, self._size = [], 0
        elif line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)

    def _on_event(self, data: bytes, at_ns: int) -> None:
        part, told = weigh(data)
        self._told = told or self._told
        if part:
            self._count += 1
            self._last_ns = at_ns
            if self._first_ns < 0:
                self._first_ns = at_ns


MAKES_TOKENS: Final = ("/chat/completions", "/completions", "/responses", "/messages", "/generate")


def timing_of(path: str, content_type: str, content_encoding: str) -> Timing:
    """How the answer of an endpoint is measured, by the headers of the answer. ``path`` is without a query."""
    plain = content_encoding in ("", "identity")
    if plain and content_type.lower().startswith("text/event-stream"):
        return EventStream()
    if content_type.lower().startswith("application/json") and path.rstrip("/").endswith(MAKES_TOKENS):
        return Unmeasured()
    return FirstByte()
