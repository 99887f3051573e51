"""A tenant's program: NVIDIA's own bindings, unmodified, and not a line that knows of mica.

Prints one JSON object about what it sees, takes ``argv[1]`` bytes of device memory ("all": what is free), then allocates
and frees a little for ever, with a line each time, until somebody kills it.
"""

import errno
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from cuda.bindings import driver

GRANULE_BYTES = 2 << 20
STEP_S = 0.2


def call(result: tuple[Any, ...]) -> Any:
    """The values of a driver call; raises with the driver's own name of the error."""
    code, *values = result
    if code != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(code.name)
    return values[0] if len(values) == 1 else values


def outcome_of_writing(path: Path) -> str:
    """What comes of opening `path` for writing: an errno's name, or "opened"."""
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "opened"


def first_of(*paths: str) -> str:
    """The content of the first file that is there."""
    return next((Path(path).read_text().strip() for path in paths if Path(path).exists()), "")


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def main() -> None:
    call(driver.cuInit(0))
    call(driver.cuCtxSetCurrent(call(driver.cuDevicePrimaryCtxRetain(call(driver.cuDeviceGet(0))))))
    free_bytes, total_bytes = call(driver.cuMemGetInfo())
    runtime = Path(os.environ.get("MICA_RUNTIME_DIR", "/run/mica"))
    say(
        user=os.getuid(),
        greeting=os.environ.get("GREETING", ""),
        memory_max=first_of("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        cpu_max=first_of("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
        devices=call(driver.cuDeviceGetCount()),
        total_bytes=total_bytes,
        free_bytes=free_bytes,
        beyond_the_quota=driver.cuMemAlloc(total_bytes + GRANULE_BYTES)[0].name,
        quota_writes=[outcome_of_writing(path) for path in runtime.glob("devices/*/quota")],
        usage_files=len(list(runtime.glob("slices/*/*.usage"))),
    )
    wanted_bytes = free_bytes // GRANULE_BYTES * GRANULE_BYTES if sys.argv[1] == "all" else int(sys.argv[1])
    code = driver.cuMemAlloc(wanted_bytes)[0]
    say(allocated_bytes=wanted_bytes, allocation=code.name)
    step = 0
    while True:
        step += 1
        if sys.argv[1] != "all":
            call(driver.cuMemFree(call(driver.cuMemAlloc(GRANULE_BYTES))))
        say(step=step)
        time.sleep(STEP_S)


if __name__ == "__main__":
    main()
