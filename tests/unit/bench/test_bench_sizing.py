"""``mica bench sizing`` on profiles whose errors are known."""

import pytest

from mica.bench import BenchError
from mica.bench.sizing import run

HEAD = "Mig instance,Batch size,Workload Number,Throughput,Latency\n"


def test_each_inner_point_is_predicted_from_its_neighbours_alone(tmp_path):
    """Latencies of 1/size: at 2 of 1, 2, 3 the chord says (1 + 1/3) / 2 where 1/2 was measured, a third too much."""
    rows = "".join(f"{size},1,1,{10 * size},{1 / size}\n" for size in (1, 2, 3))
    (tmp_path / "prof_data_resnet50.csv").write_text(HEAD + rows)
    (tmp_path / "prof_data_bert.csv").write_text(HEAD + rows)
    report = run(tmp_path)
    assert report.p99_ms.count == 2
    assert report.p99_ms.p50 == pytest.approx(33.3)
    assert report.p99_ms.unsafe_pct == 0.0
    assert abs(report.rate_hz.p50) < 0.1
    assert set(report.convolutional) == {"resnet50"}
    assert report.convolutional["resnet50"] > 1
    assert report.parameters_pct["gated"] < 0.01


def test_a_rate_that_falls_behind_its_chord_is_told_as_unsafe(tmp_path):
    """Half of what the neighbours promise."""
    rows = "".join(f"{size},1,1,{rate},{1 / size}\n" for size, rate in ((1, 100), (2, 100), (3, 300)))
    for name in ("a", "b"):
        (tmp_path / f"prof_data_{name}.csv").write_text(HEAD + rows)
    report = run(tmp_path)
    assert (report.rate_hz.p50, report.rate_hz.unsafe_pct, report.rate_hz.beyond_headroom_pct) == (100.0, 100.0, 100.0)


def test_a_directory_without_profiles_is_refused(tmp_path):
    """One line, with what would do."""
    with pytest.raises(BenchError, match="allowed: a directory with"):
        run(tmp_path)
