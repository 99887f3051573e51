"""A Level Zero library that answers from Python: one Max 1550, except where a test says otherwise."""

import ctypes
import types
from collections.abc import Callable, Mapping
from typing import Any

GIB = 1 << 30
SUCCESS = 0
LOST = 0x70000001
NOTHING = 0x78000001
UNSUPPORTED = 0x78000003
INVALID_SIZE = 0x78000008

DRIVER, DEVICE, MEMORY, ENGINE, SENSOR, POWER, ERRORS = range(0x10, 0x80, 0x10)


def fill(**values: Any) -> Callable[..., int]:
    """A call that writes ``values`` into the structure of its last argument; a name with a dot reaches inside."""

    def call(*arguments: Any) -> int:
        for name, value in values.items():
            *inside, last = name.split("__")
            into = arguments[-1]._obj
            for part in inside:
                into = getattr(into, part)
            setattr(into, last, value)
        return SUCCESS

    return call


def several(*handles: int, counts: int | None = None) -> Callable[..., int]:
    """A call that lists ``handles``, and says that there are ``counts``."""

    def call(*arguments: Any) -> int:
        *_, count, found = arguments
        if found is not None:
            for index, handle in enumerate(handles[: len(found)]):
                found[index] = handle
        count._obj.value = len(handles) if counts is None else counts
        return SUCCESS

    return call


def fails(result: int) -> Callable[..., int]:
    """A call that gives ``result``."""

    def call(*_: Any) -> int:
        return result

    return call


def celsius(value: float) -> Callable[..., int]:
    """A sensor's state."""

    def call(*arguments: Any) -> int:
        arguments[-1]._obj.value = value
        return SUCCESS

    return call


def in_turn(*calls: Callable[..., int]) -> Callable[..., int]:
    """One of ``calls`` after another."""
    left = list(calls)

    def call(*arguments: Any) -> int:
        return (left.pop(0) if len(left) > 1 else left[0])(*arguments)

    return call


def listed(kind: Callable[[Any, int], None], there: int, *, more_later: bool = False) -> Callable[..., int]:
    """A call that fills a list of structures; with ``more_later`` there is one more by the time it is read for the first time."""
    seen = [there]

    def call(*arguments: Any) -> int:
        *_, count, found = arguments
        if found is None:
            count._obj.value = seen[0]
            return SUCCESS
        if more_later and seen[0] == there:
            seen[0] += 1
            return INVALID_SIZE
        for index, each in enumerate(found):
            kind(each, index)
        count._obj.value = len(found)
        return SUCCESS

    return call


def uuid_bytes(*values: int) -> Any:
    """A UUID's bytes."""
    return (ctypes.c_uint8 * 16)(*values)


ANSWERS: Mapping[str, Callable[..., int]] = {
    "zesInit": fails(SUCCESS),
    "zesDriverGet": several(DRIVER),
    "zesDeviceGet": several(DEVICE),
    "zesDevicePciGetProperties": fill(address__domain=0, address__bus=0x4D),
    "zesDeviceGetProperties": fill(
        core__deviceId=0x0BD5,
        core__numSlices=8,
        core__numSubslicesPerSlice=16,
        core__uuid__id=uuid_bytes(*range(16)),
        core__name=b"Intel(R) Data Center GPU Max 1550",
        numSubdevices=0,
    ),
    "zesDeviceEnumMemoryModules": several(MEMORY),
    "zesMemoryGetProperties": fill(location=1, physicalSize=128 * GIB),
    "zesMemoryGetState": fill(health=1, size=128 * GIB, free=96 * GIB),
    "zesDeviceEventRegister": fails(SUCCESS),
}


def fake_level_zero(**answers: Callable[..., int] | None) -> Any:
    """The library; None takes a function away."""
    functions = {name: call for name, call in ({**ANSWERS, **answers}).items() if call is not None}
    return types.SimpleNamespace(**functions)
