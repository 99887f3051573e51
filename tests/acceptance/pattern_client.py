"""A program that fills device memory with a pattern and knows it again; one JSON answer for each line of its input."""

import json
import random
import sys

from cuda.bindings import driver as cuda

CHUNK = 1 << 22


def main() -> None:
    """``fill BYTES``: allocate and write; ``check``: whether every byte is there; ``free``: the device's free memory."""
    cuda.cuInit(0)
    _, context = cuda.cuDevicePrimaryCtxRetain(0)
    cuda.cuCtxSetCurrent(context)
    pattern = random.Random(7).randbytes(CHUNK)
    at, size = 0, 0
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "fill":
            size = int(rest[0])
            error, address = cuda.cuMemAlloc(size)
            at = int(address) if not int(error) else 0
            for offset in range(0, size if at else 0, CHUNK):
                cuda.cuMemcpyHtoD(at + offset, pattern, min(CHUNK, size - offset))
            answer = {"result": error.name}
        elif word == "check":
            found = bytearray(CHUNK)
            same = True
            for offset in range(0, size, CHUNK):
                length = min(CHUNK, size - offset)
                same = not int(cuda.cuMemcpyDtoH(found, at + offset, length)[0]) and found[:length] == pattern[:length] and same
            answer = {"same": same}
        else:
            answer = {"free": int(cuda.cuMemGetInfo()[1])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
