"""Spans keep a trace together, with and without a collector."""

import logging
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mica.observability import mint_traceparent, parse_traceparent, tracer
from mica.observability._exporting import ExportingTracer

HEADER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def exported() -> InMemorySpanExporter:
    """Where the exporting tracer's spans end up."""
    return InMemorySpanExporter()


@pytest.fixture
def exporting(exported: InMemorySpanExporter) -> ExportingTracer:
    """A tracer whose spans are kept in memory."""
    return ExportingTracer("planner", SimpleSpanProcessor(exported))


def test_passing_on() -> None:
    """Without a collector a span hands its caller's context on unchanged."""
    with tracer("planner", endpoint="").span("place", HEADER, slice="s1") as span:
        span.set_attribute("node", "n1")
        assert span.traceparent == HEADER


@pytest.mark.parametrize("header", ["", "00-1-2-3", "x" * 1_000_000])
def test_minting(header: str) -> None:
    """Without a usable header a span starts a valid, sampled trace of its own."""
    with tracer("planner", endpoint="").span("place", header) as span:
        parsed = parse_traceparent(span.traceparent)
    assert parsed is not None
    assert parsed.sampled
    assert str(parsed) == span.traceparent


def test_minted_traces_differ() -> None:
    """No two roots share a trace id."""
    roots = [parse_traceparent(mint_traceparent()) for _ in range(1000)]
    assert len({root.trace_id for root in roots if root}) == 1000


@pytest.mark.parametrize(
    "header",
    [
        "",
        HEADER[:-1],
        HEADER + "0",
        "ff" + HEADER[2:],
        HEADER.upper(),
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
    ],
)
def test_malformed_headers(header: str) -> None:
    """A header that the W3C format forbids is no parent."""
    assert parse_traceparent(header) is None


def test_errors_leave_a_passing_span() -> None:
    """An exception inside a span reaches the caller."""
    with pytest.raises(KeyError), tracer("planner", endpoint="").span("place"):
        raise KeyError("s1")


def test_exported_spans_form_one_trace(exporting: ExportingTracer, exported: InMemorySpanExporter) -> None:
    """A span under another one's header is its child, in the same trace, under the service's name."""
    with exporting.span("request", HEADER) as outer, exporting.span("apply", outer.traceparent, slice="s1"):
        pass
    apply, request = exported.get_finished_spans()
    assert request.context is not None
    assert request.parent is not None
    assert apply.parent is not None
    assert apply.attributes is not None
    assert request.context.trace_id == int(HEADER[3:35], 16)
    assert request.parent.span_id == int(HEADER[36:52], 16)
    assert apply.parent.span_id == request.context.span_id
    assert apply.attributes["slice"] == "s1"
    assert apply.resource.attributes["service.name"] == "mica-planner"


def test_exported_failures(exporting: ExportingTracer, exported: InMemorySpanExporter) -> None:
    """An exception is noted on the span that it leaves."""
    with pytest.raises(ValueError, match="no room"), exporting.span("place"):
        raise ValueError("no room")
    (span,) = exported.get_finished_spans()
    assert span.status.description == "ValueError: no room"
    assert [event.name for event in span.events] == ["exception"]


def test_a_malformed_parent_starts_a_trace(exporting: ExportingTracer, exported: InMemorySpanExporter) -> None:
    """A tenant's garbage in the header costs a trace, not the request."""
    with exporting.span("place", "x" * 55) as span:
        assert parse_traceparent(span.traceparent) is not None
    assert exported.get_finished_spans()[0].parent is None


def test_opentelemetry_stays_out() -> None:
    """A process without an endpoint never imports OpenTelemetry."""
    program = (
        "import sys; from mica.observability import tracer\n"
        "with tracer('x', '').span('a'): print(any(m.startswith('opentelemetry') for m in sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False", answer.stderr


def test_an_unreachable_collector_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    """A tracer whose collector refuses connections closes without an exception."""
    caplog.set_level(logging.CRITICAL, logger="opentelemetry")
    lonely = tracer("planner", endpoint="http://127.0.0.1:9")
    with lonely.span("place") as span:
        assert parse_traceparent(span.traceparent) is not None
    lonely.close()
