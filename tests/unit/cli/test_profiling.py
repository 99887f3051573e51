"""What a profiled program says, made into points."""

import pytest
from click.testing import CliRunner

from mica.cli._errors import CliError
from mica.cli._profiling import Trial, Used, figures_of, filled, measured
from mica.cli.commands.profile import profile

USED = Used(vram_peak_bytes=3 << 30, gpu_ns=5)


def trial(output: str = "", wall_s: float = 0.5) -> Trial:
    return Trial(output=output, wall_s=wall_s)


def test_the_last_line_with_figures_counts():
    """Whatever stands around it: text, other JSON, earlier figures."""
    output = (
        'loading {model}\n{"rate_hz": 1, "p99_ms": 99}\n{"step": 3}\n{"rate_hz": 120, "p99_ms": 18.5, "loss": 1}\n[1]\n{oops\n'
    )
    assert figures_of(output) == {"rate_hz": 120.0, "p99_ms": 18.5}


def test_a_program_that_says_nothing_is_timed():
    """The longest run, and as many requests as its batch has; that is told."""
    found = measured(250_000, 8, [trial(wall_s=0.5), trial("hello", wall_s=1.0)], USED, "L4")
    assert (found.point.p99_ms, found.point.rate_hz, found.by_wall_time) == (1000.0, 8.0, True)
    assert found.point.vram_bytes == 3 << 30


def test_the_worst_of_several_runs_counts():
    """The longest time and the lowest rate, even from different runs."""
    found = measured(1, 1, [trial('{"rate_hz": 9, "p99_ms": 30}'), trial('{"rate_hz": 11, "p99_ms": 20}')], USED, "L4")
    assert (found.point.rate_hz, found.point.p99_ms, found.by_wall_time) == (9.0, 30.0, False)


def test_one_figure_gives_the_other():
    """One batch after the other: 4 requests in 20 ms are 200 a second, and the other way round."""
    by_time = measured(1, 4, [trial('{"p99_ms": 20}')], USED, "L4").point
    by_rate = measured(1, 4, [trial('{"rate_hz": 200}')], USED, "L4").point
    assert (by_time.rate_hz, by_rate.p99_ms) == (200.0, 20.0)


def test_times_to_tokens_count_only_where_every_run_has_them():
    """A point without them says nothing of them."""
    both = '{"rate_hz": 1, "p99_ms": 9, "ttft_ms": 4, "tpot_ms": 2}'
    assert measured(1, 1, [trial(both)] * 2, USED, "L4").point.ttft_ms == 4.0
    assert measured(1, 1, [trial(both), trial('{"rate_hz": 1, "p99_ms": 9}')], USED, "L4").point.ttft_ms is None


@pytest.mark.parametrize("value", ["0", "-1", '"fast"', "true", "1e999", "null"])
def test_a_figure_that_is_none_is_an_error(value):
    """It names the figure, what was said, and the format."""
    with pytest.raises(CliError, match=r"(rate_hz|figures): got .*, allowed: a line such as"):
        figures_of(f'{{"rate_hz": {value}}}')


def test_the_batch_stands_where_the_command_wants_it():
    """In every word, any number of times."""
    assert filled(["run", "--batch={batch}", "{batch}x{batch}", "{other}"], 8) == ["run", "--batch=8", "8x8", "{other}"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vram", "1GiB"], "no program is named"),
        (["--", "true"], "--vram: got nothing"),
        (["--vram", "1GiB", "--batch", "4", "--", "true"], "--batch without {batch}"),
        (["--list", "--", "true"], "run no command"),
        (["--name", "a b", "--vram", "1GiB", "--", "true"], "name: got 'a b'"),
        (["--show", "a/b"], "name: got 'a/b'"),
        (["--vram", "1GiB", "--mode", "magic", "--", "true"], "magic"),
        (["--vram", "1GiB", "--share", "0", "--", "true"], "allowed: a share above 0"),
    ],
)
def test_what_can_not_be_profiled_is_refused_before_anything_is_asked_for(arguments, said):
    """One line, and no server is needed to say it."""
    result = CliRunner().invoke(profile, arguments)
    assert result.exit_code != 0
    assert said in result.output
