"""A program that looks at its device through NVML, and knows nothing of mica. It needs the nvidia-ml-py package.

    mica run SLICE -- python examples/nvml_client.py

Prints one line of JSON: the device that is visible to this process, and its memory. Where CUDA_VISIBLE_DEVICES names a MIG
instance, as a scheduler sets it, that instance is looked at.
"""

import json
import os

import pynvml


def main() -> None:
    pynvml.nvmlInit()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    partition = visible.startswith("MIG-")
    handle = pynvml.nvmlDeviceGetHandleByUUID(visible) if partition else pynvml.nvmlDeviceGetHandleByIndex(0)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    print(
        json.dumps(
            {
                "device": pynvml.nvmlDeviceGetName(handle),
                "uuid": pynvml.nvmlDeviceGetUUID(handle),
                "total_bytes": memory.total,
                "used_bytes": memory.used,
                "free_bytes": memory.free,
            }
        )
    )
    pynvml.nvmlShutdown()


if __name__ == "__main__":
    main()
