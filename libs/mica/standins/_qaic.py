"""Qualcomm's devices of a simulated node as its tools number them, derived devices included.

Invariant: as in the runtime, native devices are numbered from 0 by PCI address and derived ones from 100 by the names of
their device nodes, anew in every process: a derived device's QID is not its own, its device node is.
"""

from typing import Any, Final

from mica.standins._engine import Engine

FIRST_DERIVED: Final = 100
DERIVED_NODES: Final = 64
NODES_PER_DEVICE: Final = 16
"""Derived devices' nodes are numbered from 64 on, 16 for each native device."""


class QaicDevice:
    """A native device, or a derived one (``partition``) of it."""

    def __init__(self, native: dict[str, Any], number: int, partition: dict[str, Any] | None = None) -> None:
        self.native = native
        self.partition = partition
        if partition is not None:
            number = DERIVED_NODES + NODES_PER_DEVICE * number + partition["id"] - 1
        self.node = f"/dev/accel/accel{number}"
        self.qid = number

    @property
    def uuids(self) -> set[str]:
        """What the engine calls it."""
        return {self.native["uuid"]} if self.partition is None else {each["uuid"] for each in self.partition["compute"]}


def qaic_devices(engine: Engine) -> tuple[list[QaicDevice], dict[str, Any]]:
    """All of them, by QID, and the books that say so."""
    books = engine.books()
    natives = sorted((each for each in books["devices"] if each["vendor"] == "qualcomm"), key=lambda each: str(each["pci"]))
    found = [QaicDevice(native, number) for number, native in enumerate(natives)]
    derived = [
        QaicDevice(native, number, each)
        for number, native in enumerate(natives)
        for each in native["instances"]
        if each["compute"]
    ]
    derived.sort(key=lambda each: each.node)
    for number, each in enumerate(derived):
        each.qid = FIRST_DERIVED + number
    return found + derived, books
