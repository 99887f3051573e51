"""The observers as processes: ready, small, quiet, and gone when told to; and a collector that gets their traces."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

SERVICES = ("discovery", "telemetry", "slo_guard")
MEMORY_MAX_KIB = 90 * 1024


def environment(nats_server: Any, tmp_path: Path, **more: str) -> dict[str, str]:
    """What a service process is told."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MICA_", "OTEL_"))}
    return kept | {"MICA_NATS_URL": nats_server.url, "MICA_NODE": "n1", "MICA_RUNTIME_DIR": str(tmp_path)} | more


def start(service: str, variables: dict[str, str]) -> subprocess.Popen[str]:
    """Start a service and wait for its ready line."""
    command = [sys.executable, "-m", f"mica.{service}"]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if line != f"mica-{service} ready\n":
        process.kill()
        raise AssertionError(f"{service} said {line!r} and {process.communicate()[1]!r}")
    return process


def stop(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Terminate a service; its status and what it logged."""
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    return process.returncode, errors


@pytest.mark.parametrize("service", SERVICES)
def test_a_life(service: str, nats_server: Any, tmp_path: Path) -> None:
    """A service says when it serves, stays within 90 MiB, and ends with status 0 on SIGTERM."""
    process = start(service, environment(nats_server, tmp_path))
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    code, errors = stop(process)
    assert (code, "Traceback" in errors) == (0, False), errors
    assert peak_kib <= MEMORY_MAX_KIB


@pytest.mark.parametrize(
    ("service", "variable", "value"),
    [
        ("discovery", "MICA_NODE", "my node"),
        ("telemetry", "MICA_SAMPLE_S", "often"),
        ("slo_guard", "MICA_SLO_WINDOWS", "2.5"),
        ("slo_guard", "MICA_SLO_COOLDOWN_S", "-1"),
    ],
)
def test_a_bad_setting(service: str, variable: str, value: str, nats_server: Any, tmp_path: Path) -> None:
    """A setting that cannot be used ends the service with one line that names it."""
    variables = environment(nats_server, tmp_path, **{variable: value})
    command = [sys.executable, "-m", f"mica.{service}"]
    answer = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"mica-{service}: {variable}: got ")
    assert "allowed: " in line


class Collector(ThreadingHTTPServer):
    """An OTLP/HTTP receiver that keeps the bodies it is sent."""

    def __init__(self) -> None:
        self.bodies: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
        super().__init__(("127.0.0.1", 0), _Receive)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.put((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A running collector."""
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_traces_reach_the_collector(nats_server: Any, tmp_path: Path, collector: Collector) -> None:
    """With an endpoint set, a service's spans arrive there under its name, at the latest when it ends, within 90 MiB."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    process = start("discovery", environment(nats_server, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url))
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    assert stop(process)[0] == 0
    path, body = collector.bodies.get(timeout=20)
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert path == "/v1/traces"
    assert names["service.name"] == "mica-discovery"
    assert [span.name for span in resource.scope_spans[0].spans] == ["inventory"]
    assert peak_kib <= MEMORY_MAX_KIB


def test_a_dead_collector_holds_nothing_up(nats_server: Any, tmp_path: Path) -> None:
    """A service whose collector does not answer serves all the same and ends with status 0."""
    code, errors = stop(start("discovery", environment(nats_server, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")))
    assert code == 0
    assert "Traceback" not in errors
