"""A program that asks the driver for functions by name, by the thousand: what test_shim_names.py compares.

Reads {"names", "versions", "flags"} from stdin; writes, for both forms of cuGetProcAddress and each name, version and flags, in
this order, [result, status, place]: the answer's index in the list "places" of [file, offset in it], whose first is none.
"""

import ctypes
import itertools
import json
import sys

UNTOUCHED = -7


class Info(ctypes.Structure):
    """What dladdr says."""

    _fields_ = (("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("symbol", ctypes.c_char_p), ("at", ctypes.c_void_p))


def place(address: int | None) -> list[object] | None:
    """The file that an address lies in, and where there."""
    info = Info()
    if address is None or not ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(info)):
        return None
    return [info.file.decode(), address - info.base]


def main() -> None:
    """Ask for everything."""
    asked = json.load(sys.stdin)
    driver = ctypes.CDLL("libcuda.so.1")
    places: dict[int | None, int] = {None: 0}
    answers = []
    found, status = ctypes.c_void_p(), ctypes.c_int()
    for form, name, version, flags in itertools.product((1, 2), asked["names"], asked["versions"], asked["flags"]):
        found.value, status.value = None, UNTOUCHED
        arguments = None if name is None else name.encode(), ctypes.byref(found), version, ctypes.c_uint64(flags)
        if form == 1:
            result = driver.cuGetProcAddress(*arguments)
        else:
            result = driver.cuGetProcAddress_v2(*arguments, ctypes.byref(status))
        answers.append((result, status.value, places.setdefault(found.value, len(places))))
    json.dump({"places": [place(address) for address in places], "answers": answers}, sys.stdout)


if __name__ == "__main__":
    main()
