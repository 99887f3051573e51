"""The processes that keep derived devices alive. Invariant: one is known by command line and start time, never by a pid alone.

A holder is started so that nothing of its starter's end reaches it: in a session of its own, as nobody's child, without its
descriptors. The path of its configuration says for which device, size and first NSP it was started; a record beside that file
says which device node it made. Both outlive whoever started it, so that the next one finds out all the same.

What ends a whole control group ends holders with it: a service manager must leave them alone (systemd: KillMode=process), and
in a container they live as long as that.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.vendors._port import VendorError

PARTITION_TOOL: Final = "qaic-device-partition"
SHELL_S: Final = 10.0
TERM_S: Final = 2.0
KILL_S: Final = 10.0
"""How long the shell has to start a holder, and a holder to end after SIGTERM and then after SIGKILL."""

_START: Final = """
log=$1; shift
cd /
"$@" </dev/null >"$log" 2>&1 &
echo $!
"""
"""A shell between starter and holder: it is gone at once, and the holder is nobody's child."""


class Slot(Struct, frozen=True):
    """Where a group of NSPs is: ``size`` of them from ``start``, on the device at ``pci``."""

    pci: str
    size: int
    start: int

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"{self.pci}+{self.size}+{self.start}"

    @classmethod
    def of(cls, path: Path) -> "Slot | None":
        """The slot that a file is about."""
        pci, *numbers = path.stem.split("+")
        if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            return None
        return cls(pci, int(numbers[0]), int(numbers[1]))


class Holder(Struct, frozen=True):
    """A living process of the tool. ``slot`` is None for one that somebody else started; ``qid`` and ``nsps``: as it was told."""

    pid: int
    ticks: int
    slot: Slot | None
    qid: int | None = None
    nsps: int | None = None


class Record(Struct, frozen=True):
    """What is known of the holder started for a slot: ``link`` is the device node it made."""

    slot: Slot
    pid: int
    ticks: int
    link: str


class Holders:
    """Starts, finds and ends them. What they need lies in ``place``."""

    def __init__(self, tool: Path, place: Path, proc: Path = Path("/proc")) -> None:
        self._tool = tool
        self._place = place
        self._proc = proc

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else on this machine starts or ends holders meanwhile.

        Raises:
            VendorError: the directory can not be used.
        """
        try:
            self._place.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor = os.open(self._place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise VendorError(f"{self._place}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def refusal(self) -> str:
        """Why no holder could be started here; empty if one could."""
        nearest = next(each for each in (self._place, *self._place.parents) if each.exists())
        return "" if os.access(nearest, os.W_OK | os.X_OK) else f"{self._place}: not allowed to write there"

    def living(self) -> list[Holder]:
        """All holders of this machine, oldest first."""
        found = []
        for entry in self._proc.iterdir():
            if entry.name.isdecimal():
                holder = self._read(entry)
                if holder is not None:
                    found.append(holder)
        return sorted(found, key=lambda each: (each.ticks, each.pid))

    def start(self, slot: Slot, qid: int, config: dict[str, int]) -> Holder:
        """Start one for the slot. What it prints is read by ``said``.

        Raises:
            VendorError: it can not be started, or ended at once.
        """
        path = self._place / f"{slot.stem}.json"
        log = self._place / f"{slot.stem}.log"
        command = ["/bin/sh", "-c", _START, "sh", log, self._tool, "-p", path, "-d", str(qid)]
        try:
            path.write_text(json.dumps(config))
            answer = subprocess.run(
                [*map(str, command)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SHELL_S,
                check=True,
                start_new_session=True,
            ).stdout
            pid = int(answer)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise VendorError(f"{PARTITION_TOOL} for QID {qid}: {error}") from None
        return Holder(pid, self._ticks(pid), slot, qid, slot.size)

    def said(self, slot: Slot) -> str:
        """The last line that the slot's holder printed."""
        with suppress(OSError):
            lines = (self._place / f"{slot.stem}.log").read_text(errors="replace").split("\n")
            return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
        return ""

    def alive(self, holder: Holder) -> bool:
        """Whether that very process is there, and is not a zombie."""
        return holder.ticks > 0 and self._ticks(holder.pid) == holder.ticks

    def end(self, holder: Holder) -> None:
        """End it, by force if it takes its time; one that is gone is no error.

        Raises:
            VendorError: it can not be ended.
        """
        try:
            descriptor = os.pidfd_open(holder.pid)
        except ProcessLookupError:
            return
        try:
            for number, wait_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, KILL_S)):
                if not self.alive(holder):
                    return
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, number)
                if select.select([descriptor], [], [], wait_s)[0]:
                    return
        except OSError as error:
            raise VendorError(f"holder {holder.pid}: {error.strerror}") from None
        finally:
            os.close(descriptor)
        raise VendorError(f"holder {holder.pid}: still there {KILL_S:g} s after SIGKILL")

    def record(self, holder: Holder, link: str) -> None:
        """Note which device node it made. Raises VendorError."""
        assert holder.slot is not None
        path = self._place / f"{holder.slot.stem}.held"
        draft = path.with_suffix(f".{os.getpid()}")
        try:
            draft.write_text(f"{holder.pid} {holder.ticks} {link}\n")
            draft.replace(path)
        except OSError as error:
            raise VendorError(f"{path}: {error.strerror}") from None

    def records(self) -> list[Record]:
        """What is noted, of holders that are gone, too."""
        found = []
        for path in sorted(self._place.glob("*.held")):
            with suppress(OSError, ValueError):
                pid, ticks, link = path.read_text().split()
                slot = Slot.of(path)
                if slot is not None:
                    found.append(Record(slot, int(pid), int(ticks), link))
        return found

    def forget(self, slot: Slot) -> None:
        """Take away what is noted about the slot."""
        for suffix in ("held", "json", "log", "whole"):
            with suppress(OSError):
                (self._place / f"{slot.stem}.{suffix}").unlink()

    def claim(self, slot: Slot) -> None:
        """Note that a device is given away whole, without a derived device. Raises VendorError."""
        path = self._place / f"{slot.stem}.whole"
        try:
            path.touch()
        except OSError as error:
            raise VendorError(f"{path}: {error.strerror}") from None

    def claims(self) -> list[Slot]:
        """The devices that are given away whole."""
        found = (Slot.of(path) for path in sorted(self._place.glob("*.whole")))
        return [slot for slot in found if slot is not None]

    def _read(self, entry: Path) -> Holder | None:
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
        except OSError:
            return None
        shell = words[1:2] == ["-c"]  # one of ours, about to become the tool
        names = [Path(word).name for word in words]
        interpreted = names[:1] == ["sh"] or (names[:1] != [] and names[0].startswith("python"))
        names = names if shell else names[: 3 if interpreted else 1]
        if PARTITION_TOOL not in names:
            return None
        program = words[names.index(PARTITION_TOOL)]
        path = Path(_after(words, "-p", "--partition-config"))
        qid = _after(words, "-d", "--aic-device-id")
        slot = Slot.of(path) if path.parent == self._place else None
        ticks = self._ticks(int(entry.name))
        elsewhere = shell or program not in {PARTITION_TOOL, str(self._tool)}  # such as another simulated node's
        if not ticks or (slot is None and elsewhere):
            return None
        nsps = slot.size if slot is not None else _nsps(path)
        return Holder(int(entry.name), ticks, slot, int(qid) if qid.isdecimal() else None, nsps)

    def _ticks(self, pid: int) -> int:
        """When the process started, in clock ticks since boot; 0 when it is gone or a zombie."""
        try:
            after_name = (self._proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
            return 0 if after_name[0] in "ZX" else int(after_name[19])
        except (OSError, IndexError, ValueError):
            return 0


def _after(words: list[str], *options: str) -> str:
    return next((value for option, value in pairwise(words) if option in options), "")


def _nsps(path: Path) -> int | None:
    """How many NSPs somebody's configuration asks for, where that can be read."""
    try:
        value = json.loads(path.read_text())["numNsp"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, int) else None


def users_of(link: str, proc: Path = Path("/proc")) -> frozenset[int]:
    """The processes that have the device node open, as far as this one may look."""
    found = set()
    for entry in proc.iterdir() if link else ():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            if any(_target(each) == link for each in (entry / "fd").iterdir()):
                found.add(int(entry.name))
    return frozenset(found)


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
