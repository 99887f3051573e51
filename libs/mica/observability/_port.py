"""What a service may ask of tracing. Invariant: a span's ``traceparent`` is always a valid W3C header."""

from contextlib import AbstractContextManager
from typing import Protocol

AttributeValue = str | int | float | bool


class Span(Protocol):
    """Work under way, inside ``with``."""

    @property
    def traceparent(self) -> str:
        """The header that makes what follows a child of this span."""

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Note something that was only learned inside the span."""


class Tracer(Protocol):
    """Makes the spans of one service."""

    def span(self, name: str, traceparent: str = "", **attributes: AttributeValue) -> AbstractContextManager[Span]:
        """A span called ``name`` under ``traceparent``; the root of a new trace when that is empty or malformed.

        An exception that leaves the block is noted on the span and goes on.
        """

    def close(self) -> None:
        """Send what is still held back. Spans opened later are passed on, not sent."""
