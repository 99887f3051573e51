"""The gate as a process: started as an operator starts it, spoken to by a client of the standard library, stopped by a signal."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mica.bus import JetStreamBus
from mica.events import SloReported

MICA = (sys.executable, "-m", "mica.cli")


class Model(BaseHTTPRequestHandler):
    """What serves chats: whole ones, and token by token."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        if not asked.get("stream"):
            body = b'{"choices":[{"message":{"content":"hello world"}}]}'
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in ("hello", " world"):
            self.chunk(b"data: " + json.dumps({"choices": [{"delta": {"content": word}}]}).encode() + b"\n\n")
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def model() -> Iterator[str]:
    """A model server's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def gate(*arguments: str, **environment: str) -> Iterator[str]:
    """A gate's address; it ends by SIGTERM with status 0."""
    command = [*MICA, "gate", *arguments, "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first, second = process.stdout.readline(), process.stdout.readline()
            assert second.strip() == "mica-gate ready"
            yield first.split(" at ")[1].split(",")[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == 0


def ask(address: str, *, stream: bool = False) -> str:
    """What the model says."""
    body = json.dumps({"model": "m", "messages": [], "stream": stream}).encode()
    request = urllib.request.Request(f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        read: bytes = answer.read()
    if not stream:
        content: str = json.loads(read)["choices"][0]["message"]["content"]
        return content
    events = [line[6:] for line in read.decode().splitlines() if line.startswith("data: {")]
    return "".join(json.loads(event)["choices"][0]["delta"]["content"] for event in events)


async def test_a_model_behind_a_gate(nats_server: Any, model: str) -> None:
    """Whole answers and streams pass, reports are on the bus, and what is beyond a limit of the environment is 429."""
    environment = {"MICA_GATE_SLICE": "s1", "MICA_GATE_RATE": "1/m", "MICA_GATE_BURST": "2", "MICA_NATS_URL": nats_server.url}
    with gate("--upstream", model, "--window", "100ms", **environment) as address:
        assert ask(address) == ask(address, stream=True) == "hello world"
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(address)
        assert refused.value.code == 429
        assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
        assert json.load(refused.value)["error"]["code"] == "rate_limit_exceeded"
        bus = await JetStreamBus.connect(nats_server.url, wait_s=10)
        while True:
            heard = [each.event for each in await bus.history("SLO", ["slo.report.s1"])]
            reports = [event for event in heard if isinstance(event, SloReported)]
            if sum(report.requests for report in reports) == 2 and sum(report.refused for report in reports) == 1:
                break
        await bus.close()
        assert any(report.tpot_ms is not None for report in reports)


def test_what_can_not_be_is_one_line(model: str) -> None:
    """A taken address and wrong options end the process at once, with one line that says what is allowed."""
    taken = model.removeprefix("http://")
    for arguments, line in (
        (("s1", "--upstream", model, "--listen", taken), f"mica gate: --listen {taken}: "),
        (("s1", "--upstream", "ftp://x"), "mica gate: --upstream: got ftp://x, allowed: http://HOST:PORT"),
        (
            ("s1", "--upstream", model, "--rate", "fast"),
            "mica gate: Invalid value for '--rate': got 'fast', allowed: requests a second",
        ),
        (("s1",), "mica gate: Missing option '--upstream'"),
    ):
        result = subprocess.run([*MICA, "gate", *arguments, "--no-bus"], capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode != 0
        assert result.stderr.startswith(line)
        assert result.stderr.count("\n") == 1
