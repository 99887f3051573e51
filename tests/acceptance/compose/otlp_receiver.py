"""Stands in Jaeger's place: takes OTLP/HTTP traces on port 4318, keeps every span, and serves them as JSON.

Invariant: an export is answered with 200 only once its spans can be read at /spans.
"""

import gzip
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import TypedDict

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

PORT = 4318
EXPORT_MAX_BYTES = 64 << 20


class Span(TypedDict):
    """A finished span; ids are hexadecimal, times in ns since the epoch."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    service: str
    start_ns: int
    end_ns: int
    attributes: dict[str, str]


def spans_of(export: ExportTraceServiceRequest) -> list[Span]:
    """Flatten an export: each span carries the name of the service that made it."""
    found: list[Span] = []
    for resource_spans in export.resource_spans:
        resource = {pair.key: pair.value.string_value for pair in resource_spans.resource.attributes}
        found.extend(
            Span(
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_span_id=span.parent_span_id.hex(),
                name=span.name,
                service=resource.get("service.name", ""),
                start_ns=span.start_time_unix_nano,
                end_ns=span.end_time_unix_nano,
                attributes={pair.key: pair.value.string_value for pair in span.attributes},
            )
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        )
    return found


class Store:
    """All spans so far, in order of arrival."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._spans: list[Span] = []

    def add(self, spans: list[Span]) -> None:
        with self._lock:
            self._spans.extend(spans)

    def as_json(self) -> bytes:
        with self._lock:
            return json.dumps(self._spans).encode()


class Receiver(ThreadingHTTPServer):
    """The HTTP server and the store that its requests share."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("", port), Exchange)
        self.store = Store()


class Exchange(BaseHTTPRequestHandler):
    """One request: an export, a read of the spans, or a probe."""

    protocol_version = "HTTP/1.1"
    server: Receiver

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class says so
        """Say nothing: exports arrive every few seconds."""

    def _answer(self, status: int, body: bytes, content_type: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer(200, b"ok\n")
        elif self.path == "/spans":
            self._answer(200, self.server.store.as_json(), "application/json")
        else:
            self._answer(404, f"{self.path}: not one of /healthz, /spans\n".encode())

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        if self.path != "/v1/traces" or length > EXPORT_MAX_BYTES:
            self._answer(404, f"{self.path}, {length} bytes: only /v1/traces up to {EXPORT_MAX_BYTES} bytes\n".encode())
            return
        body = self.rfile.read(length)
        try:
            plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            export = ExportTraceServiceRequest.FromString(plain)
        except (DecodeError, OSError) as error:
            self._answer(400, f"not an OTLP trace export: {error}\n".encode())
            return
        self.server.store.add(spans_of(export))
        self._answer(200, ExportTraceServiceResponse().SerializeToString(), "application/x-protobuf")


if __name__ == "__main__":
    with Receiver(PORT) as receiver:
        receiver.serve_forever()
