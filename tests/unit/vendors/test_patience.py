"""A call that hangs is waited for once, then refused, and made again when it has come back; others go on."""

import threading

import pytest

from mica.vendors import Patience, VendorError


def test_what_hangs_is_waited_for_once_and_hinders_nobody() -> None:
    """The first caller is told that there was no answer, the next ones that there still is none."""
    patience, gate = Patience(0.01), threading.Event()
    with pytest.raises(VendorError, match=r"device 0: no answer within 0.01 s"):
        patience.call("device 0", gate.wait)
    with pytest.raises(VendorError, match="device 0: still no answer to an earlier call"):
        patience.call("device 0", gate.wait)
    assert Patience(60).call("device 1", lambda: 7) == 7
    gate.set()
    while True:
        try:
            assert patience.call("device 0", lambda: "back") == "back"
        except VendorError:
            continue
        break


def test_what_the_call_raises_is_the_callers() -> None:
    """Whatever it is."""
    with pytest.raises(ZeroDivisionError):
        Patience(60).call("x", lambda: 1 // 0)
