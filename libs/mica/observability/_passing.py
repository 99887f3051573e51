"""Tracing when nobody collects traces: hands the context on. Invariant: a span costs less than two microseconds."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from mica.observability._port import AttributeValue, Span
from mica.observability._traceparent import LENGTH, mint_traceparent


class PassingSpan(AbstractContextManager["PassingSpan", None]):
    """A span that only remembers its context."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str) -> None:
        # A header of another length cannot be valid; a full check would cost more than the span.
        self.traceparent = traceparent if len(traceparent) == LENGTH else mint_traceparent()

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Nobody will see it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        return None


class PassingTracer:
    """The tracer without a collector."""

    __slots__ = ()

    def span(self, name: str, traceparent: str = "", **attributes: AttributeValue) -> AbstractContextManager[Span]:  # noqa: ARG002 - the port's signature
        """A span under ``traceparent``, which it keeps, or the root of a new trace."""
        return PassingSpan(traceparent)

    def close(self) -> None:
        """Nothing is held back."""
