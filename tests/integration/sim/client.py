"""A program on the simulated node: runs each line of Python it is sent and answers with the value, as JSON.

It uses NVIDIA's own client libraries, unmodified, as a tenant's program would.
"""

import json
import sys
from typing import Any

import pynvml  # noqa: F401 - for the code that is sent
from cuda.bindings import driver

PTX = (
    b".version 8.0\n.target sm_60\n.address_size 64\n"
    b".visible .entry short_kernel(){ret;}\n.visible .entry long_kernel(){ret;}\n\0"
)


def ok(result: tuple[Any, ...]) -> Any:
    """What a call returned, if it returned success."""
    if int(result[0]):
        raise RuntimeError(result[0].name)
    return result[1] if len(result) == 2 else result[1:]


def code(result: tuple[Any, ...]) -> str:
    """Name of what a call returned."""
    return str(result[0].name)


def start(ordinal: int = 0) -> None:
    """Initialise and make the primary context of a device current."""
    ok(driver.cuInit(0))
    ok(driver.cuCtxSetCurrent(ok(driver.cuDevicePrimaryCtxRetain(ok(driver.cuDeviceGet(ordinal))))))


def allocate(size_bytes: int) -> int:
    """A device address."""
    return int(ok(driver.cuMemAlloc(size_bytes)))


def kernel(name: str = "short_kernel") -> Any:
    """A kernel of a small module."""
    return ok(driver.cuModuleGetFunction(ok(driver.cuModuleLoadData(PTX)), name.encode()))


def launch(function: Any, blocks: int, stream: Any = 0, threads: int = 128) -> None:
    """Launch blocks of threads."""
    ok(driver.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, 0, 0))


def read(address: int, size_bytes: int) -> bytes:
    """Device memory as bytes."""
    out = bytearray(size_bytes)
    ok(driver.cuMemcpyDtoH(out, address, size_bytes))
    return bytes(out)


def main() -> None:
    """Answer until the input ends."""
    names: dict[str, Any] = dict(globals())
    for line in sys.stdin:
        text = json.loads(line)
        try:
            value = eval(text, names) if not text.startswith("exec:") else exec(text[5:], names)
            answer = {"value": value}
        except Exception as error:  # noqa: BLE001 - every failure is the asking test's to judge
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=lambda v: v.decode(errors="replace") if isinstance(v, bytes) else int(v)), flush=True)


if __name__ == "__main__":
    main()
