"""What the launcher sees of a slice in the runtime directory, in regions that are real."""

import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from mica.cli._errors import CliError
from mica.cli.launch.asking import of_record
from mica.cli.launch.attach import read_attach
from mica.cli.launch.deciding import Seen
from mica.cli.launch.sighting import RuntimeSight, usage_owner
from mica.events import Control, Mode, Phase, Placement, RequestSlice, SliceRecord, Vendor
from mica.region import Limits, QuotaRegion, RuntimeDir, SliceState, create_usage

LIMITS = Limits(slice_id="s1", generation=1, vram_limit_bytes=1 << 30, share_ppm=1000, ceiling_ppm=1000, burst_ns=1)


class Node:
    """A runtime directory with one slice, as an enforcer leaves it."""

    def __init__(self, root: Path) -> None:
        self.runtime = RuntimeDir(root)
        self.describe("GPU-1")
        self.put("GPU-1", LIMITS)

    def describe(self, *devices: str) -> None:
        """Write ``attach.json`` anew, as the enforcer does."""
        self.runtime.ensure_slice("s1")
        mounts = [{"source": str(self.runtime.quota_path(device)), "target": "", "read_only": True} for device in devices]
        document = {"id": "s1", "node": "n1", "mode": "fcsp", "devices": devices, "env": {}, "mounts": mounts}
        fresh = self.runtime.slice_dir("s1") / "attach.json.new"
        fresh.write_text(json.dumps(document))
        fresh.rename(self.runtime.attach_path("s1"))

    def put(self, device_id: str, limits: Limits) -> None:
        """Put a record in force."""
        self.runtime.ensure_device(device_id)
        with QuotaRegion.create(self.runtime.quota_path(device_id), device_id) as region:
            region.write(0, limits)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_live_slice_is_open_at_its_place(node: Node, tmp_path: Path) -> None:
    """The place is named by mode and devices; the node by its name."""
    sight = RuntimeSight(tmp_path, "s1")
    assert (sight.look().seen, sight.look().place, sight.node()) == (Seen.OPEN, "fcsp GPU-1", "n1")


@pytest.mark.parametrize(
    ("state", "control", "seen"),
    [
        (SliceState.LIVE, Control.RUN, Seen.OPEN),
        (SliceState.LIVE, Control.THROTTLE, Seen.OPEN),
        (SliceState.LIVE, Control.PAUSE, Seen.OPEN),
        (SliceState.LIVE, Control.DRAIN, Seen.SHUT),
        (SliceState.LIVE, Control.KILL, Seen.SHUT),
        (SliceState.DRAINING, Control.RUN, Seen.LEAVING),
    ],
)
def test_the_record_says_who_gets_in(node: Node, tmp_path: Path, state: SliceState, control: Control, seen: Seen) -> None:
    """As for the shim: what drains is left, what only takes nobody in is waited for."""
    node.put("GPU-1", replace(LIMITS, state=state, control=control))
    assert RuntimeSight(tmp_path, "s1").look().seen is seen


def test_a_move_shows_as_another_place(node: Node, tmp_path: Path) -> None:
    """The old record drains and ``attach.json`` names the new device: in any order, the old place is gone."""
    sight = RuntimeSight(tmp_path, "s1")
    sight.look()
    node.put("GPU-1", replace(LIMITS, state=SliceState.DRAINING))
    assert sight.look().seen is Seen.LEAVING
    node.put("GPU-2", LIMITS)
    node.describe("GPU-2")
    assert (sight.look().seen, sight.look().place) == (Seen.OPEN, "fcsp GPU-2")


def test_what_changes_at_the_same_place_is_no_move(node: Node, tmp_path: Path) -> None:
    """A resize writes the file anew."""
    sight = RuntimeSight(tmp_path, "s1")
    before = sight.look()
    node.describe("GPU-1")
    node.put("GPU-1", replace(LIMITS, generation=2, vram_limit_bytes=2 << 30))
    assert sight.look() == before


def test_a_gang_is_open_only_where_all_of_it_is(node: Node, tmp_path: Path) -> None:
    """One device that it leaves is enough."""
    node.describe("GPU-1", "GPU-2")
    node.put("GPU-2", replace(LIMITS, state=SliceState.DRAINING))
    assert RuntimeSight(tmp_path, "s1").look().seen is Seen.LEAVING


def test_a_record_that_is_gone_is_left(node: Node, tmp_path: Path) -> None:
    """The enforcer frees it before it removes the slice's directory."""
    with QuotaRegion.create(node.runtime.quota_path("GPU-1"), "GPU-1") as region:
        region.clear(0)
    assert RuntimeSight(tmp_path, "s1").look().seen is Seen.LEAVING


def test_without_a_directory_the_slice_is_absent(node: Node, tmp_path: Path) -> None:
    """Whether it was ever here or not."""
    sight = RuntimeSight(tmp_path, "s1")
    sight.look()
    node.runtime.attach_path("s1").unlink()
    assert (sight.look().seen, sight.node()) == (Seen.ABSENT, "n1")
    assert RuntimeSight(tmp_path, "s2").look().seen is Seen.ABSENT


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_what_can_not_be_read_stops_nothing_and_starts_nothing(node: Node, tmp_path: Path, content: str) -> None:
    """A file in the making, or a region of another boot."""
    node.runtime.attach_path("s1").write_text(content)
    assert RuntimeSight(tmp_path, "s1").look().seen is Seen.SHUT
    node.describe("GPU-1")
    node.runtime.quota_path("GPU-1").write_bytes(b"no region")
    assert RuntimeSight(tmp_path, "s1").look().seen is Seen.SHUT


def test_the_owner_of_the_usage_region_is_who_gets_in(node: Node, tmp_path: Path) -> None:
    """In hardware mode there is no region, and nobody in particular."""
    create_usage(str(node.runtime.usage_path("s1", "GPU-1")), "GPU-1", "s1", os.getuid())
    attach = read_attach(tmp_path, "s1")
    assert usage_owner(tmp_path, attach) == os.getuid()
    assert usage_owner(tmp_path, replace(attach, mode="hardware")) is None
    node.runtime.usage_path("s1", "GPU-1").unlink()
    with pytest.raises(CliError, match="its usage region"):
        usage_owner(tmp_path, attach)


def record(phase: Phase, *nodes: str, message: str = "") -> SliceRecord:
    """The slice's record, placed on these nodes."""
    placements = tuple(
        Placement(
            node=node, device_id="GPU-1", model="L4", vendor=Vendor.NVIDIA, mode=Mode.FCSP, vram_bytes=1 << 30, share_ppm=1000
        )
        for node in nodes
    )  # fmt: skip
    return SliceRecord(
        id="s1",
        request=RequestSlice(tenant="t", vram_bytes=1 << 30),
        phase=phase,
        generation=1,
        sequence=1,
        request_sequence=1,
        placements=placements,
        message=message,
    )


@pytest.mark.parametrize(
    ("found", "seen", "why"),
    [
        (None, Seen.GONE, "there is no such slice"),
        (record(Phase.QUEUED), Seen.SHUT, "it is queued"),
        (record(Phase.PLACED, "n1"), Seen.SHUT, "it is placed"),
        (record(Phase.PLACED, "n2"), Seen.GONE, "it is on node n2 now, not on n1"),
        (record(Phase.RELEASING, "n1"), Seen.SHUT, "it is releasing"),
        (record(Phase.RELEASED), Seen.GONE, "it is released"),
        (record(Phase.EVICTED, message="preempted for chat"), Seen.GONE, "it is evicted: preempted for chat"),
        (record(Phase.LOST), Seen.GONE, "it is lost"),
    ],
)
def test_the_record_tells_whether_waiting_helps(found: SliceRecord | None, seen: Seen, why: str) -> None:
    """What may come back is waited for; what won't is told."""
    sight = of_record(found, "n1")
    assert (sight.seen, sight.why) == (seen, why)
