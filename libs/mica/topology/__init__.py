"""A node's topology: what is near what, from the bus, from NCCL's and hwloc's documents, from a node file and from sysfs.

Invariant: the model, the paths and the drawings are pure; only ``read_file`` and the sysfs readers touch the machine.
"""

from mica.topology._inventory import from_inventory, from_node_file
from mica.topology._model import Part, PartKind, Topology, TopologyError
from mica.topology._paths import MEANING, Closeness, DevicePath, PathKind, closeness, path
from mica.topology._read import parse_xml, read_file
from mica.topology._sets import Connections, Counts, Score
from mica.topology._svg import draw_svg
from mica.topology._sysfs import pcie_path
from mica.topology._sysfs import read as read_sysfs
from mica.topology._text import draw_text

__all__ = [
    "MEANING",
    "Closeness",
    "Connections",
    "Counts",
    "DevicePath",
    "Part",
    "PartKind",
    "PathKind",
    "Score",
    "Topology",
    "TopologyError",
    "closeness",
    "draw_svg",
    "draw_text",
    "from_inventory",
    "from_node_file",
    "parse_xml",
    "path",
    "pcie_path",
    "read_file",
    "read_sysfs",
]
