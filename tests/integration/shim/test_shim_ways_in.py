"""By whatever name a program opens the driver, it gets the shim.

The same from C, with dlsym's RTLD_DEFAULT and RTLD_NEXT: native/shim/tests/passthrough_test.c.
"""

from pathlib import Path

import pytest
from shim_node import GIB, Node

from mica.native import LIB_DIR

LIBRARIES = {"cuda": "cuInit", "nvidia-ml": "nvmlInit_v2"}
WAYS = [(f"lib{library}.{ending}", symbol) for library, symbol in LIBRARIES.items() for ending in ("so.1", "so")]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A directory as a driver and its development packages leave it."""
    made = tmp_path / "lib"
    made.mkdir()
    for name, _ in WAYS:
        (made / name).symlink_to(LIB_DIR / "sim" / name.replace(".so.1", ".so").replace(".so", ".so.1"))
    return made


def test_every_name_leads_to_the_shim(node: Node, installed: Path) -> None:
    """With the version or without it, before the driver below is loaded and after; without the shim each leads to the driver."""
    node.place("a")
    tenant = node.start("a", LD_LIBRARY_PATH=str(installed))
    plain = node.start(None, LD_PRELOAD="", LD_LIBRARY_PATH=str(installed))
    for _ in range(2):
        for name, symbol in WAYS:
            shim = LIB_DIR / "shim" / f"{name.removesuffix('.1')}.1"
            assert tenant("opened", name, symbol) == tenant("opened", None, symbol) == str(shim)
            assert Path(plain("opened", name, symbol)).parent == installed
        assert tenant("init") == [0]
        tenant("nvml")
    assert tenant("total") == [0, GIB]


def test_found_in_its_place_it_leads_to_the_shim_beside_it(node: Node) -> None:
    """Where the shim's directory leads the library path, nothing need be preloaded."""
    tenant = node.start("a", LD_PRELOAD="", LD_LIBRARY_PATH=f"{LIB_DIR}/shim:{LIB_DIR}/sim")
    for name, symbol in WAYS:
        assert tenant("opened", name, symbol) == str(LIB_DIR / "shim" / f"{name.removesuffix('.1')}.1")
