"""``mica explain`` on a bus in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mica.bus import MemoryBus
from mica.cli.__main__ import main
from mica.cli._errors import CliError
from mica.cli.commands import explain
from mica.events import (
    Alternative,
    Decision,
    Device,
    Inventory,
    Mode,
    Phase,
    Placement,
    RequestSlice,
    SlicePlaced,
    SliceRecord,
    SliceRejected,
    Vendor,
)

GIB = 1 << 30
HERE = Placement(node="n1", device_id="a", model="L4", vendor=Vendor.NVIDIA, mode=Mode.FCSP, vram_bytes=GIB, share_ppm=1)
DECISION = Decision(
    summary="fcsp on L4 of node n1: …; 1 GiB granted",
    terms={"left": 1.5},
    rejected=(Alternative(node="n1", device_id="b", mode=Mode.FCSP, reason="fits less tightly", terms={"left": 1.9}),),
)
Mica = Callable[..., str]


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> MemoryBus:
    """A bus with a node, a slice that was placed, and a request that was refused before it had a record."""
    bus = MemoryBus()

    @asynccontextmanager
    async def connected(server: str | None) -> AsyncIterator[MemoryBus]:
        yield bus

    monkeypatch.setattr(explain, "connected", connected)
    asyncio.run(_fill(bus))
    return bus


async def _fill(bus: MemoryBus) -> None:
    devices = tuple(
        Device(id=id_, index=index, vendor=Vendor.NVIDIA, model=model, vram_bytes=24 * GIB)
        for index, (id_, model) in enumerate({"a": "L4", "b": "L40S"}.items())
    )
    await bus.state.put("inventory.n1", Inventory(node="n1", pool="default", boot_id="b1", devices=devices))
    request = RequestSlice(tenant="alice", id="chat", vram_bytes=GIB)
    record = SliceRecord(
        id="chat", request=request, phase=Phase.PLACED, generation=1, sequence=1, request_sequence=1, placements=(HERE,),
        decision=DECISION, updated_at=1,
    )  # fmt: skip
    await bus.state.put("slice.chat", record)
    await bus.publish(SlicePlaced(at=1, id="chat", generation=1, placements=(HERE,), decision=DECISION))
    await bus.publish(SliceRejected(at=1, id="seq-9", tenant="bob", field="tier", given="gold", allowed="spot", message="no"))


@pytest.fixture
def mica(bus: MemoryBus, capsys: pytest.CaptureFixture[str]) -> Mica:
    """Run ``mica explain``; what it prints, or its one line on stderr where it is to fail."""

    def run(*arguments: str, status: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["explain", *arguments])
        out, err = capsys.readouterr()
        assert ended.value.code == status, err
        assert err.count("\n") == (1 if status else 0)
        return err if status else out

    return run


def test_a_slice_is_explained_from_its_record(mica: Mica) -> None:
    """Where, why, and the devices that were not taken by their models, with their terms."""
    said = mica("chat")
    assert said.startswith("slice chat of tenant alice is placed\n")
    assert "where      n1/a (L4): fcsp, 1GiB" in said
    assert "n1/b L40S  fcsp  1.9   fits less tightly" in said


def test_programs_get_the_record_and_what_happened(mica: Mica) -> None:
    """The decision whole, the state, the models, and the facts in short."""
    answer = json.loads(mica("chat", "--json"))
    assert answer["decision"]["rejected"][0]["terms"] == {"left": 1.9}
    assert (answer["state"], answer["models"]) == ("placed", {"a": "L4", "b": "L40S"})
    assert answer["happened"] == [{"event": "slice.placed", "at": 1, "generation": 1}]


def test_a_request_that_never_had_a_record_is_explained_from_its_answer(mica: Mica) -> None:
    """For people and for programs."""
    assert "because    tier: got gold, allowed: spot" in mica("seq-9")
    assert json.loads(mica("seq-9", "--json"))["field"] == "tier"


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (("ghost",), 1, "ghost: no slice or request of that id is known; `mica ls --all` lists them"),
        (("a b",), 1, "got 'a b', allowed: the ID of a slice or of a request"),
        (("chat", "--vram", "1G"), 2, "got 'chat' and --vram; allowed: an ID or a REQUEST alone, or options"),
        (('{"tenant": "a"}', "--slo", "p99_ms=1"), 2, "and --slo; allowed: an ID or a REQUEST alone"),
        (("{oops",), 1, "request: "),
    ],
)
def test_what_can_not_be_explained_is_one_clear_line(mica: Mica, arguments: tuple[str, ...], status: int, line: str) -> None:
    """An unknown id, no id, an id or a request with options, and JSON that is none."""
    assert line in mica(*arguments, status=status)


def test_a_dry_run_is_asked_for_in_json_or_by_options(mica: Mica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are the same request."""
    asked: list[Any] = []

    async def remember(wanted: RequestSlice, server: str | None) -> None:
        asked.append(wanted)
        raise CliError("asked")

    monkeypatch.setattr(explain, "_explain", remember)
    mica(' {"tenant": "a", "vram_bytes": 1073741824}', status=1)
    mica("--tenant", "a", "--vram", "1GiB", status=1)
    assert asked == [RequestSlice(tenant="a", vram_bytes=GIB)] * 2
