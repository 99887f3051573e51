"""The SLO guard: what a pool's policy allows it, and what it remembers of a slice.

Invariant: what the guard has done and not taken back stands here until it is, so that a restart, or another replica, goes on.
"""

from typing import Annotated

from msgspec import Meta, Struct, field

from mica.events._placement import NOTHING_ASKED, AskedLimits
from mica.events._state import Document
from mica.events._vocabulary import Control, GuardMode, GuardRung, PoolName, SharePpm, SliceId, StepPhase, Tier, UnixNs

ALL_TIERS = (Tier.GUARANTEED, Tier.BURST, Tier.SPOT)


class Guarding(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A pool's policy for the SLO guard.

    ``mode``: ``off``, ``dry_run`` (tell what would be done) or ``act``. Then by rung the tiers for which it may be done:
    ``ceiling`` and ``resize`` of the slice whose SLO is broken; ``throttle``, ``squeeze``, ``pause`` and ``evict`` of its
    neighbour; ``move`` of either. At most ``actions_per_hour`` for a slice and ``fleet_actions_per_hour`` in the pool, those of
    a slice ``cooldown_s`` apart (None: as the guard was started). What helped is taken back ``hold_s`` after the SLO is kept
    again, after twice that when it broke at once, and so on up to ``hold_max_s``. ``grace_s``: what a slice that is moved or
    evicted has.
    """

    mode: GuardMode = GuardMode.ACT
    ceiling: tuple[Tier, ...] = ALL_TIERS
    throttle: tuple[Tier, ...] = ALL_TIERS
    squeeze: tuple[Tier, ...] = (Tier.SPOT,)
    pause: tuple[Tier, ...] = (Tier.SPOT,)
    resize: tuple[Tier, ...] = ALL_TIERS
    move: tuple[Tier, ...] = (Tier.SPOT,)
    evict: tuple[Tier, ...] = (Tier.SPOT,)
    actions_per_hour: Annotated[int, Meta(ge=0, le=60)] = 12
    fleet_actions_per_hour: Annotated[int, Meta(ge=0, le=1000)] = 120
    cooldown_s: Annotated[float, Meta(ge=1, le=86_400)] | None = None
    hold_s: Annotated[float, Meta(ge=5, le=86_400)] = 60.0
    hold_max_s: Annotated[float, Meta(ge=5, le=604_800)] = 3600.0
    grace_s: Annotated[float, Meta(ge=0, le=3600)] = 5.0


class Burn(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """How bad the requests of late were: the past counts less and less, by a time of its own (``mica.slo_guard.burning``).

    ``spent``: the part of the time in which they were bad, a window of which half are bad counts half. ``total`` and ``bad``:
    so many were counted. Of a run of bad windows: all of it in full, in ``seconds``.
    """

    spent: float = 0.0
    total: float = 0.0
    bad: float = 0.0
    seconds: float = 0.0


class Setting(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What is set of a slice: its control word, its share or some of its limits. What is left out is not touched."""

    control: Control | None = None
    share_ppm: SharePpm | None = None
    limits: AskedLimits = NOTHING_ASKED


class GuardStep(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One action of the guard.

    ``id`` is its ``action_id``. ``to`` is what it sets of ``target``, ``was`` what that was before. ``command_sequence``: the
    command that did it, 0 while that is not known to be sent; ``undo_sequence``: the one that took it back. ``objective`` was
    ``before``, with ``promised`` promised; ``after`` is the last value since, ``first_after`` the first, ``windows`` how many
    there were. ``ready_at``: when it was measured, ``ended_at``: when it was refused, undone or left. ``hold_s``: how long the
    SLO has to be kept before it is taken back, 0: it is kept for good; of a move or an eviction, the grace. ``told``: what was
    measured of it is published. ``note``: how it ended, in words.
    """

    id: str
    rung: GuardRung
    target: SliceId
    phase: StepPhase
    at: UnixNs
    to: Setting = Setting()
    was: Setting = Setting()
    objective: str = ""
    promised: float = 0.0
    before: float = 0.0
    first_after: float | None = None
    after: float | None = None
    windows: int = 0
    helped: bool = False
    told: bool = True
    command_sequence: int = 0
    undo_sequence: int = 0
    ready_at: UnixNs = 0
    ended_at: UnixNs = 0
    hold_s: float = 0.0
    cause: str = ""
    evidence: dict[str, float] = field(default_factory=dict)
    message: str = ""
    expected: str = ""
    note: str = ""


class Episode(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A breach from its beginning to its end (``ended_at`` 0: it goes on).

    ``began_at``: the first bad window's beginning; ``detected_at``: when the guard was sure. ``observed`` is what ``objective``
    was then, ``worst`` its worst since, ``kept_at`` when it was kept again; ``sequence`` is that of the report that told it last,
    which is not published while it is not ``told``. ``blamed``: the slice that was found to be the reason,
    empty: none; ``why`` says by what. ``rests``: so often nothing was left to do. ``returned``: so often it came back,
    the last time at ``returned_at``.
    """

    began_at: UnixNs
    detected_at: UnixNs
    objective: str
    promised: float
    observed: float
    worst: float
    burn_short: float = 0.0
    burn_long: float = 0.0
    short_s: float = 0.0
    long_s: float = 0.0
    blamed: str = ""
    why: str = ""
    evidence: dict[str, float] = field(default_factory=dict)
    kept_at: UnixNs = 0
    ended_at: UnixNs = 0
    dry_run: bool = False
    rests: int = 0
    returned: int = 0
    returned_at: UnixNs = 0
    sequence: int = 0
    told: bool = True


class GuardState(Document, frozen=True, kw_only=True):
    """``guard.<id>``: what the guard remembers of a slice. Writer: slo_guard.

    ``breaches`` counts the bad windows in a row since the last action. ``sequence`` is the stream sequence of the last
    report judged, ``action_sequence`` that of the report which caused ``last_action``, and ``command_sequence`` that of
    the last command it sent. ``last_share_ppm``: the share that the guard gave it last; 0: none, or that was taken back.
    ``reported_at``: when the last report that is remembered was. ``burns`` and ``run``: as ``mica.slo_guard.burning`` has them.
    ``bad_since``: when the present bad windows began, ``run_since``: those without a good one between. ``quiet_since``: since
    when the SLO is kept again, 0: it is not so; ``quiet_bad_s``: so much of that was bad nevertheless. ``rest_until``: nothing is
    done until then. ``since``: what was counted since the last action had settled, ``since_ratio``: how near to the promise the
    slowest of each of these windows (``since_windows``) was, on average: 1 is as long as promised. ``acted``: when it acted
    within the last hour.
    ``steps``: what is in force, and what the last breach brought. ``episode``: the last breach. ``traceparent``: of the report
    that it acted upon.
    """

    id: SliceId
    breaches: int = 0
    last_action_at: UnixNs = 0
    last_share_ppm: int = 0
    last_action: str = ""
    sequence: int = 0
    action_sequence: int = 0
    command_sequence: int = 0
    reported_at: UnixNs = 0
    burns: tuple[Burn, ...] = ()
    run: Burn = Burn()
    run_since: UnixNs = 0
    bad_since: UnixNs = 0
    quiet_since: UnixNs = 0
    quiet_bad_s: float = 0.0
    rest_until: UnixNs = 0
    since: Burn = Burn()
    since_ratio: float = 0.0
    since_windows: int = 0
    acted: tuple[UnixNs, ...] = ()
    steps: tuple[GuardStep, ...] = ()
    episode: Episode | None = None
    traceparent: str = ""


class GuardLease(Document, frozen=True, kw_only=True):
    """``guard_lease.<id>``: for which slice's SLO the guard has done something to slice ``id``. Writer: slo_guard.

    While that stands, it does nothing to it for another one. ``victim``: the slice whose SLO it is; empty: nobody's now.
    """

    id: SliceId
    victim: str = ""
    at: UnixNs = 0


class GuardBudget(Document, frozen=True, kw_only=True):
    """``guard_budget.<pool>``: what the guard did in a pool within the last hour, by action and time. Writer: slo_guard."""

    pool: PoolName
    spent: dict[str, UnixNs] = field(default_factory=dict)
