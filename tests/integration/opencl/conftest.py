"""Fixtures of the OpenCL layer's tests."""

from collections.abc import Iterator
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
