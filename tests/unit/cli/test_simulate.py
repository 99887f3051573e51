"""``mica simulate`` with work and fleets of one's own."""

import json
from pathlib import Path

import pytest

from mica.cli.__main__ import main

HEAD = "arrival_s,duration_s,devices,share_milli,vram_mib,cpu_milli,memory_mib,models\n"
WORK = HEAD + "".join(
    f"{60 * i},{'' if i % 10 == 9 else 1200 + 300 * (i % 4)},{[1, 1, 2, 8, 0][i % 5]},{[300, 700, 1000, 1000, 0][i % 5]},"
    f"{[8000, 40000, 70000, 70000, 0][i % 5]},4000,16384,{'A100-SXM-80GB|L4' if i % 3 == 0 else ''}\n"
    for i in range(80)
)
MIX = "dgx-a100=2,mi300x-8=1"


def simulate(capsys, *words: str) -> tuple[int, str, str]:
    """Run the command: its status, what it printed, what it complained of."""
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *words])
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Eighty pieces of work, over 80 minutes."""
    path = tmp_path / "own.csv"
    path.write_text(WORK)
    return path


def test_work_of_ones_own_on_a_mix_of_ready_made_nodes(work: Path, capsys) -> None:
    """The table has a row for each policy; what was assumed stands below."""
    status, out, err = simulate(capsys, "--arrivals", str(work), "--nodes", MIX)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "own: 80 pieces of work on 3 nodes: 16 A100-SXM-80GB, 8 MI300X; 1.183 h are measured"
    assert lines[1].startswith("POLICY")
    assert [line.split()[0] for line in lines[2:5]] == ["bestfit", "fgd", "mica"]
    assert lines[-1] == "assumed: mi300x-8 does not say its CPU or host memory: 32 and 128GiB for each device"


def test_json_and_plot_are_the_same_again(work: Path, tmp_path: Path, capsys) -> None:
    """Byte for byte; a policy that is named twice runs once."""
    words = ["--arrivals", str(work), "--nodes", MIX, "--policy", "mica", "--policy", "value", "--policy", "mica", "--json"]
    answers = [simulate(capsys, *words, "--load", "0.9", "--plots", str(tmp_path / name))[1] for name in ("a", "b")]
    assert answers[0] == answers[1]
    assert (tmp_path / "a/simulation.svg").read_bytes() == (tmp_path / "b/simulation.svg").read_bytes()
    answer = json.loads(answers[0])
    assert list(answer["policies"]) == ["mica", "value"]
    assert answer["policies"]["mica"]["wanted"] == pytest.approx(90, abs=10)
    assert answer["devices"] == {"A100-SXM-80GB": 16, "MI300X": 8}


def test_models_say_where_work_may_go_and_memory_where_it_fits(tmp_path: Path, capsys) -> None:
    """150 GiB fit on an MI300X only; on L4, which is not there, fits nothing."""
    path = tmp_path / "few.csv"
    path.write_text(
        HEAD + "0,100,1,100,150000,1,1,\n1,100,1,100,150000,1,1,A100-SXM-80GB\n2,100,1,100,1,1,1,L4\n3,100,1,100,1,1,1,\n"
    )
    _, out, _ = simulate(capsys, "--arrivals", str(path), "--nodes", MIX, "--warm-up", "0", "--policy", "fgd", "--json")
    assert json.loads(out)["policies"]["fgd"]["refused_pieces"] == 50


def test_a_trace_on_its_own_nodes_and_on_others(tmp_path: Path, capsys) -> None:
    """``--nodes`` is the trace's own unless a mix is named."""
    (tmp_path / "openb_node_list_all.csv").write_text("sn,cpu_milli,memory_mib,gpu,model\nn,64000,262144,2,T4\n")
    head = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time,scheduled_time\n"
    (tmp_path / "openb_pod_list_default.csv").write_text(head + "".join(f"p{i},1000,1,1,500,,{i},{i + 4},\n" for i in range(30)))
    words = ["--trace", str(tmp_path), "--policy", "bestfit", "--json"]
    own, other = (json.loads(simulate(capsys, *words, *more)[1]) for more in ((), ("--nodes", "demo=1")))
    assert own["devices"] == {"T4": 2}
    assert sum(other["devices"].values()) > 2
    assert own["policies"]["bestfit"]["allocated"]["mean"] == pytest.approx(100, abs=1)


def test_a_node_has_the_processors_that_its_file_says_and_else_those_assumed(tmp_path: Path, capsys) -> None:
    """A DGX A100 has 256; eight MI300X have eight times ``--cpus-per-device``. Here each piece takes 200."""
    path = tmp_path / "thirsty.csv"
    path.write_text(HEAD + "".join(f"{i},{100 - i},1,10,1,200000,1,\n" for i in range(10)))

    def refused(*mix: str) -> float:
        words = ["--arrivals", str(path), "--warm-up", "0", "--policy", "fgd", "--json", "--nodes", *mix]
        return json.loads(simulate(capsys, *words)[1])["policies"]["fgd"]["refused_pieces"]

    assert refused("dgx-a100=3") == refused("dgx-a100=3", "--cpus-per-device", "99") == 70
    assert refused("mi300x-8=3") == 70
    assert refused("mi300x-8=3", "--cpus-per-device", "50") == 40


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nodes", MIX], "got --trace and --arrivals both or neither, allowed: one of them"),
        (["--arrivals", "own.csv"], "--nodes: got trace without --trace"),
        (["--arrivals", "own.csv", "--nodes", "dgx-a100"], "nodes: got 'dgx-a100', allowed: NAME=COUNT joined by commas"),
        (["--arrivals", "own.csv", "--nodes", "dgx-a100=0"], "nodes: got 'dgx-a100=0', allowed: NAME=COUNT"),
        (["--arrivals", "own.csv", "--nodes", "dgx-a1=1"], "nodes: dgx-a1: got no file and no ready-made node"),
        (["--arrivals", "own.csv", "--nodes", "demo=99999,demo=99999"], "nodes: got 199998, allowed: at most 100000"),
        (["--arrivals", "own.csv", "--nodes", MIX, "--policy", "magic"], "Invalid enum value 'magic'"),
        (["--arrivals", "own.csv", "--nodes", MIX, "--memory-per-device", "much"], "got 'much', allowed: a size above 0"),
        (["--arrivals", "own.csv", "--nodes", MIX, "--workload", "x"], "--workload: got 'x' with --arrivals"),
        (["--arrivals", "none.csv", "--nodes", MIX], "none.csv: got "),
        (["--arrivals", "own.csv", "--nodes", MIX, "--load", "0"], "load: got 0 devices in use"),
        (["--arrivals", "own.csv", "--nodes", MIX, "--part", "0.01"], "without any device, allowed: at least one device"),
        (["--trace", "nowhere"], "nowhere: got 0 files openb_node_list_*.csv, allowed: one"),
    ],
)
def test_words_that_make_no_sense_are_one_line(work: Path, words: list[str], message: str, capsys, monkeypatch) -> None:
    """What was given, and what is allowed."""
    monkeypatch.chdir(work.parent)
    status, out, err = simulate(capsys, *words)
    assert status != 0
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "own.csv: got no piece of work, allowed: at least one"),
        ("arrival_s,duration_s,devices\n0,1,1\n", "own.csv: got no column 'share_milli'"),
        ("arrival_s,duration_s,devices,share_milli,gpus\n0,1,1,10,1\n", "own.csv:2: got column 'gpus', allowed: arrival_s"),
        (HEAD + "soon,1,1,10,,,,\n", "own.csv:2: arrival_s: got 'soon', allowed: a finite number from 0 on"),
        (HEAD + "1,-1,1,10,,,,\n", "own.csv:2: duration_s: got '-1'"),
        (HEAD + "1,1,1,0,,,,\n", "own.csv:2: share_milli: got 0, allowed with devices: 1 to 1000"),
        (HEAD + "1,1,1,1001,,,,\n", "own.csv:2: share_milli: got '1001', allowed: a whole number up to 1000"),
        (HEAD + "1,1,1,10,,,,H1000\n", "own.csv:2: models: got 'H1000', allowed: "),
        (HEAD + "1,1,1,10,,,,,9\n", "own.csv:2: got more cells than columns, allowed: arrival_s"),
        (HEAD + "1,1,1,10,,,,\n", "got all arrivals of the time looked at in one moment"),
    ],
)
def test_work_that_makes_no_sense_is_one_line(work: Path, text: str, message: str, capsys, monkeypatch) -> None:
    """The file, its line, what is allowed."""
    monkeypatch.chdir(work.parent)
    work.write_text(text)
    status, out, err = simulate(capsys, "--arrivals", "own.csv", "--nodes", MIX)
    assert status != 0
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
