"""Somebody else's hand on a simulated node: does what each line of stdin says, and answers with one line; used by tests.

Its memory and its device node are those of ``occupy``: they are its own until it ends.
"""

import sys
from pathlib import Path

from mica.hardware import BooksReader, ControlError


def main() -> None:
    """Serve until stdin ends."""
    reader = BooksReader(Path(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            print("ok", reader.control(line.strip()), flush=True)
        except ControlError as error:
            print("error", error, flush=True)


main()
