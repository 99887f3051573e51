"""What ``mica bench isolation`` says of its figures."""

import pytest
from msgspec.structs import replace

from mica.bench._isolation_report import (
    Latency,
    Lending,
    Noise,
    Reaction,
    Report,
    Resize,
    Scenario,
    ShareError,
    System,
    Tenant,
    Vram,
    Weights,
    remarks,
    share_rows,
    spread,
    target_rows,
    targets_of,
)
from mica.bench._machine import describe_machine

TENANT = Tenant(
    share_pct=50.0, measured_pct=49.9, kernels_us=(20, 200), window_s=2.0, errors_pct=(0.1, 0.2), withheld_pct=(1.0, 30.0)
)
FINE = Report(
    share_error_pct=ShareError(mean=0.15, max=0.2),
    jain=0.9999,
    noisy_neighbour_pct=0.2,
    vram_accuracy_pct=100.0,
    reaction_ms=4.0,
    windows=2,
    scenarios=(Scenario(tenants=(TENANT,), jain=0.9999),),
    noise=(Noise(neighbour_us=20, window_s=2.0, alone_pct=50.0, beside_pct=49.9, lost_pct=spread([0.1, 0.3, 0.2])),),
    latency=(
        Latency(
            neighbour_us=20_000,
            alone_p50_ms=0.5,
            alone_p99_ms=0.6,
            added_p50_ms=spread([1.0]),
            added_p99_ms=spread([19.0]),
            bare_added_p99_ms=spread([18.5]),
            allowed_ms=20.0,
        ),
    ),
    weights=Weights(weights=(100, 300), due_pct=(25.0, 75.0), measured_pct=(24.5, 75.5), slice_pct=50.0),
    vram=(Vram(processes=3, limit_bytes=100, taken_bytes=100, held_bytes=100, accuracy_pct=100.0),),
    reaction=Reaction(raised_ms=spread([3.0]), lowered_ms=spread([4.0])),
    machine=describe_machine(),
)


def slow_system(books_ms: float = 4.0, withdrawn_ms: float = 90.0) -> System:
    """A whole system with these figures."""
    return System(
        resize=Resize(record_ms=spread([2.0]), fact_ms=spread([3.0]), books_ms=spread([books_ms])),
        lending=Lending(lent_ms=spread([150.0]), withdrawn_ms=spread([withdrawn_ms]), neighbour_ms=spread([-10.0])),
    )


def test_a_report_whose_figures_are_all_within_their_targets_holds() -> None:
    """And says so of each."""
    report = targets_of(replace(FINE, system=slow_system()))
    assert report.holds
    assert all(target.holds for target in report.targets.values())


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"share_error_pct": ShareError(mean=0.6, max=0.7)}, "share error, mean"),
        ({"share_error_pct": ShareError(mean=0.1, max=1.6)}, "share error, worst window"),
        ({"jain": 0.998}, "Jain's index"),
        ({"noisy_neighbour_pct": 1.1}, "throughput lost to a flood"),
        ({"vram_accuracy_pct": 99.999999}, "VRAM accuracy"),
        ({"reaction_ms": 50.1}, "a new share in force"),
        ({"system": slow_system(books_ms=51.0)}, "a new share in force after slice.resize"),
        ({"system": slow_system(withdrawn_ms=101.0)}, "a loan withdrawn"),
        ({"latency": (replace(FINE.latency[0], added_p99_ms=spread([20.1])),)}, "p99 latency added by a flood of 20000 us"),
    ],
)
def test_a_figure_beyond_its_target_is_missed_and_the_report_does_not_hold(change: dict[str, object], missed: str) -> None:
    """That one alone, in the JSON as in the table."""
    report = targets_of(replace(FINE, **change))
    assert not report.holds
    assert [name for name, target in report.targets.items() if not target.holds] == [missed]
    assert [row[0] for row in target_rows(report) if row[-1] == "MISSED"] == [missed]


def test_what_the_machine_withheld_stands_beside_the_worst_window_and_excuses_nothing() -> None:
    """The window counts as measured."""
    [line] = [line for line in remarks(FINE) if "worst window" in line]
    assert "(0.2 points) processors were withheld from the programs for 30 % of it" in line
    assert "of 2 windows 1 had at most 10 %, the worst of them 0.1 points" in line
    starved = replace(TENANT, errors_pct=(0.1, 9.0))
    report = replace(FINE, share_error_pct=ShareError(mean=0.1, max=9.0), scenarios=(Scenario(tenants=(starved,), jain=0.9999),))
    assert not targets_of(report).holds


def test_the_table_shows_each_tenant_and_the_spread_of_each_comparison() -> None:
    """People read what the JSON holds."""
    [row] = share_rows(FINE)
    assert row == ("1", "20, 200", "50", "49.90", "2 x 2", "0.20")
    assert any("0.2 % (0.1 to 0.3 in 3 runs)" in line for line in remarks(FINE))
    assert any("weigh 100, 300 got 24.5, 75.5 % of it, due 25, 75" in line for line in remarks(FINE))
    assert any("withdrawn 90 ms" in line for line in remarks(replace(FINE, system=slow_system())))
