"""What a large service remembers lies in large pages, where the system has them: nothing else of it changes."""

import mmap
import re
from pathlib import Path

import pytest

from mica.bus import _pages
from mica.bus._pages import AT_ONCE_BYTES, GROWN_BYTES, WORTH_BYTES, Pages, ask, in_use_bytes

SMAPS = Path("/proc/self/smaps")
HAS_LARGE = Path("/sys/kernel/mm/transparent_hugepage/enabled").exists()

pytestmark = pytest.mark.skipif(not HAS_LARGE, reason="this system has no large pages to ask for")


class Counted:
    """Stands for the asking."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.in_use = 0
        monkeypatch.setattr(_pages, "ask", self._ask)
        monkeypatch.setattr(_pages, "in_use_bytes", lambda: self.in_use)

    def _ask(self) -> int:
        self.asked += 1
        return 0


def test_memory_of_the_process_is_asked_for_in_large_pages() -> None:
    """All of a large piece of memory is marked, and what stands in it stays."""
    length = 4 * AT_ONCE_BYTES
    with mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:: mmap.PAGESIZE] = bytes(n % 251 for n in range(length // mmap.PAGESIZE))
        before = marked_bytes()
        assert ask() >= length - 2 * _pages.LARGE_BYTES
        assert marked_bytes() - before >= length - 2 * _pages.LARGE_BYTES
        assert memory[:: mmap.PAGESIZE] == bytes(n % 251 for n in range(length // mmap.PAGESIZE))


def test_what_is_a_file_s_is_left_alone(tmp_path: Path) -> None:
    """Its pages are the file's, however many there are."""
    (tmp_path / "file").write_bytes(bytes(2 * WORTH_BYTES))
    with (tmp_path / "file").open("r+b") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as of_file:
        ask()
        of_file[0] = 1
        assert "hg" not in flags_of(str(tmp_path / "file"))


def test_it_is_asked_again_only_once_the_process_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for a small service; for a large one, and again with every further growth."""
    counted, pages = Counted(monkeypatch), Pages()
    seen = []
    for in_use in (GROWN_BYTES - 1, GROWN_BYTES, 2 * GROWN_BYTES - 1, 2 * GROWN_BYTES, GROWN_BYTES):
        counted.in_use = in_use
        pages.step()
        pages.end()
        seen.append(counted.asked)
    assert seen == [0, 1, 1, 2, 2]


def test_what_is_in_use_grows_with_what_is_touched() -> None:
    """It is the process's own, in bytes."""
    before = in_use_bytes()
    with mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:: mmap.PAGESIZE] = bytes([1]) * (len(memory) // mmap.PAGESIZE)
        assert in_use_bytes() - before >= 4 << 20


def marked_bytes() -> int:
    """How much of the process's memory is marked for large pages."""
    sizes = re.findall(r"^Size: +(\d+) kB$|^VmFlags: (.*)$", SMAPS.read_text(), re.MULTILINE)
    marked, size = 0, 0
    for kib, flags in sizes:
        if kib:
            size = int(kib) << 10
        elif "hg" in flags.split():
            marked += size
    return marked


def flags_of(name: str) -> list[str]:
    """The flags of the piece of memory that a file stands in."""
    after = SMAPS.read_text().partition(name)[2]
    found = re.search(r"^VmFlags: (.*)$", after, re.MULTILINE)
    assert found is not None
    return found[1].split()
