"""Usage regions: what services read and reclaim, and the processes behind the slots."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mica.region import (
    SLOTS_MAX,
    Defect,
    Limits,
    Owner,
    RegionAccessError,
    RegionDefectError,
    RegionError,
    RegionMissingError,
    TenantRegion,
    create_usage,
    find_process,
    owner_of,
    process_start_ticks,
    read_usage,
    reclaim_slot,
)

CHILD = """
import sys, signal
from pathlib import Path
from mica.region import TenantRegion
region = TenantRegion(Path(sys.argv[1]))
region.reserve(int(sys.argv[2]), 1 << 40)
print("attached", flush=True)
signal.pause()
"""


@pytest.fixture
def usage(tmp_path: Path) -> Path:
    path = tmp_path / "GPU-1.usage"
    assert create_usage(path, "GPU-1", "slice-1", os.getuid())
    return path


@pytest.fixture
def child(usage: Path):
    command = [sys.executable, "-c", CHILD, str(usage), "4096"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "attached\n"
        yield process
        process.kill()


def test_snapshot_shows_what_a_process_did(usage: Path) -> None:
    """Memory, refusals, compute and identity of a tenant's process are what services read."""
    limits = Limits(slice_id="slice-1", generation=1, vram_limit_bytes=100, share_ppm=500_000, ceiling_ppm=500_000, burst_ns=10)
    with TenantRegion(usage) as tenant:
        assert tenant.reserve(60, 100)
        assert not tenant.reserve(41, 100)
        assert tenant.used_bytes() == 60
        assert tenant.admit(limits, 1000, 5000) == 0
        assert tenant.admit(limits, 1000, 5000) == 1990
        tenant.correct(limits, 1000, 900)
        seen = read_usage(usage)
        assert (seen.slice_id, seen.device_id) == ("slice-1", "GPU-1")
        assert (seen.vram_bytes, seen.vram_peak_bytes, seen.refusals) == (60, 60, 1)
        assert (seen.virtual_time_ns, seen.gpu_ns) == (6800, 900)
        (process,) = seen.processes
        assert (process.slot, process.pid, process.vram_bytes) == (tenant.slot, os.getpid(), 60)
        assert process.owner == tenant.owner == owner_of(os.getpid())
        with pytest.raises(RegionError, match="allowed are 0 to 281474976710655"):
            tenant.reserve(1 << 48, 1 << 60)
    assert read_usage(usage).processes == ()


def test_create_adopts_its_own_and_refuses_another(usage: Path, tmp_path: Path) -> None:
    """A second creation sets mode and owner right again, and never takes another slice's file."""
    usage.chmod(0o644)
    assert not create_usage(usage, "GPU-1", "slice-1", os.getuid())
    assert usage.stat().st_mode & 0o777 == 0o600
    with pytest.raises(RegionError, match="slice slice-1 on GPU-1, expected slice-2 on GPU-1"):
        create_usage(usage, "GPU-1", "slice-2", os.getuid())


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a file away")
def test_region_belongs_to_the_slices_user(tmp_path: Path) -> None:
    """The file is the slice's user's alone."""
    path = tmp_path / "GPU-1.usage"
    create_usage(path, "GPU-1", "slice-1", 12345)
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (12345, 0o600)


def test_a_tenant_cannot_harm_its_readers(usage: Path, tmp_path: Path) -> None:
    """A truncated file, a symbolic link, a FIFO and a directory in the file's place are errors, told at once."""
    for size in (4607, 300, 10, 0):
        os.truncate(usage, size)
        with pytest.raises(RegionDefectError, match=f"found {size} bytes") as caught:
            read_usage(usage)
        assert caught.value.defect is Defect.TRUNCATED
    link, fifo = tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(usage)
    os.mkfifo(fifo)
    with pytest.raises(RegionAccessError):
        read_usage(link)
    with pytest.raises(RegionError, match="not a regular file"):
        read_usage(fifo)
    with pytest.raises(RegionError, match="not a regular file"):
        read_usage(tmp_path)
    with pytest.raises(RegionMissingError):
        read_usage(tmp_path / "absent")


def test_slots_run_out_with_a_clear_error(usage: Path) -> None:
    """One process too many is told so."""
    tenants = [TenantRegion(usage) for _ in range(SLOTS_MAX)]
    with pytest.raises(RegionError, match="all 64 slots are held"):
        TenantRegion(usage)
    for tenant in tenants:
        tenant.close()
        tenant.close()


def test_dead_processes_memory_comes_back(usage: Path, child: "subprocess.Popen[str]") -> None:
    """A killed process holds its memory until its slot is reclaimed, which happens once."""
    (process,) = read_usage(usage).processes
    assert process.pid == child.pid
    assert find_process(process.owner, usage) == child.pid
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert find_process(process.owner, usage) is None
    assert read_usage(usage).vram_bytes == 4096
    assert not reclaim_slot(usage, process.slot, process.owner + 1)
    assert reclaim_slot(usage, process.slot, process.owner)
    assert not reclaim_slot(usage, process.slot, process.owner)
    assert read_usage(usage).processes == ()
    with pytest.raises(RegionError, match="slot 64, allowed are 0 to 63"):
        reclaim_slot(usage, SLOTS_MAX, process.owner)


def test_process_must_map_the_slots_file(usage: Path, child: "subprocess.Popen[str]", tmp_path: Path) -> None:
    """Pid and start time alone do not make a process the owner of a slot in another file."""
    other = tmp_path / "other.usage"
    create_usage(other, "GPU-1", "slice-2", os.getuid())
    (process,) = read_usage(usage).processes
    assert find_process(process.owner, other) is None
    with pytest.raises(RegionError, match="no such usage region"):
        find_process(process.owner, tmp_path / "absent")


def test_owner_word_is_taken_apart_and_put_together() -> None:
    """Pid and start time survive the word, at both ends of their ranges."""
    for owner in (Owner(1, 0), Owner((1 << 22) - 1, (1 << 34) - 1), Owner(4711, 123_456_789)):
        assert Owner.of_word(owner.word) == owner
        assert owner.word >> 56 == 1
    assert Owner(1, (1 << 34) + 5).word == Owner(1, 5).word


def test_start_time_survives_a_hostile_name() -> None:
    """A process's name with spaces and parentheses does not shift the fields after it."""
    libc = ctypes.CDLL(None)
    before = process_start_ticks(os.getpid())
    name = Path("/proc/self/comm").read_text().strip()
    libc.prctl(15, b") S 1 (x) 2", 0, 0, 0)
    try:
        assert process_start_ticks(os.getpid()) == before > 0
    finally:
        libc.prctl(15, name.encode(), 0, 0, 0)
    with pytest.raises(ProcessLookupError, match="not running"):
        owner_of((1 << 22) + 1)
