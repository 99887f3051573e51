"""Simulated nodes on the command line. Invariant: a simulation never goes on with another node's hardware."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from mica.cli._errors import CliError
from mica.cli._runtime import runtime_dir
from mica.events import ID_PATTERN
from mica.hardware import NODE_DESC, CatalogueError, NodeFile, NodeFileError, find_node, node_desc, write_node_desc

STATE: Final = "engine.state"


def describe_node(node_file: Path, directory: Path) -> NodeFile:
    """Describe the node in ``directory``, where the simulated drivers find it. The same node as before keeps its state.

    ``node_file`` is a path, or the name of a ready-made node.

    Raises:
        CliError: the file is not there or describes no node, or the directory can't be written.
    """
    try:
        node = NodeFile.load(find_node(node_file))
        if re.fullmatch(ID_PATTERN, node.name) is None:
            raise CliError(f"{node_file}: name: got {node.name}, allowed: 1 to 64 of A-Z a-z 0-9 _ -")
        if _described(directory) not in ("", node_desc(node)):
            with suppress(FileNotFoundError):
                (directory / STATE).unlink()
        write_node_desc(node, directory)
    except (NodeFileError, CatalogueError) as error:
        raise CliError(f"node file: {error}") from None
    except OSError as error:
        raise CliError(f"simulated node {directory}: {error.strerror}") from None
    return node


def _described(directory: Path) -> str:
    try:
        return (directory / NODE_DESC).read_text()
    except FileNotFoundError:
        return ""


def sim_dir(given: Path | None) -> Path:
    """The simulated node's directory: ``given``, MICA_SIM_DIR, or the one of ``mica up``.

    Raises:
        CliError: no node is described there.
    """
    named = given or (Path(os.environ["MICA_SIM_DIR"]) if os.environ.get("MICA_SIM_DIR") else runtime_dir() / "sim")
    if not (named / NODE_DESC).is_file():
        raise CliError(f"{named}: no simulated node is described there; `mica sim init NODE.toml --dir {named}` does that")
    return named.absolute()
