"""Traces and logs of mica's processes.

Owns W3C trace context and the log line. Invariant: without an OTLP endpoint nothing of OpenTelemetry is imported, and a
trace context still passes through unbroken.
"""

from mica.observability._logging import configure_logging
from mica.observability._passing import PassingTracer
from mica.observability._port import AttributeValue, Span, Tracer
from mica.observability._select import tracer
from mica.observability._traceparent import TraceParent, mint_traceparent, parse_traceparent

__all__ = [
    "AttributeValue",
    "PassingTracer",
    "Span",
    "TraceParent",
    "Tracer",
    "configure_logging",
    "mint_traceparent",
    "parse_traceparent",
    "tracer",
]
