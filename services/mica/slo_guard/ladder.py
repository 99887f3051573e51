"""What can be done about a breach, the mildest first, and which of it exists for whom. Pure.

With a neighbour to blame it is dealt with first: held to its share, given less, paused. Then the slice itself gets more: what
others leave idle, a larger share. Then one of them is moved, and at last the neighbour evicted. With nobody to blame only the
slice itself is dealt with.

Invariant: what a rung does to a neighbour never takes from a guaranteed or burst slice what it was promised, unless the pool's
policy says so by name; a rung that does not exist says why.
"""

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct

from mica.events import (
    NO_LIMITS,
    PPM,
    AskedLimits,
    Control,
    Guarding,
    GuardRung,
    LedgerEntry,
    Mode,
    Setting,
    SliceRecord,
    Tier,
    WorkLimits,
)
from mica.slo_guard.blaming import HELD_BACK, Finding

STEP_PPM: Final = 1_250_000
"""A resize multiplies the share by so many millionths."""
SQUEEZE_PARTS: Final = 2
SHARE_LEAST_PPM: Final = 10_000
COPY_LEAST: Final = 16 << 20
LAUNCH_LEAST: Final = 10


class Standing(Struct, frozen=True, kw_only=True):
    """What a slice has now, on each of its devices. ``members``: on how many."""

    id: str
    tier: Tier
    mode: Mode
    share_ppm: int
    control: Control = Control.RUN
    limits: WorkLimits = NO_LIMITS
    members: int = 1

    @property
    def ceiling_ppm(self) -> int:
        """What it may use while others are idle."""
        return max(self.share_ppm, self.limits.ceiling_ppm or (PPM if self.tier is Tier.BURST else 0))


class Plan(Struct, frozen=True, kw_only=True):
    """One thing to do: ``to`` is what is set of ``target``, ``was`` what that is now. A move and an eviction set nothing."""

    rung: GuardRung
    target: str
    to: Setting = Setting()
    was: Setting = Setting()
    message: str
    expected: str = ""


class Scene(Struct, frozen=True, kw_only=True):
    """Who is concerned: the slice, who was found, that neighbour, and whether something is done to it for another slice now."""

    victim: Standing
    finding: Finding
    suspect: Standing | None = None
    leased_to: str = ""


def standing_of(record: SliceRecord) -> Standing:
    """What a placed slice has."""
    first = record.placements[0]
    return Standing(
        id=record.id, tier=record.request.tier, mode=first.mode, share_ppm=first.share_ppm, control=record.control,
        limits=first.limits, members=len(record.placements),
    )  # fmt: skip


def standing_in(entry: LedgerEntry) -> Standing:
    """What a slice has on a device, by the ledger."""
    return Standing(
        id=entry.id, tier=entry.tier, mode=entry.mode, share_ppm=entry.share_ppm, control=entry.control, limits=entry.limits
    )


def choose(policy: Guarding, scene: Scene, tried: AbstractSet[tuple[str, str]]) -> Plan | str:
    """The mildest thing that is left to do; or, in words, why there is none. ``tried``: rungs and targets that are not to be."""
    reasons: list[str] = []
    for rung, outcome in _outcomes(policy, scene):
        if isinstance(outcome, str):
            reasons.append(f"{rung}: {outcome}")
        elif (outcome.rung, outcome.target) in tried:
            reasons.append(f"{rung}: done, or tried in vain")
        else:
            return outcome
    return "; ".join(reasons)


def _outcomes(policy: Guarding, scene: Scene) -> Iterator[tuple[GuardRung, Plan | str]]:
    suspect = scene.suspect
    if suspect is not None:
        for rung, make in _NEIGHBOUR.items():
            yield rung, _on_neighbour(policy, scene, suspect, (rung, make))
    yield GuardRung.CEILING, _ceiling(policy, scene)
    yield GuardRung.RESIZE, _resize(policy, scene)
    if suspect is not None:
        yield GuardRung.MOVE, _on_neighbour(policy, scene, suspect, (GuardRung.MOVE, _move_away))
    yield GuardRung.MOVE, _move(policy, scene.victim)
    if suspect is not None:
        yield GuardRung.EVICT, _on_neighbour(policy, scene, suspect, (GuardRung.EVICT, _evict))


Make = Callable[[Standing, Finding], Plan | str]


def _on_neighbour(policy: Guarding, scene: Scene, suspect: Standing, what: tuple[GuardRung, Make]) -> Plan | str:
    rung, make = what
    if scene.leased_to:
        return f"{suspect.id} is already dealt with for {scene.leased_to}"
    if suspect.tier not in getattr(policy, rung.value):
        return f"not of {suspect.tier} slices by the pool's policy"
    if suspect.mode is Mode.HARDWARE and rung in _NEIGHBOUR:
        return f"{suspect.id} is a hardware partition, which shares no compute and has neither a ceiling nor a rate"
    if suspect.control not in (Control.RUN, Control.THROTTLE):
        return f"{suspect.id} is under control {suspect.control}"
    return make(suspect, scene.finding)


def _throttle(suspect: Standing, finding: Finding) -> Plan | str:
    if suspect.mode is not Mode.FCSP:
        return f"{suspect.id} runs in windows, and uses nothing beyond them"
    if suspect.control is Control.THROTTLE:
        return f"{suspect.id} is throttled already"
    if suspect.ceiling_ppm <= suspect.share_ppm:
        return f"{suspect.id} can use no more than its share of {_pct(suspect.share_ppm)} already"
    return Plan(
        rung=GuardRung.THROTTLE,
        target=suspect.id,
        to=Setting(control=Control.THROTTLE),
        was=Setting(control=suspect.control),
        message=f"{suspect.id} is held to its share of {_pct(suspect.share_ppm)}",
        expected=f"{suspect.id} falls back to {_pct(suspect.share_ppm)} of the device{_from(finding)}",
    )


def _squeeze(suspect: Standing, finding: Finding) -> Plan | str:
    """Half of what it takes most of: copies, launches, or its share."""
    own, evidence = suspect.limits, finding.evidence
    if finding.cause == "copies":
        now = int(evidence.get("copied_mib_per_s_now", evidence.get("copied_mib_per_s_in_bad_windows", 0.0)) * (1 << 20))
        to = max(COPY_LEAST, now // SQUEEZE_PARTS)
        limits, was = AskedLimits(copy_bytes_per_s=to), AskedLimits(copy_bytes_per_s=own.copy_bytes_per_s or 0)
        return _squeezed(suspect, (Setting(limits=limits), Setting(limits=was)), f"copies at {to >> 20} MiB/s at most")
    if finding.cause == "launches":
        to = max(
            LAUNCH_LEAST, int(evidence.get("launches_hz_now", evidence.get("launches_hz_in_bad_windows", 0.0))) // SQUEEZE_PARTS
        )
        limits, was = AskedLimits(launch_rate_hz=to), AskedLimits(launch_rate_hz=own.launch_rate_hz or 0)
        return _squeezed(suspect, (Setting(limits=limits), Setting(limits=was)), f"{to} launches a second at most")
    to = max(SHARE_LEAST_PPM, suspect.share_ppm // SQUEEZE_PARTS)
    if to >= suspect.share_ppm:
        return f"{suspect.id} has no more than {_pct(suspect.share_ppm)}"
    settings = Setting(share_ppm=to), Setting(share_ppm=suspect.share_ppm)
    return _squeezed(suspect, settings, f"share from {_pct(suspect.share_ppm)} to {_pct(to)}")


def _squeezed(suspect: Standing, settings: tuple[Setting, Setting], what: str) -> Plan:
    to, was = settings
    expected = f"{suspect.id} does half as much of what disturbs"
    return Plan(rung=GuardRung.SQUEEZE, target=suspect.id, to=to, was=was, message=f"{suspect.id}: {what}", expected=expected)


def _pause(suspect: Standing, finding: Finding) -> Plan | str:
    return Plan(
        rung=GuardRung.PAUSE,
        target=suspect.id,
        to=Setting(control=Control.PAUSE),
        was=Setting(control=suspect.control),
        message=f"{suspect.id} is paused",
        expected=f"{suspect.id} launches nothing{_from(finding)}",
    )


def _move_away(suspect: Standing, _: Finding) -> Plan | str:
    if suspect.members > 1:
        return f"{suspect.id} is a gang, which is not moved"
    expected = f"{suspect.id} works on another device"
    return Plan(rung=GuardRung.MOVE, target=suspect.id, message=f"{suspect.id} is moved away", expected=expected)


def _evict(suspect: Standing, _: Finding) -> Plan | str:
    expected = f"{suspect.id} is gone"
    return Plan(rung=GuardRung.EVICT, target=suspect.id, message=f"{suspect.id} is evicted", expected=expected)


_NEIGHBOUR: Final = {GuardRung.THROTTLE: _throttle, GuardRung.SQUEEZE: _squeeze, GuardRung.PAUSE: _pause}


def _own(policy: Guarding, scene: Scene, rung: GuardRung) -> str:
    """Why the slice itself can't be given more of its device; empty where it can."""
    victim, held_back = scene.victim, scene.finding.held_back
    if victim.tier not in getattr(policy, rung.value):
        return f"not for {victim.tier} slices by the pool's policy"
    if victim.mode is Mode.HARDWARE:
        return "a hardware partition has the share it was made with, and no ceiling"
    if victim.control is not Control.RUN:
        return f"the slice is under control {victim.control}"
    if held_back is not None and held_back < HELD_BACK:
        return f"its own limits hold it back {held_back * 100:.0f} % of the time only"
    return ""


def _ceiling(policy: Guarding, scene: Scene) -> Plan | str:
    victim, refusal = scene.victim, _own(policy, scene, GuardRung.CEILING)
    if refusal:
        return refusal
    if victim.mode is not Mode.FCSP:
        return "a time slice has its windows, and no ceiling"
    if victim.ceiling_ppm >= PPM:
        return "it may use what others leave idle already"
    return Plan(
        rung=GuardRung.CEILING,
        target=victim.id,
        to=Setting(limits=AskedLimits(ceiling_ppm=PPM)),
        was=Setting(limits=AskedLimits(ceiling_ppm=victim.limits.ceiling_ppm or 0)),
        message="it may use what others leave idle",
        expected=f"more than {_pct(victim.share_ppm)} of the device while others are idle",
    )


def _resize(policy: Guarding, scene: Scene) -> Plan | str:
    victim, refusal = scene.victim, _own(policy, scene, GuardRung.RESIZE)
    if refusal:
        return refusal
    if victim.share_ppm >= PPM:
        return "the slice has the whole device"
    share_ppm = min(PPM, -(-victim.share_ppm * STEP_PPM // PPM))
    return Plan(
        rung=GuardRung.RESIZE,
        target=victim.id,
        to=Setting(share_ppm=share_ppm),
        was=Setting(share_ppm=victim.share_ppm),
        message=f"share from {victim.share_ppm} to {share_ppm} ppm",
        expected=f"a quarter more compute, up to {_pct(share_ppm)}",
    )


def _move(policy: Guarding, victim: Standing) -> Plan | str:
    if victim.tier not in policy.move:
        return f"not of {victim.tier} slices by the pool's policy"
    if victim.members > 1:
        return "it is a gang, which is not moved"
    return Plan(rung=GuardRung.MOVE, target=victim.id, message="it is moved", expected="another device, with other neighbours")


def _from(finding: Finding) -> str:
    used = finding.evidence.get("gpu_pct_now", finding.evidence.get("gpu_pct_in_bad_windows"))
    return f", from {used:.0f} %" if used is not None else ""


def _pct(ppm: int) -> str:
    return f"{f'{ppm / 10_000:.2f}'.rstrip('0').rstrip('.')} %"
