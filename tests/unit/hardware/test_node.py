"""Node files and the descriptions made of them."""

import re
from pathlib import Path

import pytest

from mica.hardware import Catalogue, NodeFile, NodeFileError, demo_node_path, device_uuid, node_desc, write_node_desc

SMALL = b"name = 'n'\ndevice = [{ model = 'L4' }]\n"


def test_the_demo_node_has_one_device_for_each_mode() -> None:
    """An H100 in MIG mode, an L4, and a P40 below compute capability 7.0."""
    devices = NodeFile.load(demo_node_path()).devices()
    assert [(each.model.key, each.mig) for each in devices] == [("H100-SXM-80GB", True), ("L4", False), ("P40", False)]
    assert (devices[2].model.capability or (9, 9)) < (7, 0)


def test_count_repeats_a_device() -> None:
    """Eight devices of one entry are numbered in order, each with a UUID of its own."""
    text = node_desc(NodeFile.parse(b"name = 'n'\ndevice = [{ model = 'H200', count = 8 }]\n"))
    uuids = re.findall(r"^uuid (.*)$", text, re.MULTILINE)
    assert uuids == [device_uuid("n", index) for index in range(8)]
    assert len(set(uuids)) == 8


def test_uuids_depend_on_node_and_index_alone() -> None:
    """The same node gives the same UUIDs every time; another node, others; all have the vendor's form."""
    assert device_uuid("a", 0) == device_uuid("a", 0)
    assert len({device_uuid(node, index) for node in ("a", "b") for index in range(3)}) == 6
    assert re.fullmatch(r"GPU-[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", device_uuid("a", 0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"name = 'n'\ndevice = [{ model = 'X' }]", r"node file: unknown model 'X'; allowed: .*L4"),
        (b"name = 'n'\ndevice = [{ model = 'L4', mig = true }]", r"'L4' has no MIG; allowed with mig = true: H100-SXM-80GB"),
        (b"name = 'n'\ndevice = []", r"length >= 1.*\$.device"),
        (b"name = 'n'\ndevice = [{ model = 'L4', count = 0 }]", r"int` >= 1.*count"),
        (b"name = 'n'\ndevice = [{ model = 'L4', count = 9 }, { model = 'T4', count = 9 }]", "18 devices; at most 16 allowed"),
        (b"name = 'a b'\ndevice = [{ model = 'L4' }]", r"\$.name"),
        (b"name = 'n'\ndevice = [{ model = 'L4' }]\ncolour = 1", "unknown field `colour`"),
        (b"name = 'n'\ndevice = [{ model = 'L4' }]\n[costs]\nblock_ns = -1", r">= 0.*block_ns"),
        (b"name = 'n'\ndevice = [{ model = 'L4' }]\n[[costs.kernel]]\nname = 'a b'\nblock_ns = 1", r"\$.costs.kernel"),
        (b"]", "node file"),
    ],
)
def test_bad_node_files_are_refused_with_the_field(text: bytes, message: str) -> None:
    """One error that says what was given and what is allowed."""
    with pytest.raises(NodeFileError, match=message):
        NodeFile.parse(text)


def test_a_missing_node_file_is_named(tmp_path: Path) -> None:
    """The error has the path."""
    with pytest.raises(NodeFileError, match=r"absent\.toml: No such file"):
        NodeFile.load(tmp_path / "absent.toml")


def test_a_description_is_written_whole(tmp_path: Path) -> None:
    """No draft is left, also when it replaces an older one; beside it is what the node has of its own."""
    node = NodeFile.parse(SMALL)
    write_node_desc(node, tmp_path / "sim")
    path = write_node_desc(node, tmp_path / "sim")
    assert path.read_text() == node_desc(node)
    assert {entry.name for entry in (tmp_path / "sim").iterdir()} == {"node.desc", "host.json"}
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_description_carries_costs_and_profiles() -> None:
    """Costs, kernel rules and every MIG profile of a device stand in it."""
    costs = b"[costs]\nblock_ns = 7\n[[costs.kernel]]\nname = 'k*'\nblock_ns = 9\n"
    node = NodeFile.parse(SMALL.replace(b"'L4'", b"'A30', mig = true") + costs)
    lines = node_desc(node).splitlines()
    assert "block_ns 7" in lines
    assert "kernel k* 9" in lines
    assert "mig_at_start 1" in lines
    profiles = [line for line in lines if line.startswith("profile ")]
    assert profiles == [f"profile {profile.name}" for profile in Catalogue.load().model("A30").profiles]
