"""``mica bench placement --over-time`` on a small trace of our own."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mica.bench import BenchError
from mica.bench._trace import read_fleet, read_jobs
from mica.bench.over_time import Plan, rows, run
from mica.cli.commands.bench import bench

NODES = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(
    f"n{i},64000,262144,{4 if i % 2 else 2},{'P100' if i % 2 else 'T4'}\n" for i in range(10)
)
HEAD = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time,scheduled_time\n"
PODS = HEAD + "".join(
    f"p{i:03},2000,8192,{i % 3 and 1},{[0, 1000, 460][i % 3]},{'T4' if i % 7 == 1 else ''},"
    f"{100 * i},{100 * i + 900},{100 * i if i % 4 else ''}\n"
    for i in range(60)
)
UNTIMED = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,1000,1024,1,500\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten nodes; a workload with times, and one without."""
    (tmp_path / "openb_node_list_gpu_node.csv").write_text(NODES)
    (tmp_path / "openb_pod_list_small.csv").write_text(PODS)
    (tmp_path / "openb_pod_list_untimed.csv").write_text(UNTIMED)
    return tmp_path


def test_pods_come_when_created_and_run_from_scheduled_until_deleted(folder: Path) -> None:
    """One that never was scheduled from its creation on; the last one to be deleted was there when the trace ended."""
    text = HEAD + "b,1,1,1,500,,20,90,30\na,1,1,1,1000,T4,10,60,\nc,1,1,2,1000,V9,20,100,20\n"
    (folder / "openb_pod_list_three.csv").write_text(text)
    jobs = read_jobs(folder, "three", read_fleet(folder).models)
    assert [(job.arrival_s, job.duration_s) for job in jobs] == [(10, 50), (20, 60), (20, None)]
    assert [job.shape.kinds for job in jobs] == [frozenset({1}), None, frozenset()]


def test_the_report_has_each_load_and_policy_and_says_what_is_left_out(folder: Path) -> None:
    """Workloads without times are left out in words, unless they were asked for."""
    told: list[str] = []
    plan = Plan(folder=str(folder), seeds=(1, 2), loads=(0.5, 1.2), part=1.0, processes=1)
    report, series = run(plan, told.append)
    assert told[0] == "untimed: left out, its pods have no times"
    assert list(report.workloads) == list(series) == ["small"]
    assert list(report.workloads["small"]) == ["0.5", "1.2"]
    for load, policies in report.workloads["small"].items():
        assert list(policies) == ["bestfit", "fgd", "mica"]
        for figure in policies.values():
            assert figure.allocated.mean <= figure.wanted
            assert figure.wanted == pytest.approx(100 * float(load), rel=0.15)
            assert figure.allocated.p5 <= figure.allocated.p50 <= figure.allocated.p95 <= 100
    calm, busy = (report.workloads["small"][load]["mica"] for load in ("0.5", "1.2"))
    assert calm.refused <= busy.refused
    assert busy.refused > 0
    assert len(rows(report)) == 6
    assert all(len(samples) == 500 for samples in series["small"]["1.2"].values())


def test_a_run_again_gives_the_same_figures(folder: Path) -> None:
    """And waiting gives others: nobody is refused who is let in later."""
    plan = Plan(folder=str(folder), seeds=(1,), loads=(1.1,), part=1.0, processes=1)
    (report, _), (same, _) = run(plan), run(plan)
    assert report.workloads == same.workloads
    waiting, _ = run(Plan(folder=str(folder), seeds=(1,), loads=(1.1,), part=1.0, processes=1, wait=True))
    assert waiting.workloads["small"]["1.1"]["fgd"].waited > 0 == report.workloads["small"]["1.1"]["fgd"].waited


def test_the_command_prints_json_and_draws(folder: Path) -> None:
    """By workload, load and policy; one plot for each workload and load."""
    words = ["placement", "--over-time", "--trace", str(folder), "--seeds", "3", "--part", "1", "--plots", str(folder / "drawn")]
    done = CliRunner().invoke(bench, [*words, "--policy", "bestfit", "--json"])
    assert done.exit_code == 0, done.output
    figure = json.loads(done.stdout)["workloads"]["small"]["1"]["bestfit"]
    assert (
        {"mean", "p5", "p50", "p95"} == figure["allocated"].keys() == figure["stranded"].keys() == figure["fragmentation"].keys()
    )
    assert {"refused", "refused_pieces", "lost", "wanted"} <= figure.keys()
    assert [path.name for path in (folder / "drawn").iterdir()] == ["placement-over-time-small-1.svg"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("openb_pod_list_small.csv", HEAD + "p,1,1,1,500,,9,5,\n", ":2: deletion_time: got 5 after 9 and 9, allowed: no earlier"),
        ("openb_pod_list_small.csv", HEAD + "p,1,1,1,500,,x,5,\n", ":2: creation_time: got 'x', allowed: a finite number"),
        ("openb_pod_list_small.csv", HEAD + "p,1,1,0,0,,1,5,\n", "got no pod that asks for a GPU"),
        ("openb_pod_list_small.csv", HEAD, "got no pod that asks for a GPU"),
        ("openb_pod_list_small.csv", HEAD + "p,1,1,1,500,,1,5,\n", "got all arrivals of the time looked at in one moment"),
    ],
)
def test_times_that_make_no_sense(folder: Path, name: str, text: str, message: str) -> None:
    """One line: the file, its line, what is allowed."""
    (folder / name).write_text(text)
    with pytest.raises(BenchError) as refused:
        run(Plan(folder=str(folder), seeds=(1,), part=1.0, processes=1))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--over-time", "--workload", "untimed"], "openb_pod_list_untimed.csv: got no column 'creation_time'"),
        (["--over-time", "--workload", "other"], "workload 'other': allowed in "),
        (["--over-time", "--load", "-1"], "small: load: got "),
        (["--over-time", "--part", "0.0001", "--workload", "small"], "without any device, allowed: at least one"),
        (["--over-time", "--policy", "magic"], "Invalid enum value 'magic'"),
        (["--load", "0.9"], "--load: allowed with --over-time"),
        (["--wait"], "--wait: allowed with --over-time"),
    ],
)
def test_words_that_make_no_sense_over_time(folder: Path, words: list[str], message: str) -> None:
    """One line, and no figure."""
    done = CliRunner().invoke(bench, ["placement", "--trace", str(folder), "--seeds", "1", *words])
    assert done.exit_code != 0
    assert message in done.output
    assert done.stdout.count("\n") == 0
