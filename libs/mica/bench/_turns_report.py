"""What ``mica bench turns`` measures, and what it says. Invariant: pure; a target that is missed is said to be missed."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from mica.bench._isolation_report import Spread
from mica.bench._machine import Machine
from mica.bench._shares import jain
from mica.events import Mode, Overruns, Tier

JAIN_LEAST: Final = 0.99
LOOKS_S: Final = 0.5
"""What a hold may take beyond its grace: two looks of the enforcer, a period of the windows, and the death of a process."""
LENT_LEAST_PCT: Final = 90.0


class Share(Struct, frozen=True):
    """One tenant: its share of the device (percent), and how long its kernels are."""

    share_pct: float
    kernel_us: int


class Plan(Struct, frozen=True, kw_only=True):
    """How much to measure.

    ``holds``: the tiers that get a kernel of ``endless_s``; ``comebacks``: how often an owner comes back.
    """

    scenarios: tuple[tuple[Share, ...], ...]
    seconds: float = 4.0
    comebacks: int = 20
    holds: tuple[Tier, ...] = (Tier.GUARANTEED, Tier.BURST, Tier.SPOT)
    endless_s: int = 10


class Tenant(Struct, frozen=True):
    """What a tenant was to have and had, by the device's books (percent)."""

    share_pct: float
    kernel_us: int
    measured_pct: float


class Switch(Struct, frozen=True):
    """What the change from one slice's window to the next costs.

    ``lost_ms``: device time in which nothing ran, per window, by the books. The others are the shims' own: how long after its
    window opened the first work of a slice began, how long after its end the last was still there, and the guard that they
    keep.
    """

    lost_ms: float
    began_ms: float
    late_ms: float
    guard_ms: float
    windows: int


class Scenario(Struct, frozen=True):
    """Tenants that all have more to do than they may. ``withheld_pct``: processor time that the machine kept from them."""

    tenants: tuple[Tenant, ...]
    jain: float
    switch: Switch
    withheld_pct: float


class Lending(Struct, frozen=True):
    """A borrower beside an owner: its part of the device while the owner is idle, and while both work (percent of its share).

    ``back_ms``: from the moment at which the owner goes on (inside its window, where it has one) until its work is on the device.
    """

    mode: Mode
    lent_pct: float
    both_pct: float
    owner_pct: float
    back_ms: Spread


class Hold(Struct, frozen=True):
    """How long a kernel without end kept the device from its neighbour (s), and the grace of its tier, all steps together."""

    tier: Tier
    hold_s: float
    grace_s: float
    steps: tuple[str, ...]

    @property
    def is_kept(self) -> bool:
        """Whether the device was free in time."""
        return self.hold_s <= self.grace_s + LOOKS_S


class Measured(Struct, frozen=True):
    """Everything, without the machine."""

    scenarios: tuple[Scenario, ...]
    lending: tuple[Lending, ...]
    holds: tuple[Hold, ...]


class Report(Struct, frozen=True, kw_only=True):
    """The report. ``jain`` is that of the worst scenario, ``switch_ms`` the mean time lost per window."""

    jain: float
    switch_ms: float
    kept: bool
    targets: dict[str, str]
    scenarios: tuple[Scenario, ...]
    lending: tuple[Lending, ...]
    holds: tuple[Hold, ...]
    machine: Machine


def scenario_of(shares: Sequence[Share], measured_pct: Sequence[float], switch: Switch, withheld_pct: float) -> Scenario:
    """A scenario as it went."""
    tenants = tuple(
        Tenant(share.share_pct, share.kernel_us, round(got, 3)) for share, got in zip(shares, measured_pct, strict=True)
    )
    fair = jain([tenant.measured_pct / tenant.share_pct for tenant in tenants])
    return Scenario(tenants, round(fair, 5), switch, round(withheld_pct, 2))


def grace_s(tier: Tier, window_s: float, policy: Overruns) -> float:
    """From a kernel's begin until its process is ended, by the policy."""
    grace = policy.grace(tier)
    return window_s + grace.throttle_s + grace.pause_s + grace.terminate_s


def report_of(measured: Measured, machine: Machine) -> Report:
    """The report of what was measured."""
    worst = min(scenario.jain for scenario in measured.scenarios)
    windows = sum(scenario.switch.windows for scenario in measured.scenarios)
    lost_ms = sum(scenario.switch.lost_ms * scenario.switch.windows for scenario in measured.scenarios) / max(1, windows)
    targets = {
        "Jain's index, worst scenario": _target(worst >= JAIN_LEAST, f"{worst:g}, at least {JAIN_LEAST:g}"),
    }
    targets |= {
        f"lent while the owner is idle, {each.mode}": _target(
            each.lent_pct >= LENT_LEAST_PCT, f"{each.lent_pct:g} %, at least {LENT_LEAST_PCT:g} %"
        )
        for each in measured.lending
    }
    targets |= {
        f"a kernel without end, {hold.tier}": _target(
            hold.is_kept, f"{hold.hold_s:g} s, at most {hold.grace_s:g} s of grace and {LOOKS_S:g} s"
        )
        for hold in measured.holds
    }
    return Report(
        jain=worst,
        switch_ms=round(lost_ms, 4),
        kept=all(hold.is_kept for hold in measured.holds),
        targets=targets,
        scenarios=measured.scenarios,
        lending=measured.lending,
        holds=measured.holds,
        machine=machine,
    )


def _target(met: bool, said: str) -> str:  # noqa: FBT001 - there is nothing else to say about a target
    return f"{'met' if met else 'MISSED'}: {said}"


HEAD: Final = ("tenants", "shares %", "kernels (us)", "measured %", "Jain", "lost ms/window", "began ms", "late ms")


def rows(report: Report) -> list[tuple[str, ...]]:
    """A line for each scenario."""
    return [
        (
            str(len(each.tenants)),
            " ".join(f"{tenant.share_pct:g}" for tenant in each.tenants),
            " ".join(str(tenant.kernel_us) for tenant in each.tenants),
            " ".join(f"{tenant.measured_pct:.1f}" for tenant in each.tenants),
            f"{each.jain:.4f}",
            f"{each.switch.lost_ms:.3f}",
            f"{each.switch.began_ms:.3f}",
            f"{each.switch.late_ms:.3f}",
        )
        for each in report.scenarios
    ]


def remarks(report: Report) -> list[str]:
    """What stands below the table."""
    worst = max(report.scenarios, key=lambda each: each.withheld_pct)
    lines = [f"{name}: {said}" for name, said in report.targets.items()]
    for each in report.lending:
        back = each.back_ms
        lines.append(
            f"{each.mode}: an owner that goes on has the device back after {back.median:g} ms ({back.most:g} at most, "
            f"{back.runs} times); with both at work the owner has {each.owner_pct:g} % and the borrower {each.both_pct:g} %"
        )
    lines += [f"{hold.tier}: {', '.join(hold.steps)}; the neighbour stood still for {hold.hold_s:g} s" for hold in report.holds]
    lines.append(f"the machine kept processors from the programs for up to {worst.withheld_pct:g} % of the time")
    return lines
