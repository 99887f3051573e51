"""Leaves aiohttp, a third of a process's start, until it is used: nats imports it, but only for web sockets.

Invariant: nats finds all of aiohttp as soon as it asks for any of it, and so does everybody else.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

HEAVY: Final = ("aiohttp", "multidict")
USER: Final = "nats.aio.transport"


class Later(ModuleType):
    """Stands for a module that is imported when something in it is asked for."""

    def __getattr__(self, name: str) -> Any:
        """What the module itself has."""
        return getattr(import_module(self.__name__), name)


def import_nats() -> None:
    """Import nats as where there is no aiohttp, and give it what stands for that afterwards.

    Nothing is put off where aiohttp is loaded already, or is not installed.
    """
    if HEAVY[0] in sys.modules or USER in sys.modules or find_spec(HEAVY[0]) is None:
        return
    sys.modules[HEAVY[0]] = None  # type: ignore[assignment]  # the import system's word for "not to be found"
    try:
        transport = import_module(USER)
    finally:
        del sys.modules[HEAVY[0]]
    for name in HEAVY:
        setattr(transport, name, Later(name))


import_nats()
