"""The hand-written stubs of the compiled bindings, which mypy reads, list what the modules have."""

import ast
from pathlib import Path
from types import ModuleType

import pytest

from mica.packing import _kernel
from mica.region import _abi


@pytest.mark.parametrize("module", [_abi, _kernel], ids=["region", "packing"])
def test_a_stub_names_what_its_module_has(module: ModuleType) -> None:
    """Every function and constant, and none besides."""
    stub = ast.parse(next(Path(str(module.__file__)).parent.glob("*.pyi")).read_text())
    (declared,) = (node for node in stub.body if isinstance(node, ast.ClassDef) and node.name == "_Lib")
    names = {node.name for node in declared.body if isinstance(node, ast.FunctionDef)}
    names |= {node.target.id for node in declared.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    assert names == set(dir(module.lib))
