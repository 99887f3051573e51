"""How an OpenCL device is called. The layer computes the same (native/shim/opencl/devices.c). Pure."""

from typing import Final
from uuid import UUID

FNV_OFFSET: Final = 0xCBF29CE484222325
FNV_PRIME: Final = 0x100000001B3


def uuid_id(uuid: str) -> str:
    """The id of a device with a UUID (32 hexadecimal digits), which is NVML's for the same device."""
    return f"GPU-{UUID(uuid)}"


def device_id(node: str, platform: str, name: str, ordinal: int) -> str:
    """The id of the ``ordinal``-th device of that name on a platform of that name, as programs see them, on ``node``.

    For devices without a UUID. FNV-1a over the four, each ended by a line feed: short, and without a library also in the
    layer. It keeps devices apart, not secrets.
    """
    digest = FNV_OFFSET
    for byte in b"".join(part.encode() + b"\n" for part in (node, platform, name, str(ordinal))):
        digest = (digest ^ byte) * FNV_PRIME % (1 << 64)
    return f"OCL-{digest:016x}"
