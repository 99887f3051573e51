"""A program for a simulated node: surveys it after each of the faults it is told of, and prints what became of its first device.

A survey ends when nothing but the device that hangs is left to wait for, so that nothing here depends on time.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Set as AbstractSet
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec

from mica.bus import ManualClock, MemoryBus
from mica.discovery.handlers import Registrar
from mica.discovery.inventory import Identity
from mica.discovery.probe import Probe
from mica.events import Inventory
from mica.hardware import BooksReader
from mica.observability import PassingTracer
from mica.vendors._watchdog import Answer, Name, Watchdog

HANGING = {("nvidia", "device", "0"), ("nvidia", "links", "")}


def main() -> None:
    """Run the faults named on the command line: ``hang``, ``back`` or words of the control language, each a survey."""
    asyncio.run(_run(sys.argv[1:]))


async def _run(steps: list[str]) -> None:
    books = BooksReader(Path(os.environ["MICA_SIM_DIR"]))
    hanging = False

    def wait(answers: "SimpleQueue[Answer]", awaited: AbstractSet[Name], left_s: float) -> Answer | None:
        del left_s
        return None if hanging and awaited <= HANGING else answers.get()

    bus, probe = MemoryBus(), Probe(watchdog=Watchdog(wait=wait))
    registrar = Registrar(bus, Identity(node="n1", pool="p", boot_id="b"), ManualClock(), PassingTracer())
    rows: list[Any] = []
    for step in steps:
        if step == "back":
            hanging = False
            for thread in threading.enumerate():
                if thread.name.startswith("nvidia-"):
                    thread.join()
        elif step:
            hanging = " hang_ms " in step and not step.endswith(" 0")
            books.control(step)
        told = len(bus.published("node.health.n1"))
        await registrar.on_survey(await asyncio.to_thread(probe.read))
        entry = await bus.state.get("inventory.n1", Inventory)
        assert entry is not None
        rows.append(
            {"devices": entry.value.devices, "events": bus.published("node.health.n1")[told:], "warnings": entry.value.warnings}
        )
        if hanging:
            books.control("set 0 hang_ms 0")
    sys.stdout.buffer.write(msgspec.json.encode(rows))


main()
