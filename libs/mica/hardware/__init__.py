"""Accelerators as data: the catalogue of models, nodes made of them, and the simulated driver's own books."""

from mica.hardware._books import (
    Account,
    Books,
    BooksError,
    BooksReader,
    ComputeInstanceBooks,
    ControlError,
    DeviceBooks,
    GpuInstanceBooks,
    LinkBooks,
    ProcessBooks,
    read_books,
)
from mica.hardware._catalogue import JPEG_DECODERS, Catalogue, CatalogueError, HardwareProfile, Model
from mica.hardware._description import NODE_DESC, device_uuid, node_desc, write_node_desc
from mica.hardware._host import SimulatedHost, read_simulated_host
from mica.hardware._node import (
    Costs,
    DeviceEntry,
    KernelCost,
    LinkEntry,
    NodeDevice,
    NodeFile,
    NodeFileError,
    demo_node_path,
    ready_made_nodes,
)
from mica.hardware._ready_made import find_node

__all__ = [
    "JPEG_DECODERS",
    "NODE_DESC",
    "Account",
    "Books",
    "BooksError",
    "BooksReader",
    "Catalogue",
    "CatalogueError",
    "ComputeInstanceBooks",
    "ControlError",
    "Costs",
    "DeviceBooks",
    "DeviceEntry",
    "GpuInstanceBooks",
    "HardwareProfile",
    "KernelCost",
    "LinkBooks",
    "LinkEntry",
    "Model",
    "NodeDevice",
    "NodeFile",
    "NodeFileError",
    "ProcessBooks",
    "SimulatedHost",
    "demo_node_path",
    "device_uuid",
    "find_node",
    "node_desc",
    "read_books",
    "read_simulated_host",
    "ready_made_nodes",
    "write_node_desc",
]
