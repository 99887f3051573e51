"""Fixtures of the shim's tests."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from shim_node import Node

from mica.native import LIB_DIR


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node of its own for each test; every program that it started is gone afterwards."""
    if not (LIB_DIR / "shim" / "libcuda.so.1").is_file() or not (LIB_DIR / "sim" / "libcuda.so.1").is_file():
        pytest.fail("the native libraries are not built; run `make native`")
    with ExitStack() as stack:
        made = Node(tmp_path, stack)
        yield made
        for tenant in made.tenants:
            tenant.process.kill()
            tenant.process.communicate()
