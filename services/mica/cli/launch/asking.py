"""Why a slice is not on this node: the one question that the runtime directory can't answer, put to the bus.

Invariant: it is asked only while the slice is not here, and no answer is no reason to stop.
"""

import asyncio
from typing import Final

from mica.cli._session import connected
from mica.cli.launch.deciding import Seen, Sight
from mica.events import TERMINAL_PHASES, Phase, SliceRecord

ANSWER_S: Final = 1.5


def ask_bus(server: str | None, slice_id: str, node: str) -> Sight:
    """What the slice's record says; ``absent`` where nobody answers. ``node``: this one's name, empty where it is not known."""
    from mica.bus import BusError
    from mica.events import EventError

    try:
        return of_record(asyncio.run(_record(server, slice_id)), node)
    except (BusError, EventError, TimeoutError, OSError) as error:
        return Sight(Seen.ABSENT, why=f"nobody says why ({str(error) or 'no answer from the bus'})")


async def _record(server: str | None, slice_id: str) -> SliceRecord | None:
    async with asyncio.timeout(ANSWER_S), connected(server) as bus:
        entry = await bus.state.get(f"slice.{slice_id}", SliceRecord)
        return entry.value if entry is not None else None


def of_record(record: SliceRecord | None, node: str) -> Sight:
    """What follows from the record for who waits on ``node``."""
    if record is None:
        return Sight(Seen.GONE, why="there is no such slice")
    if record.phase in TERMINAL_PHASES:
        reason = f": {record.message}" if record.message else ""
        return Sight(Seen.GONE, why=f"it is {record.phase}{reason}")
    nodes = sorted({placement.node for placement in record.placements})
    if record.phase is Phase.PLACED and node and node not in nodes:
        return Sight(Seen.GONE, why=f"it is on node {', '.join(nodes)} now, not on {node}")
    return Sight(Seen.SHUT, why=f"it is {record.phase}")
