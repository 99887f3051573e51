"""The W3C ``traceparent`` header, version 00. Invariant: what is minted here parses here.

Source: https://www.w3.org/TR/trace-context/ section 3.2.
"""

import re
import secrets
from itertools import count
from typing import Final

from msgspec import Struct

LENGTH: Final = 55
SAMPLED: Final = 1

_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_minted: Final = f"00-{secrets.randbits(64) | 1:016x}%016x-{secrets.randbits(64) | 1:016x}-01"
_counter: Final = count(secrets.randbits(63))


class TraceParent(Struct, frozen=True):
    """Trace and span ids as integers; ``flags`` is the header's last byte."""

    trace_id: int
    span_id: int
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether the caller records this trace."""
        return bool(self.flags & SAMPLED)

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def mint_traceparent() -> str:
    """The root of a new, sampled trace: random per process, counted within it, which costs a fifth of drawing 192 bits."""
    return _minted % next(_counter)


def parse_traceparent(header: str) -> TraceParent | None:
    """The ids in ``header``, or None when it is not a valid one."""
    match = _FORM.fullmatch(header)
    if match is None or match[1] == "ff":
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    return TraceParent(trace_id, span_id, int(match[4], 16)) if trace_id and span_id else None
