"""How many multiprocessors a device has. Invariant: 0 when NVML does not say, never a guess.

NVML counts CUDA cores, not multiprocessors, on a whole device (``nvmlDeviceGetAttributes`` answers for MIG devices only).
Source: CUDA C++ Programming Guide, "Compute capabilities", arithmetic units for 32-bit floating point.
"""

from typing import Final

CORES_PER_MULTIPROCESSOR: Final = {
    (3, 0): 192, (3, 5): 192, (3, 7): 192,
    (5, 0): 128, (5, 2): 128, (5, 3): 128,
    (6, 0): 64, (6, 1): 128, (6, 2): 128,
    (7, 0): 64, (7, 2): 64, (7, 5): 64,
    (8, 0): 64, (8, 6): 128, (8, 7): 128, (8, 9): 128,
    (9, 0): 128,
    (10, 0): 128, (10, 3): 128, (11, 0): 128,
    (12, 0): 128, (12, 1): 128,
}  # fmt: skip


def multiprocessors(cores: int, capability: tuple[int, int]) -> int:
    """Multiprocessors of a device with ``cores`` CUDA cores; 0 for a capability that is not in the table."""
    per_multiprocessor = CORES_PER_MULTIPROCESSOR.get(capability, 0)
    return cores // per_multiprocessor if per_multiprocessor else 0
