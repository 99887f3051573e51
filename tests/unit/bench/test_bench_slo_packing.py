"""``mica bench slo-packing`` on profiles that the test writes."""

import json

import pytest
from click.testing import CliRunner

from mica.bench import BenchError
from mica.bench.slo_packing import run
from mica.cli.commands.bench import bench

PROFILE = "Mig instance,Batch size,Workload Number,Throughput,Latency\n1,1,1,10,0.010\n1,2,2,8,0.012\n2,1,1,0,0\n7,8,1,90,0.030\n"
SCENARIOS = "scenario,model,rate_rps,slo_ms\nS1,small,30,100\nS2,small,90,100\nS2,other,80,70\n"


@pytest.fixture
def profiles(tmp_path):
    """Two models of which one process serves 10 Hz and two serve 16 in a slice of one, and 90 Hz in a whole device."""
    for name in ("small", "other"):
        (tmp_path / f"prof_data_{name}.csv").write_text(PROFILE)
    (tmp_path / "scenarios.csv").write_text(SCENARIOS)
    return tmp_path


def test_every_scenario_is_solved_with_its_bound(profiles):
    """Six instances of 16 Hz and five more of 16 Hz need two devices; throughput is multiplied by processes."""
    report = run(profiles)
    assert {name: (each.gpus, each.bound, each.violations) for name, each in report.scenarios.items()} == {
        "S1": (1, 1, 0), "S2": (2, 2, 0),
    }  # fmt: skip


def test_the_command_prints_one_json_object_and_nothing_else(profiles, capfd):
    """The solver's banner would spoil it."""
    result = CliRunner().invoke(bench, ["slo-packing", "--profiles", str(profiles), "--json"])
    assert result.exit_code == 0
    assert set(json.loads(result.output)["scenarios"]) == {"S1", "S2"}
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("scenarios.csv", "scenario,model,rate_rps\n", "no column 'slo_ms'"),
        ("scenarios.csv", "scenario,model,rate_rps,slo_ms\n", "no scenario"),
        ("scenarios.csv", "scenario,model,rate_rps,slo_ms\nS1,small,nan,100\n", "rate_rps: got 'nan'"),
        ("scenarios.csv", "scenario,model,rate_rps,slo_ms\nS1,small,0,100\n", "rate_hz: got 0.0"),
        ("scenarios.csv", "scenario,model,rate_rps,slo_ms\nS1,gone,1,100\n", "prof_data_gone.csv"),
        ("scenarios.csv", "scenario,model,rate_rps,slo_ms\nS1,small,1,10\n", "allowed: more than"),
        ("prof_data_small.csv", PROFILE + "1,1,1,-3,0.1\n", "Throughput: got '-3'"),
    ],
)
def test_data_that_makes_no_sense_is_refused_in_one_line(profiles, file, text, said):
    """The message names the file or the service, the column, what was given and what is allowed."""
    (profiles / file).write_text(text)
    with pytest.raises(BenchError, match="allowed") as caught:
        run(profiles)
    assert said in str(caught.value)
