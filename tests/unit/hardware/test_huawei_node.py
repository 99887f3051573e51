"""The ready-made Ascend server."""

from importlib.resources import files
from pathlib import Path

from mica.events import LinkKind, Vendor
from mica.hardware import NodeFile, device_uuid

ATLAS = Path(str(files("mica.hardware").joinpath("nodes/atlas-910b-8.toml")))


def test_an_atlas_800t_a2() -> None:
    """Eight 910B3 in one group, four beside either processor, and a link of its own between every two."""
    node = NodeFile.load(ATLAS)
    devices = node.devices()
    assert [(each.model.key, each.group) for each in devices] == [("910B3", "server")] * 8
    assert [each.numa for each in devices] == [0, 0, 0, 0, 1, 1, 1, 1]
    links = node.links()
    assert {(each.a, each.b) for each in links} == {(a, b) for b in range(8) for a in range(b)}
    assert {(each.kind, each.lanes, each.bytes_per_s) for each in links} == {(LinkKind.HCCS, 1, 28_000_000_000)}


def test_an_ascend_chips_id_is_that_of_a_die() -> None:
    """Five words in hexadecimal, another for every chip."""
    ids = {device_uuid("n", index, Vendor.HUAWEI) for index in range(8)}
    assert len(ids) == 8
    for each in ids:
        words = each.split("-")
        assert [len(word) for word in words] == [8] * 5
        assert all(int(word, 16) >= 0 for word in words)
