"""What ``mica bench turns`` makes of what it measured."""

import msgspec

from mica.bench._isolation_report import spread
from mica.bench._machine import describe_machine
from mica.bench._turns_report import Hold, Lending, Measured, Share, Switch, grace_s, remarks, report_of, rows, scenario_of
from mica.bench.turns import full, quick
from mica.events import Mode, Overruns, Tier

SWITCH = Switch(0.2, 0.1, 0.0, 0.05, 10)
SHARES = (Share(50, 200), Share(25, 1_000))
LENDING = Lending(Mode.TIMESLICE, 98.0, 50.0, 49.0, spread([1.0, 3.0]))
HOLD = Hold(Tier.SPOT, 1.9, 1.8, ("throttled at 0.31 s",))


def measured(**parts: object) -> Measured:
    """Two tenants that got their shares, except for what is given."""
    scenario = scenario_of(SHARES, [49.0, 24.5], SWITCH, 1.0)
    usual = {"scenarios": (scenario,), "lending": (LENDING,), "holds": (HOLD,)}
    return Measured(**(usual | parts))  # type: ignore[arg-type]


def test_jains_index_is_of_what_each_got_of_its_due() -> None:
    """Unequal shares that are kept are as fair as equal ones."""
    assert scenario_of(SHARES, [49.0, 24.5], SWITCH, 0).jain == 1.0
    assert scenario_of(SHARES, [50.0, 0.0], SWITCH, 0).jain == 0.5


def test_the_worst_scenario_and_the_mean_of_all_switches_count() -> None:
    """Each window as much as any other."""
    fair, unfair = (
        scenario_of(SHARES, got, Switch(lost, 0, 0, 0, n), 0) for got, lost, n in (([50, 25], 1.0, 30), ([50, 5], 3.0, 10))
    )
    report = report_of(measured(scenarios=(fair, unfair)), describe_machine())
    assert report.jain == unfair.jain < 0.99
    assert report.switch_ms == 1.5
    assert report.targets["Jain's index, worst scenario"].startswith("MISSED: ")


def test_a_target_that_is_missed_is_said_to_be_missed() -> None:
    """A device that was held longer than the grace, or not lent."""
    late = Hold(Tier.BURST, 9.9, 3.5, ())
    idle = Lending(Mode.FCSP, 50.0, 50.0, 50.0, spread([1.0]))
    report = report_of(measured(holds=(HOLD, late), lending=(LENDING, idle)), describe_machine())
    assert not report.kept
    said = {name: text.split(":")[0] for name, text in report.targets.items()}
    assert said == {
        "Jain's index, worst scenario": "met",
        "lent while the owner is idle, timeslice": "met",
        "lent while the owner is idle, fcsp": "MISSED",
        "a kernel without end, spot": "met",
        "a kernel without end, burst": "MISSED",
    }
    assert any("9.9 s" in line for line in remarks(report))
    assert len(rows(report)) == 1


def test_a_grace_is_the_window_and_all_steps() -> None:
    """By the tier's policy."""
    assert grace_s(Tier.GUARANTEED, 0.05, Overruns()) == 8.05
    assert grace_s(Tier.SPOT, 0.05, Overruns()) == 1.8


def test_plans_are_within_a_device() -> None:
    """No scenario asks for more than there is, and a plan survives its way to the measuring process."""
    for plan in (full(), quick()):
        assert all(sum(share.share_pct for share in scenario) <= 100 for scenario in plan.scenarios)
        assert msgspec.json.decode(msgspec.json.encode(plan), type=type(plan)) == plan
