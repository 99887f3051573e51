"""A house for the planner."""

from collections.abc import AsyncIterator

import pytest
from planner_house import House, mixed


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """One mixed node and one planner."""
    house = House()
    await house.add_node(mixed())
    await house.start_planner()
    yield house
    await house.stop_planners()
