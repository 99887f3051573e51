"""The simulated node as a stand-in sees it: books and control, through ctypes and json alone.

Invariant: nothing heavy is imported. A tool starts anew for every question, so that its imports are most of what it costs;
``mica.hardware.BooksReader`` is the same for services.
"""

import ctypes
import json
import os
import sys
from typing import Any, Final, NoReturn

from mica.native import LIB_DIR

_FIRST_SIZE_BYTES: Final = 256 * 1024


def give_up(message: str, code: int = 1) -> NoReturn:
    """End the tool."""
    sys.stdout.flush()
    print(message, file=sys.stderr)
    raise SystemExit(code)


class Engine:
    """The node of $MICA_SIM_DIR. Ends the tool where there is none."""

    def __init__(self) -> None:
        directory = os.environ.get("MICA_SIM_DIR", "")
        try:
            self._library = ctypes.CDLL(str(LIB_DIR / "sim" / "libmica-sim-books.so"))
        except OSError as error:
            give_up(f"no simulated driver: {error}")
        opened = self._library.mica_sim_open(os.fsencode(os.path.realpath(directory)))
        if opened:
            give_up(f"no simulated node in {directory}: {os.strerror(-opened)}")

    def books(self) -> dict[str, Any]:
        """Everything the engine knows now."""
        size = _FIRST_SIZE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._library.mica_sim_books(buffer, ctypes.c_size_t(size))
            if length < 0:
                give_up(f"no books: {os.strerror(-length)}")
            if length < size:
                answer: dict[str, Any] = json.loads(buffer.value)
                return answer
            size = 2 * length

    def control(self, command: str) -> tuple[int, str]:
        """Do what the text says: 0 or an errno, and what was made or why not."""
        answer = ctypes.create_string_buffer(256)
        result = self._library.mica_sim_control(command.encode(), answer, ctypes.c_size_t(len(answer)))
        text = answer.value.decode(errors="replace")
        return -result if result < 0 else 0, text
