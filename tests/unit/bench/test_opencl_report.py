"""What ``mica bench isolation --backend opencl`` says of its figures, and its arithmetic."""

import pytest
from msgspec.structs import replace

from mica.bench._isolation_report import (
    Noise,
    Reaction,
    Scenario,
    ShareError,
    Tenant,
    Vram,
    Weights,
    share_rows,
    spread,
    target_rows,
)
from mica.bench._machine import describe_machine
from mica.bench._opencl_device import rate
from mica.bench._opencl_report import Added, Killed, Moves, OpenClReport, Reply, Solo, Throughput, remarks, targets_of

ONE = spread([1.0])
TENANT = Tenant(share_pct=60.0, measured_pct=59.5, kernels_us=(500,), window_s=5.0, errors_pct=(0.5,), withheld_pct=(30.0,))
SAME = Throughput(
    kernels_us=(500, 500),
    shares_pct=(60.0, 40.0),
    borrows=False,
    alone_per_s=((1900.0, 1950.0), (1900.0, 1950.0)),
    slices_pct=((58.0, 39.0),),
    total_pct=spread([97.0]),
    error_pct=spread([0.5]),
    target_pct=95.0,
)
MIXED = replace(SAME, kernels_us=(500, 3000), error_pct=spread([1.5]), total_pct=spread([91.0]), target_pct=90.0)
TURNS = Reply(
    kernel_us=3000,
    neighbour_us=3000,
    parts=False,
    alone_p50_ms=ONE,
    alone_p99_ms=ONE,
    times_p50=spread([1.5]),
    times_p99=spread([1.9]),
    bare_times_p50=ONE,
    bare_times_p99=ONE,
    kernels_p99=spread([1.0]),
)
LONGER = replace(TURNS, neighbour_us=30_000, times_p50=spread([9.0]), times_p99=spread([9.0]), kernels_p99=spread([2.5]))
PARTS = replace(TURNS, parts=True, times_p50=spread([1.0]), times_p99=spread([1.05]))
FINE = OpenClReport(
    share_error_pct=ShareError(mean=0.5, max=0.5),
    jain=0.999,
    noisy_neighbour_pct=1.0,
    vram_accuracy_pct=100.0,
    reaction_ms=30.0,
    windows=1,
    scenarios=(Scenario(tenants=(TENANT,), jain=0.999),),
    noise=(Noise(neighbour_us=500, window_s=5.0, alone_pct=50.0, beside_pct=49.0, lost_pct=ONE),),
    latency=(),
    vram=(Vram(processes=2, limit_bytes=10, taken_bytes=10, held_bytes=10, accuracy_pct=100.0),),
    weights=Weights(weights=(100, 200), due_pct=(33.3, 66.7), measured_pct=(33.0, 67.0), slice_pct=99.0),
    reaction=Reaction(raised_ms=ONE, lowered_ms=spread([30.0])),
    throughput=(SAME, MIXED),
    solo=(Solo(kernel_us=500, pct=spread([99.0])),),
    replies=(TURNS, LONGER, PARTS),
    killed=Killed(kernel_us=20_000, delay_ms=spread([20.0])),
    moves=Moves(before_pct=99.0, beside_pct=49.0, after_pct=99.0, arrived_ms=ONE, left_ms=ONE),
    added=Added(trip_us=spread([2.0]), bare_trip_us=spread([34.0]), enqueue_us=spread([0.5]), bare_enqueue_us=spread([2.0])),
    machine=describe_machine(),
    device="PoCL",
)


def test_a_report_that_meets_all_targets_holds() -> None:
    """And each target is a row with its figure."""
    report = targets_of(FINE)
    assert report.holds
    assert {row[-1] for row in target_rows(report)} == {"holds"}
    assert len(target_rows(report)) == len(report.targets) == 15
    assert len(share_rows(report)) == 1


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"throughput": (replace(SAME, error_pct=spread([1.1])),)}, "relative share error, 60/40 % of 500 us"),
        ({"throughput": (replace(SAME, total_pct=spread([94.9])),)}, "throughput together, 60/40 % of 500 us"),
        ({"throughput": (replace(MIXED, error_pct=spread([2.1])),)}, "relative share error, 60/40 % of 500/3000 us"),
        ({"jain": 0.997}, "Jain's index"),
        ({"solo": (Solo(kernel_us=500, pct=spread([97.9])),)}, "one slice alone, 500 us"),
        ({"replies": (replace(TURNS, times_p50=spread([1.8])),)}, "latency, p50, 3000 us beside 3000 us"),
        ({"replies": (replace(TURNS, times_p99=spread([2.1])),)}, "latency, p99, 3000 us beside 3000 us"),
        ({"replies": (replace(LONGER, kernels_p99=spread([3.1])),)}, "latency, p99, 3000 us beside 30000 us"),
        ({"replies": (replace(PARTS, times_p99=spread([1.2])),)}, "latency, p99, 3000 us beside 3000 us, in parts"),
        ({"killed": Killed(kernel_us=20_000, delay_ms=spread([51.0]))}, "delay by a killed tenant"),
        ({"vram_accuracy_pct": 99.9}, "VRAM accuracy"),
        ({"added": replace(FINE.added, trip_us=spread([5.1]))}, "added to a round trip"),
        ({"added": replace(FINE.added, enqueue_us=spread([0.8]))}, "added to a pipelined enqueue"),
    ],
)
def test_each_missed_target_is_told_and_the_report_does_not_hold(changed: dict[str, object], missed: str) -> None:
    """One figure over its target is one row that says so."""
    report = targets_of(replace(FINE, **changed))
    assert not report.holds
    assert [name for name, target in report.targets.items() if not target.holds] == [missed]


def test_the_rest_is_said_in_lines() -> None:
    """What was measured without a target, and the machine, are in the text."""
    text = "\n".join(remarks(FINE))
    for part in ("alone before and after 1900 and 1950/s", "2 programs took 10 of 10 bytes", "without layer", "device: PoCL"):
        assert part in text


def test_a_rate_counts_what_ended_between_two_moments() -> None:
    """A second of which the first half is looked at: what ended at its end is not in it."""
    assert rate([1, 2, 5 * 10**8, 10**9], 0, 5 * 10**8) == pytest.approx(4.0)
    assert rate([], 0, 1) == 0.0
