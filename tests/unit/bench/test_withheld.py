"""What ``mica bench isolation`` says of processor time that was withheld from tenants."""

import os
from pathlib import Path

from mica.bench._withheld import withheld_ns


def _thread(proc: Path, pid: int, thread: int, waited_ns: int) -> None:
    task = proc / f"{pid}/task/{thread}"
    task.mkdir(parents=True)
    (task / "schedstat").write_text(f"123456789 {waited_ns} 42\n")


def test_waits_of_every_thread_and_stolen_time_add_up(tmp_path: Path) -> None:
    """Of the processes named, and of no other; one that is gone waits for nothing."""
    second = os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_text(f"cpu  1 2 3 4 5 6 7 {2 * second} 0 0\ncpu0 1 2 3 4 5 6 7 {second} 0 0\n")
    _thread(tmp_path, 7, 7, 1_000)
    _thread(tmp_path, 7, 8, 200)
    _thread(tmp_path, 9, 9, 30)
    assert withheld_ns([7], tmp_path) == 2_000_001_200
    assert withheld_ns([7, 9, 11], tmp_path) == 2_000_001_230


def test_a_kernel_that_does_not_count_says_nothing(tmp_path: Path) -> None:
    """Then the figure is zero, which excuses nothing."""
    (tmp_path / "stat").write_text("cpu  1 2 3\n")
    (tmp_path / "7/task/7").mkdir(parents=True)
    (tmp_path / "7/task/7/schedstat").write_text("")
    assert withheld_ns([7], tmp_path) == 0


def test_this_machine_can_be_read() -> None:
    """It has such files, and this process is in them."""
    assert withheld_ns([os.getpid()]) >= 0
