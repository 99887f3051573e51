"""The clients in the slices: ordinary programs, started by ``mica run``. Invariant: none of them knows of mica."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from mica.cli._errors import CliError
from mica.cli.demo._stack import Stack
from mica.cli.up._supervisor import stop

ANSWER_S: Final = 60.0


class CudaClient:
    """examples/cuda_client.py, spoken to over its own stdin and stdout."""

    def __init__(self, slice_id: str, process: asyncio.subprocess.Process, first_look: dict[str, Any]) -> None:
        self.slice_id = slice_id
        self.first_look = first_look
        self._process = process

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.returncode is None

    async def ask(self, *words: object) -> dict[str, Any]:
        """One command, one answer.

        Raises:
            CliError: it did not answer.
        """
        assert self._process.stdin is not None
        self._process.stdin.write((" ".join(str(word) for word in words) + "\n").encode())
        await self._process.stdin.drain()
        return await _answer(self._process, self.slice_id)


@asynccontextmanager
async def cuda_client(stack: Stack, examples: Path, slice_id: str) -> AsyncIterator[CudaClient]:
    """The client, running inside the slice until the block is left."""
    process = await asyncio.create_subprocess_exec(
        *_run(slice_id), sys.executable, str(examples / "cuda_client.py"), stdin=PIPE, stdout=PIPE, env=stack.environment
    )
    try:
        yield CudaClient(slice_id, process, await _answer(process, slice_id))
    finally:
        await stop(process)


async def nvml_client(stack: Stack, examples: Path, slice_id: str) -> dict[str, Any]:
    """What examples/nvml_client.py prints inside the slice."""
    process = await asyncio.create_subprocess_exec(
        *_run(slice_id), sys.executable, str(examples / "nvml_client.py"), stdout=PIPE, env=stack.environment
    )
    try:
        return await _answer(process, slice_id)
    finally:
        await stop(process)


async def opencl_client(stack: Stack, examples: Path, slice_id: str, work: str, seconds: float) -> dict[str, Any]:
    """What examples/opencl_client.py prints inside the slice, when it has worked for so long."""
    process = await asyncio.create_subprocess_exec(
        *_run(slice_id),
        sys.executable,
        str(examples / "opencl_client.py"),
        work,
        str(seconds),
        stdout=PIPE,
        env=stack.environment,
    )
    try:
        return await _answer(process, slice_id)
    finally:
        await stop(process)


def _run(slice_id: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "mica.cli", "run", slice_id, "--")


async def _answer(process: asyncio.subprocess.Process, slice_id: str) -> dict[str, Any]:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(ANSWER_S):
            line = await process.stdout.readline()
    except TimeoutError:
        raise CliError(f"demo: the client in slice {slice_id} did not answer in {ANSWER_S:g} s") from None
    if not line:
        raise CliError(f"demo: the client in slice {slice_id} ended (status {await process.wait()})")
    answer: dict[str, Any] = json.loads(line)
    return answer
