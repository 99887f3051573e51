"""A simulated node of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sim_node import Client, Node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node with an L4, an H100 in MIG mode and a P40."""
    made = Node(tmp_path / "sim")
    yield made
    made.close()


@pytest.fixture
def client(node: Node) -> Client:
    """A client with a context on the L4."""
    made = node.client(CUDA_VISIBLE_DEVICES="0")
    made("start()")
    return made
