"""Links and neighbours through NVML, on nodes that are shipped."""

from importlib.resources import files

import pytest
from sim_node import Client, ClientError, Node

SETUP = """
pynvml.nvmlInit()
gpus = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
index = {pynvml.nvmlDeviceGetPciInfo(g).busId: i for i, g in enumerate(gpus)}

def remotes(gpu):
    up = [l for l in range(18) if pynvml.nvmlDeviceGetNvLinkState(gpu, l)]
    kinds = [pynvml.nvmlDeviceGetNvLinkRemoteDeviceType(gpu, l) for l in up]
    return list(zip(kinds, [pynvml.nvmlDeviceGetNvLinkRemotePciInfo(gpu, l).busId for l in up]))

def near(gpu, level):
    return [pynvml.nvmlDeviceGetIndex(d) for d in pynvml.nvmlDeviceGetTopologyNearestGpus(gpu, level)]
"""
DIRECT = """
name = "simtest"
[[device]]
model = "V100-16GB"
count = 3
[[link]]
kind = "nvlink"
lanes = 2
devices = [0, 1]
[[link]]
kind = "nvlink"
lanes = 1
devices = [1, 2]
"""


def client_of(node: Node, text: str) -> Client:
    """A pynvml program on the node that the text describes."""
    node.describe(text)
    made = node.client()
    made.run(SETUP)
    return made


def shipped(name: str) -> str:
    """A node file that comes with mica."""
    return (files("mica.hardware") / "nodes" / f"{name}.toml").read_text()


def test_links_into_switches(node: Node) -> None:
    """Every H100 of a DGX has 18 links that are up, all into NVSwitches, whose addresses are no device's."""
    client = client_of(node, shipped("dgx-h100"))
    links = client("remotes(gpus[5])")
    assert [kind for kind, _ in links] == [2] * 18
    assert not {address for _, address in links} & set(client("list(index)"))
    assert client("pynvml.nvmlDeviceGetNvLinkVersion(gpus[0], 0)") == 6
    assert client("[pynvml.nvmlDeviceGetP2PStatus(gpus[0], gpus[7], i) for i in (0, 2)]") == [0, 0]


def test_direct_links(node: Node) -> None:
    """They lead to the devices that the node says, in number; the rest of a V100's six are down, and a seventh there is not."""
    client = client_of(node, DIRECT)
    client.run("remotes = lambda g: [l for l in range(6) if pynvml.nvmlDeviceGetNvLinkState(g, l)]")
    assert client("[remotes(g) for g in gpus]") == [[0, 1], [0, 1, 2], [0]]
    ends = "[index[pynvml.nvmlDeviceGetNvLinkRemotePciInfo(gpus[1], l).busId] for l in range(3)]"
    assert client(ends) == [0, 0, 2]
    with pytest.raises(ClientError, match="InvalidArgument"):
        client("pynvml.nvmlDeviceGetNvLinkState(gpus[0], 6)")
    assert client("[pynvml.nvmlDeviceGetP2PStatus(gpus[0], g, 2) for g in gpus[1:]]") == [0, 5]


def test_a_device_without_links_says_so(node: Node) -> None:
    """An L4 has no NVLink at all."""
    client = client_of(node, "name = 'simtest'\ndevice = [{ model = 'L4', count = 2 }]\n")
    with pytest.raises(ClientError, match="NotSupported"):
        client("pynvml.nvmlDeviceGetNvLinkState(gpus[0], 0)")


def test_neighbours_by_switch_and_processor(node: Node) -> None:
    """On a DGX H100 the nearest one is behind the same switch, then those of the socket, then the rest."""
    client = client_of(node, shipped("dgx-h100"))
    assert client("[near(gpus[2], level) for level in (10, 40, 50)]") == [[3], [0, 1], [4, 5, 6, 7]]
    assert client("[pynvml.nvmlDeviceGetTopologyCommonAncestor(gpus[2], g) for g in gpus[:5]]") == [40, 40, 0, 10, 50]
    assert client("[list(pynvml.nvmlDeviceGetCpuAffinity(g, 1)) for g in (gpus[0], gpus[4])]") == [[0xFFFF], [0xFFFF0000]]
