"""One blocking call after the other, each with its own deadline. Invariant: what hangs is waited for once, then refused.

For who asks libraries in turn; who asks many at once has ``Watchdog``.
"""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from mica.vendors._port import VendorError
from mica.vendors._watchdog import Watchdog

T = TypeVar("T")
PATIENCE_S: Final = 2.0


class Patience:
    """Waits for calls that may hang, from any thread."""

    def __init__(self, within_s: float = PATIENCE_S, watchdog: Watchdog | None = None) -> None:
        self._within_s = within_s
        self._watchdog = watchdog or Watchdog()
        self._busy = threading.Lock()

    def call(self, what: str, call: Callable[[], T]) -> T:
        """What the call returns. ``what`` names it in errors, and tells it from others.

        Raises:
            VendorError: what the call raised, or it did not come back in time, now or when it was last made.
        """
        with self._busy:
            self._watchdog.begin(self._within_s)
            if not self._watchdog.ask((what,), call):
                raise VendorError(f"{what}: still no answer to an earlier call")
            while (answer := self._watchdog.next()) is not None:
                if answer.name == (what,):
                    if answer.error is not None:
                        raise answer.error
                    value: T = answer.value
                    return value
        raise VendorError(f"{what}: no answer within {self._within_s:g} s")
