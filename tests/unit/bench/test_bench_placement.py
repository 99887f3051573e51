"""``mica bench placement`` on a small trace of our own: what it reports, and what it says of files that make no sense."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mica.bench import BenchError
from mica.bench._replay import arrivals, check_residents, replay
from mica.bench._trace import read_trace
from mica.bench.placement import Plan, rows, run
from mica.cli.commands.bench import bench
from mica.packing import Board, Budget, Foresight, Foresighted, Moving, Settings
from mica.simulation import Policy

NODES = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(
    f"n{i},64000,262144,{4 if i % 2 else 2},{'P100' if i % 2 else 'T4'}\n" for i in range(10)
)
HEAD = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
PODS = HEAD + "".join(
    f"p{i:03},{2000 + 1000 * (i % 5)},8192,{i % 3 and 1},{[0, 1000, 460][i % 3]},{'T4' if i % 7 == 1 else ''}\n"
    for i in range(40)
)

POLICIES = tuple(Policy)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trace of ten nodes and forty pods."""
    (tmp_path / "openb_node_list_gpu_node.csv").write_text(NODES)
    (tmp_path / "openb_pod_list_small.csv").write_text(PODS)
    return tmp_path


def test_every_policy_is_reported_with_mean_and_deviation(folder: Path) -> None:
    """By workload and policy, in per cent of the capacity, never more than has arrived or fits."""
    report = run(Plan(folder=str(folder), seeds=(1, 2), policies=POLICIES, processes=1))
    assert list(report.workloads) == ["small"]
    assert list(report.workloads["small"]) == [str(policy) for policy in POLICIES]
    for figure in report.workloads["small"].values():
        assert 50 < figure.at_100 <= figure.at_130 <= 100
        assert figure.at_100 <= figure.bound_100 <= figure.bound_130 <= 100
        assert (figure.gap_100, figure.gap_130) == pytest.approx(
            (figure.bound_100 - figure.at_100, figure.bound_130 - figure.at_130), abs=2e-3
        )
        assert figure.published_130 is None
    assert len(rows(report)) == len(POLICIES)
    for part, policy in ((1, Policy.MICA_MOVING), (5, Policy.MICA_MOVING_5)):
        moved_pct = report.workloads["small"][policy].moved_pct
        assert moved_pct is not None
        assert 0 <= moved_pct <= part


def test_a_seed_gives_the_same_again_and_all_policies_the_same_arrivals(folder: Path) -> None:
    """Figures of one run can be compared."""
    trace = read_trace(folder, "small")
    assert arrivals(trace, 7) == arrivals(trace, 7) != arrivals(trace, 8)
    assert replay(trace, Policy.MICA, 7) == replay(trace, Policy.MICA, 7)
    demand = sum(pod.demand_milli for pod in arrivals(trace, 7))
    assert trace.capacity_milli < demand <= 1.3 * trace.capacity_milli + 1000


def test_a_pod_that_a_move_has_lost_ends_the_replay(folder: Path) -> None:
    """The control of the check at the end of each: one that no longer stands, or a board that says otherwise."""
    trace = read_trace(folder, "small")
    board = Board(trace.nodes, trace.kinds)
    moving: Moving[int] = Moving(Foresighted(board, Settings(), Foresight()), Budget())
    for key, pod in enumerate(trace.pods[:6]):
        moving.arrive(key, pod)
    check_residents(moving, Board(trace.nodes, trace.kinds))
    shape, spot = moving.mover.residents.remove(1)
    with pytest.raises(BenchError, match="moves: got 5 pods that stand, allowed: the 6 that were placed"):
        check_residents(moving, Board(trace.nodes, trace.kinds))
    moving.mover.residents.add(1, shape, spot)
    board.cpu_milli[0] += 1
    with pytest.raises(BenchError, match="moves: the board's cpu_milli is not what the pods that stand leave"):
        check_residents(moving, Board(trace.nodes, trace.kinds))


def test_the_command_prints_the_json_that_is_promised(folder: Path) -> None:
    """``workloads``, by name, by policy, at 100 and at 130."""
    words = ["placement", "--trace", str(folder), "--seeds", "3", "--policy", "bestfit", "--policy", "mica_moving", "--json"]
    done = CliRunner().invoke(bench, words)
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)["workloads"]["small"]
    assert {"100", "130", "100_sd", "130_sd", "bound_100", "bound_130", "gap_100", "gap_130"} <= figures["bestfit"].keys()
    assert {"100", "130", "moved_pct"} <= figures["mica_moving"].keys()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("openb_pod_list_small.csv", HEAD + "p,12,x,1,500,\n", "openb_pod_list_small.csv:2: memory_mib: got 'x'"),
        ("openb_pod_list_small.csv", HEAD + "p,12,1,1,0,\n", ":2: a shape of 1 devices: got vram_mib 0"),
        ("openb_pod_list_small.csv", HEAD + "p,12,1,0,0,\n", "got no pod that asks for a GPU"),
        ("openb_node_list_gpu_node.csv", "sn,cpu_milli,memory_mib,gpu,model\nn,1,1,0,T4\n", "got no GPU at all"),
        (
            "openb_node_list_gpu_node.csv",
            "sn,cpu_milli,memory_mib,gpu\nn,1,1,1\n",
            "got no column 'model'",
        ),
        ("openb_node_list_other.csv", NODES, "got 2 files openb_node_list_*.csv, allowed: one"),
    ],
)
def test_a_trace_that_makes_no_sense(folder: Path, name: str, text: str, message: str) -> None:
    """One line: the file, its line, what is allowed."""
    (folder / name).write_text(text)
    with pytest.raises(BenchError) as refused:
        run(Plan(folder=str(folder), seeds=(1,), processes=1))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workload", "other"], "workload 'other': allowed in "),
        (["--seeds", "9-3"], "got '9-3', allowed: a number, or two of them"),
        (["--policy", "magic"], "Invalid enum value 'magic'"),
        (["--over-time", "--by-planner"], "--by-planner: allowed without --over-time"),
    ],
)
def test_words_that_make_no_sense(folder: Path, words: list[str], message: str) -> None:
    """One line, and no figure."""
    done = CliRunner().invoke(bench, ["placement", "--trace", str(folder), *words])
    assert done.exit_code != 0
    assert message in done.output
