"""Holders: known by what /proc says of them, and ended whatever they do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mica.vendors import VendorError
from mica.vendors.qualcomm import _holders
from mica.vendors.qualcomm._holders import PARTITION_TOOL, Holder, Holders, Record, Slot, users_of

SLOT = Slot("0000:01:00.0", 4, 8)


def process(proc: Path, pid: int, *words: str, state: str = "S") -> None:
    """Enter a process in a made-up /proc."""
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    (proc / str(pid) / "stat").write_text(f"{pid} (a ) name) {state} " + "0 " * 18 + f"{pid * 10} 0 0\n")


def test_a_slot_is_told_by_its_files(tmp_path: Path) -> None:
    """Other files name none."""
    assert Slot.of(tmp_path / f"{SLOT.stem}.json") == SLOT
    assert [Slot.of(Path(name)) for name in ("config.json", "a+b+c.json", "lock")] == [None, None, None]


def test_holders_are_found_by_their_command_line(tmp_path: Path) -> None:
    """Ours by the directory of the configuration, also before the shell has become the tool; others by what theirs says.

    Those of another node that is simulated here run another program, and are none.
    """
    place, proc = tmp_path / "place", tmp_path / "proc"
    foreign = tmp_path / "mine.json"
    foreign.write_text('{"numNsp": 2}')
    process(proc, 9, "/opt/qti-aic/tools/" + PARTITION_TOOL, "-p", str(place / f"{SLOT.stem}.json"), "-d", "3")
    process(proc, 5, "/usr/bin/python3.11", "-S", "/sim/bin/" + PARTITION_TOOL, "-p", str(foreign), "-d", "1")
    process(proc, 6, PARTITION_TOOL, "-q", "program.qpc")
    process(proc, 7, "/bin/sh", "-c", "script", "sh", "log", PARTITION_TOOL, "-p", str(place / f"{SLOT.stem}.json"), "-d", "3")
    process(proc, 11, "/bin/sh", "-c", PARTITION_TOOL + " -p somebody-else's")
    process(proc, 12, "/usr/bin/python3.11", "-S", "/other/bin/" + PARTITION_TOOL, "-p", str(foreign), "-d", "1")
    process(proc, 8, PARTITION_TOOL, "-p", "x", state="Z")
    process(proc, 10, "vi", PARTITION_TOOL)
    assert Holders(Path("/sim/bin", PARTITION_TOOL), place, proc).living() == [
        Holder(5, 50, None, 1, 2),
        Holder(6, 60, None, None, None),
        Holder(7, 70, SLOT, 3, 4),
        Holder(9, 90, SLOT, 3, 4),
    ]


def test_what_is_noted_is_read_again(tmp_path: Path) -> None:
    """By whoever comes next; a file that says nothing is no record."""
    holders = Holders(Path(PARTITION_TOOL), tmp_path)
    holders.record(Holder(1, 10, SLOT), "/dev/accel/accel7")
    (tmp_path / "0000:01:00.0+2+0.held").write_text("")
    holders.claim(SLOT)
    assert holders.records() == [Record(SLOT, 1, 10, "/dev/accel/accel7")]
    assert holders.claims() == [SLOT]
    holders.forget(SLOT)
    assert (holders.records(), holders.claims()) == ([], [])


def test_a_directory_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    """There nothing can be held."""
    (tmp_path / "file").touch()
    holders = Holders(Path(PARTITION_TOOL), tmp_path / "file" / "qaic")
    with pytest.raises(VendorError, match="Not a directory"), holders.locked():
        pass


def test_a_holder_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And one that is another process by now is left alone."""
    monkeypatch.setattr(_holders, "TERM_S", 0.05)
    holders = Holders(Path(PARTITION_TOOL), tmp_path)
    program = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        ticks = holders._ticks(stubborn.pid)
        holders.end(Holder(stubborn.pid, ticks + 1, SLOT))
        assert stubborn.poll() is None
        holders.end(Holder(stubborn.pid, ticks, SLOT))
        assert stubborn.wait() == -9
        assert not holders.alive(Holder(stubborn.pid, ticks, SLOT))


def test_users_of_a_device_node_are_who_have_it_open(tmp_path: Path) -> None:
    """Nobody has a node that is not there, and without a name there are none."""
    node = tmp_path / "accel0"
    node.touch()
    assert users_of(str(node)) == frozenset()
    with node.open():
        assert users_of(str(node)) == {os.getpid()}
    assert users_of("") == frozenset()
