"""What ``mica bench isolation`` measures. Invariant: pure data; ``quick`` looks at the same things for a shorter time."""

from typing import Final

from msgspec import Struct

from mica.bench._device import kernel

DURATIONS_US: Final = (20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000, 50_000)
WINDOW_S: Final = 2.0
WINDOW_KERNELS: Final = 400


class TenantPlan(Struct, frozen=True):
    """One tenant of a scenario. ``depth``: how many kernels it leaves unfinished, 0 for a flood."""

    share_pct: float
    kernels_us: tuple[int, ...]
    depth: int = 0
    least_s: float = WINDOW_S
    kernels: int = WINDOW_KERNELS

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of its program."""
        return "work", ",".join(kernel(each) for each in self.kernels_us), str(self.depth)

    @property
    def window_s(self) -> float:
        """How long its share is looked at: the time that so many of its kernels take at that share, if that is longer."""
        mean_s = sum(self.kernels_us) / len(self.kernels_us) / 1e6
        return max(self.least_s, self.kernels * mean_s / (self.share_pct / 100))


class Plan(Struct, frozen=True, kw_only=True):
    """How much to measure.

    ``steps`` is how often a share is halved and doubled, ``changes`` how often a whole system does so, lends, and takes back.
    """

    scenarios: tuple[tuple[TenantPlan, ...], ...]
    neighbours_us: tuple[int, ...] = (20, 2_000, 20_000)
    runs: int = 3
    window_s: float = WINDOW_S
    window_kernels: int = WINDOW_KERNELS
    vram_processes: tuple[int, ...] = (1, 3, 8)
    steps: int = 5
    changes: int = 5


SCENARIOS: Final = (
    (TenantPlan(50, (200,)), TenantPlan(50, (200,))),
    (TenantPlan(90, (20,)), TenantPlan(5, (200,))),
    (TenantPlan(60, (20,)), TenantPlan(30, (1_000,)), TenantPlan(10, (100,), 16)),
    (TenantPlan(40, (20, 200)), TenantPlan(30, (5_000,)), TenantPlan(20, (50, 500), 32), TenantPlan(10, (200,))),
    tuple(
        TenantPlan(share, (us,))
        for share, us in ((5, 50), (5, 20), (10, 100), (10, 500), (15, 200), (15, 20), (20, 1_000), (20, 50))
    ),
    (TenantPlan(60, (50_000,)), TenantPlan(40, (20,))),
)


def full(runs: int) -> Plan:
    """Everything, with so many runs of each comparison; about four minutes with three."""
    return Plan(scenarios=SCENARIOS, runs=runs)


def quick() -> Plan:
    """The same parts, for a few seconds each: to see that they work, not what they say."""
    first = (TenantPlan(50, (200,), 0, 0.5, 10), TenantPlan(30, (20, 500), 16, 0.5, 10))
    return Plan(
        scenarios=(first,),
        neighbours_us=(2_000,),
        runs=1,
        window_s=0.5,
        window_kernels=10,
        vram_processes=(2,),
        steps=1,
        changes=0,
    )
