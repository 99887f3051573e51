"""Functions asked for by name: the shim's own where it enforces, the driver's everywhere else."""

import itertools
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from shim_node import Node

from mica.native import LIB_DIR

SHIM = LIB_DIR / "shim" / "libcuda.so.1"
DRIVER = LIB_DIR / "sim" / "libcuda.so.1"
PASSED = Path(__file__).parents[3] / "native" / "shim" / "cuda" / "symbols.def"
"""What the shim only passes through; of its other symbols each is a hook."""

CLIENT = Path(__file__).with_name("names_client.py")
PER_THREAD = 2
PER_THREAD_SINCE = 7000
FLAGS = [0, 1, PER_THREAD, 3, 4]
VERSIONS = {13000: [0, 2000, 4000, 7000, 10000, 11000, 11040, 12000, 13000, 99990], 11040: [10000, 11040, 12000]}
"""What is asked for, by the driver's own version."""

STRANGE = [None, "", "cu", "cuNothingOfTheKind", "cuMemAlloc ", "cumemalloc", "cuMemAlloc_v2", "cuLaunchKernel_ptsz", "x" * 5000]


def test_what_is_enforced_is_the_shims(node: Node) -> None:
    """An enforced function's answer is the shim's own, of the version and default stream that were asked for."""
    tenant = node.start(None)
    for name, version, flags, symbol in (
        ("cuMemAlloc", 12000, 0, "cuMemAlloc_v2"),
        ("cuMemFree", 12000, 0, "cuMemFree_v2"),
        ("cuMemGetInfo", 12000, 0, "cuMemGetInfo_v2"),
        ("cuMemAllocAsync", 12000, 0, "cuMemAllocAsync"),
        ("cuMemAllocAsync", 12000, PER_THREAD, "cuMemAllocAsync_ptsz"),
        ("cuLaunchKernel", 12000, 0, "cuLaunchKernel"),
        ("cuLaunchKernel", 12000, PER_THREAD, "cuLaunchKernel_ptsz"),
        ("cuLaunchKernelEx", 12000, PER_THREAD, "cuLaunchKernelEx_ptsz"),
        ("cuMemcpyHtoD", 12000, 0, "cuMemcpyHtoD_v2"),
        ("cuMemcpyHtoD", 12000, PER_THREAD, "cuMemcpyHtoD_v2_ptds"),
        ("cuCtxCreate", 11030, 0, "cuCtxCreate_v2"),
        ("cuCtxCreate", 12050, 0, "cuCtxCreate_v4"),
        ("cuDeviceTotalMem", 12000, PER_THREAD, "cuDeviceTotalMem_v2"),
        ("cuGetProcAddress", 11030, 0, "cuGetProcAddress"),
        ("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2"),
        ("cuInit", 2000, 0, "cuInit"),
    ):
        assert tenant("proc", name, version, flags) == [0, 0, [str(SHIM), symbol]], (name, version, flags)


def exported(library: Path) -> dict[int, set[str]]:
    """A library's functions: the names by the place."""
    command = ["readelf", "-W", "--dyn-syms", str(library)]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = defaultdict(set)
    for at, name in re.findall(r"([0-9a-f]{16}) +\d+ FUNC +GLOBAL +DEFAULT +\d+ (cu[A-Z]\w*)", table):
        names[int(at, 16)].add(name)
    return names


def base(name: str) -> str:
    """What cuGetProcAddress calls a function."""
    return re.sub(r"(_v\d+)?(_ptsz|_ptds)?$", "", name)


def is_per_thread(name: str) -> bool:
    return name.endswith(("_ptsz", "_ptds"))


def is_meant(name: str, meant: set[str], asked: str, version: int, flags: int) -> bool:
    """Whether a function is what was asked for, among the names by which the driver exports its answer: one, as a rule."""
    is_asked = base(name) == asked or asked not in map(base, meant)
    per_thread = bool(flags & PER_THREAD) and version >= PER_THREAD_SINCE and any(map(is_per_thread, meant))
    return name in meant and is_asked and is_per_thread(name) == per_thread


def ask(node: Node, shim: bool, names: list[str | None], versions: list[int]) -> list[tuple[int, int, list[Any] | None]]:
    """What a program is answered."""
    text = json.dumps({"names": names, "versions": versions, "flags": FLAGS})
    command, environment = [sys.executable, str(CLIENT)], node.environment(None, shim)
    done = subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    return [(result, status, answer["places"][place]) for result, status, place in answer["answers"]]


@pytest.mark.parametrize("cuda_version", VERSIONS)
def test_every_answer_is_the_drivers_with_the_shims_function_in_it(node: Node, cuda_version: int) -> None:
    """For any name, version and flags, result, status and whether there is a function are the driver's; the function is the
    shim's of the same name where that is a hook, else the driver's own.
    """
    description = node.sim_dir / "node.desc"
    description.write_text(description.read_text().replace("cuda_version 13000", f"cuda_version {cuda_version}"))
    shims, drivers = exported(SHIM), exported(DRIVER)
    symbols = set().union(*shims.values())
    hooks = symbols - set(re.findall(r"PASS\((\w+)\)", PASSED.read_text()))
    assert len(symbols) > 700
    assert len(hooks) > 200
    names = [*STRANGE, *sorted({base(name) for name in symbols})]
    versions = VERSIONS[cuda_version]
    answers = [ask(node, shim, names, versions) for shim in (False, True)]
    met = set()
    for question, plain, ours in zip(itertools.product((1, 2), names, versions, FLAGS), *answers, strict=True):
        assert ours[:2] == plain[:2], question
        meant = drivers[plain[2][1]] if plain[2] else set()
        if meant.isdisjoint(hooks):
            assert ours[2] == plain[2], question
            continue
        assert ours[2] is not None, question
        file, place = ours[2]
        assert file == str(SHIM), question
        (name,) = shims[place]
        assert is_meant(name, meant, *question[1:]), (question, name, meant)
        met.add(name)
    assert len(met) > 120
