"""What ``mica bench isolation --backend opencl`` measures. Invariant: pure data; ``quick`` asks the same for a shorter time."""

from typing import Final

from msgspec import Struct


class Mix(Struct, frozen=True):
    """Tenants at once, each a share (percent) and how long its kernels take alone (us).

    ``borrows``: who has more to do may use what others leave.
    """

    tenants: tuple[tuple[float, int], ...]
    borrows: bool = False


class Plan(Struct, frozen=True, kw_only=True):
    """How much to measure.

    ``window_s`` is how long shares are looked at, ``alone_s`` each look at a program alone, ``reply_s`` each at latency,
    ``trip_s`` at round trips; ``replies_us`` are kernels of a tenant and of the flood beside it, ``replies_in_parts_us`` where
    each has a part of the device; ``steps`` is how often a share is halved and doubled and a tenant comes and goes, each for
    ``step_s``; ``kills`` is how often one is killed. In ``settle_s`` programs come up, and kernels are first measured.
    """

    mixes: tuple[Mix, ...]
    runs: int
    window_s: float = 5.0
    alone_s: float = 2.0
    reply_s: float = 10.0
    neighbours_us: tuple[int, ...] = (500, 20_000)
    replies_us: tuple[tuple[int, int], ...] = ((3_000, 3_000), (500, 500), (3_000, 30_000))
    replies_in_parts_us: tuple[tuple[int, int], ...] = ((3_000, 3_000),)
    solo_us: tuple[int, ...] = (500, 3_000, 20_000)
    vram_processes: tuple[int, ...] = (1, 3)
    steps: int = 3
    trip_s: float = 10.0
    step_s: float = 1.0
    settle_s: float = 1.0
    kills: int = 5


MIXES: Final = (
    Mix(((60, 500), (30, 500), (10, 500))),
    Mix(((60, 3_000), (30, 3_000), (10, 3_000))),
    Mix(((50, 1_000), (50, 1_000))),
    Mix(((40, 2_000), (30, 2_000), (20, 2_000), (10, 2_000))),
    Mix(((60, 1_000), (30, 1_000), (10, 1_000)), borrows=True),
    Mix(((60, 500), (30, 3_000), (10, 12_000))),
    Mix(((50, 20_000), (50, 500))),
)


def full(runs: int) -> Plan:
    """Everything, with so many runs of each comparison; about ten minutes with three."""
    return Plan(mixes=MIXES, runs=runs)


def quick() -> Plan:
    """The same parts, for a moment each: to see that they work, not what they say."""
    return Plan(
        mixes=(Mix(((60, 500), (40, 2_000))),),
        runs=1,
        window_s=0.5,
        alone_s=0.3,
        reply_s=0.5,
        neighbours_us=(500,),
        replies_us=(),
        replies_in_parts_us=((500, 500),),
        solo_us=(500,),
        vram_processes=(2,),
        steps=1,
        trip_s=0.4,
        step_s=0.4,
        settle_s=0.3,
        kills=1,
    )
