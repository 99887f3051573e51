"""A trace is placed by the planner's own code, and comes out as the library's policy does."""

from pathlib import Path

import pytest

from mica.bench._replay import replay
from mica.bench._trace import read_trace
from mica.bench.replays import BenchError
from mica.planner.replaying import run
from mica.simulation import Policy

NODES = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(f"n{i},64000,262144,4,{'T4' if i % 3 else 'V100'}\n" for i in range(12))
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve nodes of four GPUs, and pods of parts, of whole GPUs, of two, of none, and of one model only."""
    sizes = [(1, 250), (1, 500), (1, 1000), (2, 1000), (0, 0), (1, 810)]
    lines = [(f"p{i:03}", 4000 + 1000 * (i % 5), 8192, *sizes[i % 6], "T4" if i % 7 == 0 else "") for i in range(120)]
    (tmp_path / "openb_node_list_gpu_node.csv").write_text(NODES)
    (tmp_path / "openb_pod_list_small.csv").write_text(PODS + "".join(",".join(map(str, line)) + "\n" for line in lines))
    return tmp_path


def test_the_planner_allocates_about_what_the_library_does(folder: Path) -> None:
    """Both are the same policy; cells, rounding and what is learned of refusals differ."""
    library = replay(read_trace(folder, "small"), Policy.MICA, 7).allocated
    planner = run(folder, "small", 7).allocated
    assert planner.keys() == library.keys()
    assert max(planner.values()) <= 100
    assert abs(planner[max(planner)] - library[max(library)]) < 5


def test_a_seed_gives_the_same_again(folder: Path) -> None:
    """Nothing depends on time or on threads."""
    assert run(folder, "small", 8) == run(folder, "small", 8) != run(folder, "small", 9)


def test_a_trace_that_is_not_there_ends_it(tmp_path: Path) -> None:
    """One line."""
    with pytest.raises(BenchError, match="got 0 files openb_node_list"):
        run(tmp_path, "small", 1)
