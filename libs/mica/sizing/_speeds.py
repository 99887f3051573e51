"""What devices can do at most, for estimates: by the name that a device's library gives it.

Invariant: a device that the tables do not know has no speed; nothing is made up for it.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from threading import Lock

import msgspec
from msgspec import Struct

from mica.hardware import Catalogue, Model

_READING = Lock()


class Speed(Struct, frozen=True):
    """Of a whole device: operations/s in 16 bits, bytes/s of its memory.

    ``bandwidth_part``: a partition with a part of the compute has at least so many times that part of the bandwidth (7/8 with
    MIG, where one of seven compute slices comes with one of eight memory slots).
    """

    flops: float
    bytes_per_s: float
    bandwidth_part: float = 1.0


class _Peaks(Struct, frozen=True, forbid_unknown_fields=True):
    tflops: dict[str, float]


def known_speeds() -> Mapping[str, Speed]:
    """Of every model that has both figures; by its catalogue key and by its full name. Read once, whichever thread asks first."""
    with _READING:
        return _read()


@cache
def _read() -> Mapping[str, Speed]:
    peaks = msgspec.toml.decode(files("mica.sizing").joinpath("peaks.toml").read_bytes(), type=_Peaks).tflops
    found: dict[str, Speed] = {}
    for key, model in Catalogue.load().models.items():
        if key in peaks and model.memory_bytes_per_s:
            speed = Speed(peaks[key] * 1e12, float(model.memory_bytes_per_s), _bandwidth_part(model))
            found[key] = found[model.name] = speed
    return found


def _bandwidth_part(model: Model) -> float:
    parts = [
        (each.size / model.memory_slots) / (each.compute_slices / model.compute_slices)
        for each in model.profiles
        if model.memory_slots and model.compute_slices
    ]
    return min(1.0, *parts) if parts else 1.0
