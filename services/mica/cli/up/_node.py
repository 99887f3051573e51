"""Which node ``mica up`` runs on: a simulated one from its file, or the real one. Invariant: what is simulated says so."""

import shutil
from pathlib import Path

from msgspec import Struct

from mica.cli._errors import CliError
from mica.native import NativeBuildError, shim_cuda, shim_nvml, sim_cuda, sim_nvml


class Node(Struct, frozen=True):
    """The node's name, and its simulation's directory where it is simulated."""

    name: str
    sim_dir: Path | None


def check_libraries(*, simulated: bool) -> None:
    """See that the native libraries have been built.

    Raises:
        CliError: one is missing; says how to build it, or what is missing to build it.
    """
    try:
        for library in (shim_cuda, shim_nvml, *((sim_cuda, sim_nvml) if simulated else ())):
            library()
    except NativeBuildError as error:
        tools = [tool for tool in ("gcc", "make") if shutil.which(tool) is None]
        hint = f"; {' and '.join(tools)} not found: install them first" if tools else ""
        raise CliError(f"native libraries: {error}{hint}") from None


def check_opencl(*, processors: bool) -> None:
    """See that MICA_OPENCL makes sense, and that there is a driver where ``processors`` are to be devices.

    Raises:
        CliError: it says something else, or there is none.
    """
    from mica.vendors import VendorError
    from mica.vendors.opencl import drivers_here, wants_processors

    if processors:
        if not drivers_here(processors=True):
            raise CliError("--opencl: no OpenCL driver is installed; pip install 'mica[opencl]'")
        return
    try:
        wants_processors()
    except VendorError as error:
        raise CliError(str(error)) from None


def simulated_node(node_file: Path | None, sim_dir: Path) -> Node:
    """Describe the node in ``sim_dir``, where the simulated drivers find it.

    Raises:
        CliError: the file is not there, or describes no node.
    """
    from mica.cli._simulation import describe_node
    from mica.hardware import demo_node_path

    return Node(describe_node(node_file or demo_node_path(), sim_dir).name, sim_dir)


def real_node() -> Node:
    """This machine."""
    from mica.bus import Settings

    return Node(Settings.from_environment().node, None)
