"""Systems for the acceptance tests; see acceptance_stack.py."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance_stack import Stack, new_home
from second_node import NODE, SecondNode


@pytest.fixture
def house() -> Iterator[Stack]:
    """Directories for a system that the test starts itself."""
    home = new_home()
    stack = Stack(home)
    try:
        yield stack
    finally:
        stack.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def stack(house: Stack) -> Stack:
    """A running system for one test."""
    house.start()
    return house


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[Stack]:
    """A running system for tests that leave it as they found it."""
    home = new_home()
    stack = Stack(home)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def two(house: Stack, tmp_path: Path) -> Iterator[SecondNode]:
    """``mica up`` on one node, and a second node that its planner knows."""
    first = tmp_path / "one.toml"
    first.write_text(NODE.format(name="one"))
    house.start("--port", "0", "--node", str(first))
    node = SecondNode(house, house.home)
    try:
        yield node
    finally:
        node.close()
