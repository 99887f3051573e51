"""The tenant of ``mica bench suspend``: holds so many bytes of a device, knows them again, and measures plain copies of as many.

One JSON answer for each line of its input. Invariant: every copy is of all the bytes, and ends before its time is taken.
"""

import ctypes
import json
import mmap
import sys
import time

_PATTERN_BYTES = 1 << 20


def _ms(since: float) -> float:
    return (time.perf_counter() - since) * 1e3


class _Tenant:
    """One allocation, and a buffer of the host of the same size."""

    def __init__(self, size: int) -> None:
        self._cuda, self._size = ctypes.CDLL("libcuda.so.1"), size
        context, self._at = ctypes.c_void_p(), ctypes.c_uint64()
        for code in (
            self._cuda.cuInit(0),
            self._cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0),
            self._cuda.cuCtxSetCurrent(context),
            self._cuda.cuMemAlloc_v2(ctypes.byref(self._at), ctypes.c_size_t(size)),
        ):
            assert code == 0, f"CUDA error {code}"
        pattern = bytes((index * 7 + index // 251) % 256 for index in range(_PATTERN_BYTES))
        self._wanted = self._filled(pattern)
        self.to_device()

    def _filled(self, pattern: bytes) -> mmap.mmap:
        made = mmap.mmap(-1, self._size)
        for offset in range(0, self._size, _PATTERN_BYTES):
            made[offset : offset + _PATTERN_BYTES] = pattern[: self._size - offset]
        return made

    @staticmethod
    def _address(buffer: mmap.mmap) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(buffer))

    def to_device(self) -> float:
        """All of it to the device; ms."""
        began = time.perf_counter()
        code = self._cuda.cuMemcpyHtoD_v2(self._at, ctypes.c_void_p(self._address(self._wanted)), ctypes.c_size_t(self._size))
        assert code == 0, f"CUDA error {code}"
        return _ms(began)

    def to_host(self) -> tuple[float, bool]:
        """All of it to fresh memory of the host; ms, and whether every byte is what it was."""
        found = mmap.mmap(-1, self._size)
        began = time.perf_counter()
        code = self._cuda.cuMemcpyDtoH_v2(ctypes.c_void_p(self._address(found)), self._at, ctypes.c_size_t(self._size))
        took = _ms(began)
        assert code == 0, f"CUDA error {code}"
        return took, memoryview(found) == memoryview(self._wanted)

    def copy(self) -> tuple[float, float]:
        """A plain copy within the host: to memory that nobody has touched yet, and then once more to the same; ms."""
        to = mmap.mmap(-1, self._size)
        took = []
        for _ in range(2):
            began = time.perf_counter()
            ctypes.memmove(self._address(to), self._address(self._wanted), self._size)
            took.append(_ms(began))
        return took[0], took[1]


def main(size: int) -> None:
    """Answer until the input ends."""
    tenant = _Tenant(size)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        to_host_ms, same = tenant.to_host()
        fresh_ms, warm_ms = tenant.copy()
        figures = {"to_host_ms": to_host_ms, "to_device_ms": tenant.to_device(), "fresh_ms": fresh_ms, "warm_ms": warm_ms}
        print(json.dumps(figures | {"same": same}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
