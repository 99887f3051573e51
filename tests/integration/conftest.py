"""What the tests of the shim and of the layer share."""

import time
from collections.abc import Callable
from typing import Final

import pytest

LIMIT_S: Final = 60.0
"""For machines that are busy with other tests."""


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds; fail after ``LIMIT_S``."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not holds():
            assert time.monotonic() < deadline, f"it did not come true in {LIMIT_S:g} s"
            time.sleep(0.005)

    return wait
