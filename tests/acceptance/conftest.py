"""Systems for the acceptance tests; see acceptance_stack.py."""

import shutil
from collections.abc import Iterator

import pytest
from acceptance_stack import Stack, new_home


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
