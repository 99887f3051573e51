"""The benchmarks run and report what they promise; how fast is no test's business."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mica.native import shim_cuda

SMALL = ("--batches", "10", "--repetitions", "2", "--init-processes", "2", "--pair-ms", "10")


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


@pytest.mark.timeout(120)
def test_the_shim_bench_sets_every_call_beside_the_driver_alone() -> None:
    """Each call has its native, shim and added figure, its target and a verdict that agrees; the floor stands beside it."""
    report = bench("shim", *SMALL)
    flat = {f"cuMemFree{live}" for live in ("", ", 1000 live", ", 10000 live", ", 100000 live")}
    others = {"cuMemAlloc", "cuMemAllocAsync", "cuMemFreeAsync", "cuMemGetInfo", "cuLaunchKernel", "cuGetProcAddress"}
    assert flat | others <= report["calls"].keys()
    assert report["contended"].keys() == {"1", "2", "8"}
    for name, call in (report["calls"] | report["contended"]).items():
        for side in ("native_ns", "shim_ns"):
            assert 0 < call[side]["p50"] <= call[side]["p99"], name
            assert call[side]["mean"] > 0, name
        assert call["added_ns"]["p50"] == pytest.approx(call["shim_ns"]["p50"] - call["native_ns"]["p50"], abs=0.02), name
        assert call["holds"] == (None if call["target_ns"] is None else call["added_ns"]["p50"] <= call["target_ns"]), name
    assert report["init_us"]["native"]["p50"] < report["init_us"]["shim"]["p50"]
    assert report["init_us"]["processes"] == 4
    assert report["init_us"]["opened_and_init_added"].keys() == {"p50", "p99", "mean"}
    assert all(floor["p50"] > 0 for floor in report["floor_ns"].values())
    verdicts = [call["holds"] for call in (*report["calls"].values(), *report["contended"].values(), report["init_us"])]
    assert report["holds"] == (False not in verdicts)
    assert "simulated" in report["driver"]


@pytest.mark.timeout(120)
def test_the_shim_bench_sets_another_shim_beside_ours() -> None:
    """A preloaded library gets a column over the same driver; ours in no slice enforces nothing, and costs less."""
    report = bench("shim", *SMALL, "--preload", str(shim_cuda()))
    allocation = report["calls"]["cuMemAlloc"]
    assert allocation["preload_ns"]["p50"] > 0
    assert allocation["preload_added_ns"]["p50"] < allocation["added_ns"]["p50"]
    assert report["preload"] == str(shim_cuda())


@pytest.mark.parametrize(("option", "text"), [("--preload", "no such file"), ("--driver", "neither thin nor sim")])
def test_the_shim_bench_says_what_it_cannot_find(option: str, text: str) -> None:
    """A library that is not there is one line of error, not a figure."""
    done = subprocess.run(
        [sys.executable, "-m", "mica.cli", "bench", "shim", option, "/nowhere/lib.so"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(120)
def test_the_isolation_bench_reports_every_figure_with_its_target() -> None:
    """Its keys, and figures that the driver's books can have; what they are is not looked at here."""
    report = bench("isolation", "--backend", "sim", "--quick")
    assert 0 <= report["share_error_pct"]["mean"] <= report["share_error_pct"]["max"]
    assert 0 < report["jain"] <= 1
    assert report["vram_accuracy_pct"] == 100.0
    assert report["windows"] == sum(len(t["errors_pct"]) for s in report["scenarios"] for t in s["tenants"]) > 0
    assert {"noisy_neighbour_pct", "reaction_ms", "latency", "noise", "machine"} <= report.keys()
    assert report["holds"] == all(target["holds"] for target in report["targets"].values())
    assert report["device"] == "simulated driver"


@pytest.mark.timeout(180)
def test_the_turns_bench_shares_lends_and_frees_a_time_sliced_device() -> None:
    """Through the whole system; every tenant had some of the device, and the endless kernel's process was ended, step by step."""
    report = bench("turns", "--quick")
    assert 0 < report["jain"] <= 1
    assert all(tenant["measured_pct"] > 0 for scenario in report["scenarios"] for tenant in scenario["tenants"])
    assert [each["mode"] for each in report["lending"]] == ["timeslice", "fcsp"]
    assert [[step.split()[0] for step in hold["steps"]] for hold in report["holds"]] == [["throttled", "paused", "terminated"]]
    assert report["holds"][0]["grace_s"] <= report["holds"][0]["hold_s"] < 10
    assert {"switch_ms", "kept", "targets", "machine"} <= report.keys()


@pytest.mark.timeout(180)
def test_the_isolation_bench_runs_on_this_machines_own_device() -> None:
    """The same keys on real compute, every kernel's result checked, and memory to the byte; figures are not looked at here."""
    report = bench("isolation", "--backend", "opencl", "--quick")
    assert report["share_error_pct"]["mean"] <= report["share_error_pct"]["max"]
    assert 0 < report["jain"] <= 1
    assert report["vram_accuracy_pct"] == 100.0
    assert {"noisy_neighbour_pct", "reaction_ms", "latency", "noise", "weights", "machine"} <= report.keys()
    assert all(each["total_pct"]["median"] > 0 and each["alone_per_s"] for each in report["throughput"])
    assert report["holds"] == all(target["holds"] for target in report["targets"].values())
    assert "PoCL" in report["device"]


def test_the_isolation_bench_says_that_there_is_no_device(tmp_path: Path) -> None:
    """Without an OpenCL platform it is one line of error, not a figure."""
    done = subprocess.run(
        [sys.executable, "-m", "mica.cli", "bench", "isolation", "--backend", "opencl", "--quick"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OCL_ICD_VENDORS": str(tmp_path / "nothing")},
    )
    assert done.returncode != 0
    assert done.stderr.startswith("mica: bench: no OpenCL device: ")
    assert "Traceback" not in done.stderr
