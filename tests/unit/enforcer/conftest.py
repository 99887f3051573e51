"""A node with two devices and nothing on it."""

from collections.abc import AsyncIterator

import pytest
from enforcer_house import House


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """A node with one device and nothing on it."""
    house = House()
    await house.inventory("GPU-0", "GPU-1")
    yield house
    if house.enforcer is not None:
        house.enforcer.close()
