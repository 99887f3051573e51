"""Fixtures of the OpenCL layer's tests."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from opencl_node import OpenClNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OpenClNode]:
    """A node of its own for each test; every program that it started is gone afterwards."""
    with ExitStack() as stack:
        made = OpenClNode(tmp_path, stack)
        yield made
        for program in made.programs:
            program.process.kill()
            program.process.communicate()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds; fail after 20 s."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline, "it did not come true in 20 s"
            time.sleep(0.005)

    return wait
