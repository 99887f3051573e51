"""Tracing over OTLP/HTTP. Invariant: a collector that is slow or gone never holds up a service.

Imported only when an endpoint is set.
"""

import logging
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from mica.observability._port import AttributeValue, Span
from mica.observability._traceparent import TraceParent, parse_traceparent

EXPORT_TIMEOUT_S: Final = 2.0
SCHEDULE_MS: Final = 500.0


class ExportingSpan(AbstractContextManager["ExportingSpan", None]):
    """A span that will be sent."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = str(TraceParent(context.trace_id, context.span_id, context.trace_flags))

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Note something that was only learned inside the span."""
        self._span.set_attribute(key, value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is not None:
            self._span.record_exception(error)
            self._span.set_status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
        self._span.end()


class ExportingTracer:
    """Makes spans and hands them to ``processor``, which sends them from a thread of its own."""

    def __init__(self, service_name: str, processor: SpanProcessor) -> None:
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: f"mica-{service_name}"}))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("mica")

    def span(self, name: str, traceparent: str = "", **attributes: AttributeValue) -> AbstractContextManager[Span]:
        """A span under ``traceparent``, or the root of a new trace."""
        return ExportingSpan(self._tracer.start_span(name, context=_context(traceparent), attributes=attributes))

    def close(self) -> None:
        """Send what is still held back; gives up after a few seconds."""
        self._provider.shutdown()


def exporting_tracer(service_name: str, endpoint: str) -> ExportingTracer:
    """A tracer that sends to ``endpoint`` (base URL, without ``/v1/traces``)."""
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    return ExportingTracer(service_name, BatchSpanProcessor(exporter, schedule_delay_millis=SCHEDULE_MS))


def _context(traceparent: str) -> Context:
    """The parent of a span: never what the thread happens to hold, since tasks share it."""
    parent = parse_traceparent(traceparent)
    if parent is None:
        return Context()
    remote = trace.SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=trace.TraceFlags(parent.flags))
    return trace.set_span_in_context(trace.NonRecordingSpan(remote), Context())
