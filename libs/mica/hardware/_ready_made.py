"""How people name a node that is to be simulated. Invariant: a file that is there wins over a name."""

from pathlib import Path
from typing import Final

from mica.hardware._node import NodeFileError, ready_made_nodes

SUFFIX: Final = ".toml"


def find_node(given: Path) -> Path:
    """The node file that ``given`` says: the name of a ready-made node, or a path. A file in the working directory wins.

    Raises:
        NodeFileError: it is a plain name, and there is neither such a file nor such a node.
    """
    plain = given.name == str(given) and given.suffix != SUFFIX
    if not plain or given.is_file():
        return given
    known = ready_made_nodes()
    if given.name not in known:
        raise NodeFileError(f"{given}: got no file and no ready-made node, allowed: a path, or one of {', '.join(known)}")
    return known[given.name]
