"""``mica profile`` on a running system: every size is measured, stored, given back, and good for a request."""

import json
import sys
from pathlib import Path

import pytest
from acceptance_stack import EXAMPLES, Stack

WORKLOAD = f"""
import json, sys
sys.path.insert(0, {str(EXAMPLES)!r})
from cuda_client import Client, check, cuda
batch, total = int(sys.argv[1]), check((Client(), cuda.cuMemGetInfo())[1])[1]
check(cuda.cuMemAlloc(batch << 26))
print("warming up")
print(json.dumps({{"rate_hz": 50.0 * batch, "p99_ms": 10.0 * batch}}))
"""


@pytest.fixture
def workload(tmp_path: Path) -> tuple[str, ...]:
    """A program that takes 64 MiB for each request of its batch and says how it does."""
    path = tmp_path / "workload.py"
    path.write_text(WORKLOAD)
    return (sys.executable, str(path), "{batch}")


@pytest.mark.timeout(120)
def test_a_program_is_measured_stored_and_sized_by_what_was_measured(shared_stack: Stack, workload: tuple[str, ...]) -> None:
    """Each share with each batch becomes a point with the memory that mica counted; a request that names it is sized by it."""
    sizes = ("--share", "20%", "--share", "60%", "--batch", "1", "--batch", "4")
    said = shared_stack.mica(
        "profile", "--name", "small", "--vram", "2GiB", "--mode", "fcsp", "--runs", "1", *sizes, "--", *workload
    )
    assert "stored as profile.small, version" in said
    shown = shared_stack.json("profile", "--show", "small")["policy"]
    assert [(p["share_ppm"], p.get("batch", 1), p["rate_hz"], p["p99_ms"], p["vram_bytes"]) for p in shown["points"]] == [
        (share, batch, 50.0 * batch, 10.0 * batch, batch << 26) for share in (200_000, 600_000) for batch in (1, 4)
    ]
    assert shown["device"] == "NVIDIA L4"
    assert [row["key"] for row in shared_stack.json("profile", "--list")] == ["profile.small"]
    assert shared_stack.json("ls") == []
    named = ("--profile", '{"name": "small"}', "--slo", "rate_hz=150")
    answer = shared_stack.json("request", "--tenant", "tester", "--id", "sized", "--mode", "fcsp", *named)
    assert answer["answer"] == "slice.ready"
    (placement,) = answer["placements"]
    assert (placement["share_ppm"], placement["vram_bytes"] >> 20) == (200_000, 269)
    assert "with batch 4" in answer["decision"]["summary"]
    assert "from profile.small" in answer["decision"]["summary"]
    shared_stack.mica("release", "sized")
    shared_stack.audit()


@pytest.mark.timeout(120)
def test_a_partition_is_measured_by_the_wall_and_two_sizes_that_are_one_count_once(shared_stack: Stack) -> None:
    """Half and 55 % of an H100 are the same partition or larger ones; nobody counts memory there, and nothing is stored."""
    sizes = ("--share", "40%", "--share", "42%")
    command = (sys.executable, "-c", "pass")
    options = ("--vram", "2GiB", "--mode", "hardware", "--runs", "1", *sizes, "--json")
    text = shared_stack.mica("profile", *options, "--", *command)
    found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert found["version"] is None
    assert len(found["profile"]["points"]) == 1
    assert "vram_bytes" not in found["profile"]["points"][0]
    assert "wall time" in found["profile"]["source"]
    assert shared_stack.json("ls") == []


@pytest.mark.timeout(120)
def test_what_fails_says_so_and_leaves_nothing_behind(shared_stack: Stack, tmp_path: Path) -> None:
    """A program that fails, one that boasts of nonsense, one that never ends, and a size that nobody has."""
    profile = ("profile", "--name", "never", "--vram", "1GiB", "--share", "50%", "--mode", "fcsp", "--runs", "1")
    assert "got exit status 3" in shared_stack.mica(*profile, "--", sys.executable, "-c", "raise SystemExit(3)", status=1)
    boast = "print('{\"rate_hz\": -1}')"
    assert "rate_hz: got -1" in shared_stack.mica(*profile, "--", sys.executable, "-c", boast, status=1)
    endless = (*profile, "--timeout", "500ms", "--", sys.executable, "-c", "import time; time.sleep(60)")
    assert "got no end in 0.5 s" in shared_stack.mica(*endless, status=1)
    large = ("profile", "--vram", "900GiB", "--queue", "0", "--", "true")
    assert "vram_bytes: got 966367641600, allowed: at most" in shared_stack.mica(*large, status=1)
    assert "not stored" in shared_stack.mica("profile", "--show", "never", status=1)
    assert shared_stack.json("ls") == []
    shared_stack.audit()
