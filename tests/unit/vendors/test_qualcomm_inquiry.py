"""Asking qaic-util: once for all, and never twice in vain for a device that hangs."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mica.vendors import VendorError
from mica.vendors._tools import ToolSilentError, run_tool
from mica.vendors.qualcomm import _inquiry
from mica.vendors.qualcomm._inquiry import Inquiry

FRESH_S = 1.0


class FakeTool:
    """qaic-util on a node with the devices ``qids``, of which those in ``hanging`` never answer."""

    def __init__(self, qids: Sequence[int]) -> None:
        self.qids = list(qids)
        self.hanging: set[int] = set()
        self.runs: list[list[int]] = []
        self.now_s = 0.0

    def run(self, command: Sequence[str | Path], timeout_s: float) -> str:
        asked = [int(word) for word in map(str, command[2:]) if word != "-d"]
        self.runs.append(asked)
        if any(qid not in self.qids for qid in asked):
            raise VendorError("Device invalid")
        if self.hanging & set(asked or self.qids):
            raise ToolSilentError(f"no answer within {timeout_s:g} s")
        return "".join(f"QID {qid}\n\tStatus:Ready\n" for qid in asked or self.qids)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> FakeTool:
    """A node with three devices and a derived one."""
    fake = FakeTool([0, 1, 2, 100])
    monkeypatch.setattr(_inquiry, "run_tool", fake.run)
    return fake


def inquiry(tool: FakeTool) -> Inquiry:
    """Asks the fake tool by the fake's clock."""
    return Inquiry(Path("qaic-util"), 5.0, FRESH_S, lambda: tool.now_s)


def test_one_run_serves_all_who_ask_soon(tool: FakeTool) -> None:
    """A second run takes that the answer has become old, or that a fresh one is asked for."""
    asker = inquiry(tool)
    assert [asker.all().qids for _ in range(3)] == [(0, 1, 2, 100)] * 3
    assert tool.runs == [[]]
    tool.now_s = FRESH_S
    asker.all()
    asker.all(fresh=True)
    assert tool.runs == [[]] * 3


def test_a_device_that_hangs_keeps_the_others_listed(tool: FakeTool) -> None:
    """Then each is asked by itself; who asks for that one device is told that it does not answer."""
    asker = inquiry(tool)
    tool.hanging = {1}
    found = asker.all()
    assert (found.qids, sorted(found.fields), found.silent) == ((0, 1, 2, 100), [0, 2, 100], frozenset({1}))
    with pytest.raises(VendorError, match="no answer within 5 s"):
        asker.one(1)


def test_a_device_that_hangs_is_not_waited_for_again(tool: FakeTool) -> None:
    """Until it answers who asks for it alone; from there on one run serves all again."""
    asker = inquiry(tool)
    tool.hanging = {1}
    asker.all()
    tool.runs.clear()
    assert asker.all(fresh=True).qids == (0, 1, 2, 100)
    assert tool.runs == [[101], [0, 2, 100]]
    tool.qids.append(101)
    assert asker.all(fresh=True).qids == (0, 1, 2, 100, 101)
    tool.qids.remove(100)
    assert asker.all(fresh=True).qids == (0, 1, 2, 101)
    tool.hanging = set()
    assert asker.one(1) == {"Status": "Ready"}
    tool.runs.clear()
    assert asker.all().silent == frozenset()
    assert tool.runs == [[]]


def test_an_answer_without_any_device_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown format is an error that shows how it begins; no text at all means no devices."""
    monkeypatch.setattr(_inquiry, "run_tool", lambda command, timeout_s: "+-----+\n| ... |")
    with pytest.raises(VendorError, match=r"no QID in its answer, which begins with '\+-----\+'"):
        Inquiry(Path("qaic-util"), 5.0, FRESH_S).all()
    monkeypatch.setattr(_inquiry, "run_tool", lambda command, timeout_s: "\n")
    assert Inquiry(Path("qaic-util"), 5.0, FRESH_S).all().qids == ()


def test_a_tool_that_never_ends_is_ended(tmp_path: Path) -> None:
    """After the time it is given, whatever it would have taken."""
    tool = tmp_path / "qaic-util"
    tool.write_text("#!/bin/sh\nexec sleep 600\n")
    tool.chmod(0o755)
    with pytest.raises(ToolSilentError, match=r"qaic-util -q: no answer within 0\.05 s"):
        run_tool([tool, "-q"], 0.05)
