"""One door for every kind of file.

Invariant: the format is told by the content, except that a folder is a sysfs and TOML has its ending.
"""

import os
from pathlib import Path

from mica.hardware import NodeFile, NodeFileError
from mica.topology import _hwloc, _nccl, _sysfs, _xml
from mica.topology._inventory import from_node_file
from mica.topology._model import Topology, TopologyError


def read_file(path: Path) -> Topology:
    """The topology in a file: NCCL's or hwloc's XML, a node file (``.toml``), or a folder that is the root of a sysfs.

    Raises:
        TopologyError: it can't be read, or is none of these.
    """
    if path.is_dir():
        return _sysfs.read(path, os.uname().nodename)
    if path.suffix == ".toml":
        try:
            return from_node_file(NodeFile.load(path))
        except NodeFileError as error:
            raise TopologyError(str(error)) from error
    try:
        with path.open("rb") as file:
            text = file.read(_xml.BYTES_MAX + 1)
    except OSError as error:
        raise TopologyError(f"{path}: {error.strerror}") from None
    return parse_xml(text, where=str(path), node=path.stem)


def parse_xml(text: bytes, *, where: str, node: str) -> Topology:
    """The topology in an NCCL or hwloc document; ``where`` names it in errors. Raises TopologyError."""
    root = _xml.parse(text, where)
    if root.tag == "system":
        return _nccl.read(root, node)
    if root.tag == "topology":
        return _hwloc.read(root, node)
    raise root.error("another root element", "<system> (NCCL) or <topology> (hwloc)")
