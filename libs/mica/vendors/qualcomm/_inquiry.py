"""Asks ``qaic-util``. Invariant: one run answers for all devices, and a device that hangs delays only who asks for it.

The tool asks one device after the other, so that one that hangs keeps it from telling of those behind. Then each is asked by
itself, once; from there on those that were silent are left out of what all wait for, until they answer who asks for them.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Final

from msgspec import Struct

from mica.vendors._port import VendorError
from mica.vendors._tools import ToolSilentError, run_tool
from mica.vendors.qualcomm._report import FIRST_DERIVED, Fields, read_fields

PROBED_NATIVE: Final = 16
DERIVED_MAX: Final = 512
"""How many native QIDs are tried one by one when nobody has said which there are, and how many derived devices there can be."""
ASKED_AT_ONCE: Final = 8


class Snapshot(Struct, frozen=True):
    """What every device printed, by QID; ``silent`` ones are there and did not answer."""

    fields: dict[int, Fields]
    silent: frozenset[int] = frozenset()

    @property
    def qids(self) -> tuple[int, ...]:
        """All there are, in order."""
        return tuple(sorted({*self.fields, *self.silent}))


class Inquiry:
    """The devices of this machine. Safe to use from several threads."""

    def __init__(self, tool: Path, deadline_s: float, fresh_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``deadline_s``: how long a run may take; ``fresh_s``: how long its answer serves others."""
        self._tool = tool
        self._deadline_s = deadline_s
        self._fresh_s = fresh_s
        self._clock = clock
        self._lock = Lock()
        self._last: Snapshot | None = None
        self._at_s = 0.0
        self._silent: frozenset[int] = frozenset()

    def all(self, *, fresh: bool = False) -> Snapshot:
        """What all devices print, asked now if ``fresh``.

        Raises:
            VendorError: the tool fails, or prints nothing that can be read.
        """
        with self._lock:
            if fresh or self._last is None or self._clock() - self._at_s >= self._fresh_s:
                self._last = self._ask_all()
                self._at_s = self._clock()
            return self._last

    def one(self, qid: int) -> Fields:
        """What one device prints, asked now.

        Raises:
            VendorError: it does not answer, or there is none.
        """
        found = read_fields(run_tool([self._tool, "-q", "-d", str(qid)], self._deadline_s))
        if qid not in found:
            raise VendorError(f"qaic-util: nothing about QID {qid} in its answer")
        if qid in self._silent:
            with self._lock:
                self._silent = frozenset()
                self._last = None
        return found[qid]

    def _ask_all(self) -> Snapshot:
        try:
            if not self._silent:
                return Snapshot(_all_fields(run_tool([self._tool, "-q"], self._deadline_s)))
            return self._ask_known()
        except ToolSilentError:
            return self._ask_each()

    def _ask_known(self) -> Snapshot:
        """All but the silent ones in one run; derived QIDs have no gaps, so the next one says if there are more."""
        known = [qid for qid in (self._last.qids if self._last is not None else ()) if qid not in self._silent]
        new = max([FIRST_DERIVED - 1, *known, *self._silent]) + 1
        if not known or not isinstance(self._ask_one(new), VendorError):
            return self._ask_each()
        command: list[str | Path] = [self._tool, "-q"]
        for qid in known:
            command += ["-d", str(qid)]
        try:
            return Snapshot(read_fields(run_tool(command, self._deadline_s)), self._silent)
        except VendorError:  # one of them is gone, or silent, too
            return self._ask_each()

    def _ask_each(self) -> Snapshot:
        natives = range(PROBED_NATIVE) if self._last is None else [qid for qid in self._last.qids if qid < FIRST_DERIVED]
        found: dict[int, Fields] = {}
        with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="qaic-util") as threads:
            found |= self._ask_some(natives, threads)
            for first in range(FIRST_DERIVED, FIRST_DERIVED + DERIVED_MAX, ASKED_AT_ONCE):
                batch = range(first, first + ASKED_AT_ONCE)
                found |= self._ask_some(batch, threads)
                if not {*found, *self._silent} & {*batch}:
                    break
        return Snapshot(found, self._silent)

    def _ask_some(self, qids: Iterable[int], threads: ThreadPoolExecutor) -> dict[int, Fields]:
        """What each of them prints by itself; those that are silent from now on are remembered."""
        asked = [qid for qid in qids if qid not in self._silent]
        answers = dict(zip(asked, threads.map(self._ask_one, asked), strict=True))
        self._silent |= {qid for qid, answer in answers.items() if isinstance(answer, ToolSilentError)}
        return {qid: answer for qid, answer in answers.items() if not isinstance(answer, VendorError)}

    def _ask_one(self, qid: int) -> Fields | VendorError:
        try:
            return read_fields(run_tool([self._tool, "-q", "-d", str(qid)], self._deadline_s)).get(qid, VendorError("nothing"))
        except VendorError as error:
            return error


def _all_fields(text: str) -> dict[int, Fields]:
    found = read_fields(text)
    if not found and text.strip():
        raise VendorError(f"qaic-util -q: no QID in its answer, which begins with {text.strip().splitlines()[0][:80]!r}")
    return found
