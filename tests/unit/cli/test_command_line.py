"""The command line as its user meets it, without any server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mica.cli.__main__ import main
from mica.cli._decision import describe
from mica.cli._lazy import COMMANDS
from mica.cli.commands.request import build_request
from mica.events import AskedLimits, Mode, Placement, Vendor, WorkLimits


def mica(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, where nobody listens for NATS."""
    command = [sys.executable, "-m", "mica.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={"MICA_NATS_URL": "nats://127.0.0.1:1", **environment}, check=False
    )


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    """``mica --help`` stays quick: the bus, msgspec and rich stay unloaded."""
    code = (
        "import sys; from mica.cli.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'nats', 'msgspec', 'rich', 'asyncio'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_in_the_table_exists_and_explains_itself(name: str, capsys: Any) -> None:
    """The table names a click command, and its help is more than its name."""
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code in (0, None)
    assert f"Usage: mica {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [("ls",), ("devices",), ("request", "--tenant", "a", "--vram", "1G"), ("release", "s1"), ("watch",), ("audit",)]
)
def test_a_missing_server_is_one_clear_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """No trace of a stack: where nobody answered, and what to start."""
    done = mica(*arguments, MICA_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no NATS server answers at nats://127.0.0.1:1" in done.stderr
    assert "mica up" in done.stderr


def test_an_unknown_command_is_one_line_and_status_2(capsys: Any) -> None:
    """A typo names what was typed."""
    with pytest.raises(SystemExit) as ended:
        main(["lss"])
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert "'lss'" in line
    assert line.count("\n") == 1


BAD_REQUESTS = {
    "a size": (["--vram", "lots"], "--vram"),
    "a share": (["--vram", "1G", "--share", "170%"], "--share"),
    "processors": (["--vram", "1G", "--cpu", "few"], "--cpu"),
    "more processors than any node has": (["--vram", "1G", "--cpu", "9000"], "cpu_milli: got 9000000"),
    "a mode": (["--vram", "1G", "--mode", "turbo"], "mode: got turbo, allowed: one of hardware, fcsp, timeslice"),
    "a vendor": (["--vram", "1G", "--vendor", "acme"], "vendor: got acme, allowed: one of nvidia"),
    "a tier": (["--vram", "1G", "--tier", "gold"], "tier: got gold, allowed: one of guaranteed, burst, spot"),
    "an id": (["--vram", "1G", "--id", "a b"], "id: got a b"),
    "a priority": (["--vram", "1G", "--priority", "101"], "priority: got 101"),
    "an slo": (["--vram", "1G", "--slo", "p50_ms=1"], "slo: got 'p50_ms=1', allowed: one of p99_ms=NUMBER"),
    "an slo that is no number": (["--vram", "1G", "--slo", "p99_ms=fast"], "slo: got 'p99_ms=fast'"),
    "a profile": (["--vram", "1G", "--profile", '{"size": 1}'], "profile.size: got 1, allowed: no such field"),
    "a profile file": (["--vram", "1G", "--profile", "@/nowhere.json"], "profile: got @/nowhere.json"),
    "a long name": (["--vram", "1G", "--name", "x" * 100_000], "name: got xxx"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_never_leaves_the_command_line(case: str, capsys: Any) -> None:
    """It is refused in one line that names the field, what was given and what is allowed, before anything is connected."""
    options, expected = BAD_REQUESTS[case]
    with pytest.raises(SystemExit) as ended:
        main(["request", "--tenant", "a", *options])
    assert ended.value.code in (1, 2)
    line = capsys.readouterr().err
    assert expected in line
    assert line.count("\n") == 1
    assert len(line) < 400


def test_a_request_file_is_read_as_the_wire_would(tmp_path: Path, capsys: Any) -> None:
    """The whole body as JSON, refused with the same words as on the bus."""
    body = tmp_path / "request.json"
    body.write_text(json.dumps({"tenant": "a", "vram": 1}))
    with pytest.raises(SystemExit):
        main(["request", "--file", str(body)])
    assert "vram: got 1, allowed: no such field" in capsys.readouterr().err


def test_resize_wants_something_to_change(capsys: Any) -> None:
    """Neither memory nor compute nor a limit is a usage error."""
    with pytest.raises(SystemExit) as ended:
        main(["resize", "s1"])
    assert ended.value.code == 2
    assert "give --vram, --share or a limit" in capsys.readouterr().err


def test_limits_that_are_typed_stand_in_the_request() -> None:
    """Options become fields of ``limits``; without any there is no such field."""
    limits = {"pinned_bytes": 4 << 30, "launch_rate_hz": None, "inflight_max": 64, "copy_bytes_per_s": None, "burst_ns": 0}
    wanted = build_request({"tenant": "a", "vram_bytes": 1, **limits})
    assert wanted.limits == AskedLimits(pinned_bytes=4 << 30, inflight_max=64, burst_ns=0)
    assert build_request({"tenant": "a", "vram_bytes": 1}).limits == AskedLimits()


def test_a_part_of_the_node_is_asked_for_and_shown() -> None:
    """Processors and memory of the node, beside the device; without them the body has no such fields."""
    wanted = build_request({"tenant": "a", "vram_bytes": 1, "cpu_milli": 1_500, "host_memory_bytes": 32 << 30})
    assert (wanted.cpu_milli, wanted.host_memory_bytes) == (1_500, 32 << 30)
    placement = Placement(
        node="n", device_id="g", model="L4", vendor=Vendor.NVIDIA, mode=Mode.FCSP, vram_bytes=1 << 30, share_ppm=500_000,
        cpu_milli=1_500, host_memory_bytes=32 << 30,
    )  # fmt: skip
    assert describe(placement) == "n/g (L4): fcsp, 1GiB, 50%, 1.5 CPUs, 32GiB of host memory"


def test_a_placement_shows_its_limits_and_none_that_were_lifted() -> None:
    """As they were typed."""
    limits = WorkLimits(pinned_bytes=4 << 30, inflight_max=0, launch_rate_hz=500, burst_ns=20_000_000)
    placement = Placement(
        node="n",
        device_id="GPU-1",
        model="L4",
        vendor=Vendor.NVIDIA,
        mode=Mode.FCSP,
        vram_bytes=8 << 30,
        share_ppm=500_000,
        limits=limits,
    )
    assert describe(placement) == "n/GPU-1 (L4): fcsp, 8GiB, 50%, 4GiB pinned, 500 launches/s, burst 20 ms"
