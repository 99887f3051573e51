"""Chooses the tracer that the environment asks for. Invariant: OpenTelemetry is imported here or not at all."""

import os

from mica.observability._passing import PassingTracer
from mica.observability._port import Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def tracer(service_name: str, endpoint: str | None = None) -> Tracer:
    """The tracer of ``service_name``, for example ``planner``.

    ``endpoint`` is the base URL of an OTLP/HTTP collector, "" for none; by default OTEL_EXPORTER_OTLP_ENDPOINT.
    """
    chosen = os.environ.get(ENDPOINT, "") if endpoint is None else endpoint
    if not chosen:
        return PassingTracer()
    from mica.observability._exporting import exporting_tracer

    return exporting_tracer(service_name, chosen)
