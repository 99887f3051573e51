"""The benchmarks run and report what they promise; how fast is no test's business."""

import json
import subprocess
import sys
from typing import Any

import pytest


def bench(*arguments: str) -> dict[str, Any]:
    """Run a small benchmark; its report."""
    command = [sys.executable, "-m", "mica.cli", "bench", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.timeout(120)
def test_every_request_of_the_pipeline_bench_is_answered_once() -> None:
    """Every request becomes ready once and is released, by the count of a consumer of its own; the audit is clean."""
    report = bench("pipeline", "--requests", "50", "--seconds", "2")
    assert report["requests"] == report["answered"] >= 100
    assert (report["missing"], report["doubled"], report["audit_clean"]) == (0, 0, True)
    assert 0 < report["request_to_ready_ms"]["p50"] <= report["request_to_ready_ms"]["p99"]
    assert report["sustained_rps"] > 0
    assert report["hop_limit_ms"]["p50"] > 0
    assert report["throttle"]["commands_per_s_per_tenant"] == 1000
    assert "simulated" in report["device"]


@pytest.mark.timeout(120)
def test_the_footprint_bench_reports_every_service_and_the_shim() -> None:
    """Memory and processor time of each service, time to ready, and what the shim adds to a tenant."""
    report = bench("footprint", "--seconds", "1", "--allocations", "20000")
    services = {"discovery", "planner", "enforcer", "telemetry", "slo_guard"}
    assert services < report["idle"].keys()
    for name in services:
        assert 0 < report["idle"][name]["rss_mib"] <= 90, name
    assert report["ready_s"] > 0
    shim = report["shim"]
    assert shim["allocations"] == 20_000
    added_bytes = shim["base_kib"] * 1024 + shim["bytes_per_allocation"] * shim["allocations"]
    assert added_bytes <= (1 << 20) + 32 * shim["allocations"]
