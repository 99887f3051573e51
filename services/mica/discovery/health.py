"""How well a device is, given what its library says now and what was wrong before. Pure.

Invariant: a device's health and message follow from its troubles alone. What has happened to it and was fatal stays among them
until the machine starts anew, its library tells of a reset, or an operator clears it; what lasts goes when the library no longer
says it, below fatal only after ``CALM_SURVEYS`` surveys in which it did not.

Precedent: NVIDIA's device plugin for Kubernetes takes a device out on a fatal XID and never puts it back by itself.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.events import Device, Health, Severity, Trouble
from mica.vendors import Finding

CALM_SURVEYS: Final = 3
"""So often in a row a warning must not have been said before it is over: what wavers around a threshold is one change."""

RESET: Final = "reset"
"""The kind of finding by which a library tells that a device was reset."""

SILENT: Final = "silent"
FAULT: Final = "fault"
BUS: Final = "bus"

Key = tuple[str, str, int]
"""Device, kind, code."""

_RANK: Final = {Severity.FATAL: 0, Severity.WARNING: 1, Severity.INFO: 2}
_HEALTH: Final = {Severity.FATAL: Health.FAILED, Severity.WARNING: Health.DEGRADED, Severity.INFO: Health.HEALTHY}


class Failure(Struct, frozen=True):
    """Why a device could not be read.

    ``kind``: it or its library did not answer (``silent``) or with an error (``fault``), or no library lists it (``bus``).
    """

    message: str
    kind: str = FAULT


class Circumstances(Struct, frozen=True, kw_only=True):
    """When a survey is looked at (``at``, unix ns), how often what lasts was not said (``count_unsaid``), and what was cleared.

    ``cleared``: as in ``Clearances``.
    """

    at: int = 0
    unsaid: Mapping[Key, int] = {}
    cleared: Mapping[str, int] = {}


UNREMARKABLE: Final = Circumstances()


def judge(
    device: Device, before: Device | None, failure: Failure | None, findings: Iterable[Finding], now: Circumstances
) -> Device:
    """The device with its troubles, and the health and message that follow from them.

    ``before``: as it was known in the same boot; ``findings``: of this device, in their order.
    """
    known = {_identity(trouble): trouble for trouble in (before.troubles if before is not None else ())}
    kept = {key: trouble for key, trouble in known.items() if _stays(device.id, trouble, failure, now)}
    for finding in findings:
        if finding.kind == RESET:
            kept = {key: trouble for key, trouble in kept.items() if trouble.lasting}
        elif finding.lasting or finding.severity is Severity.FATAL:
            found = Trouble(
                kind=finding.kind, code=finding.code, severity=finding.severity, message=finding.message, lasting=finding.lasting
            )
            kept[_identity(found)] = _dated(found, known, now.at)
    if failure is not None:
        found = Trouble(kind=failure.kind, severity=Severity.FATAL, message=failure.message, lasting=True)
        kept[_identity(found)] = _dated(found, known, now.at)
    troubles = tuple(sorted(kept.values(), key=lambda each: (_RANK[each.severity], each.at, each.kind, each.code)))
    worst = troubles[0].severity if troubles else Severity.INFO
    message = "; ".join(each.message for each in troubles if each.severity is worst is not Severity.INFO)
    return replace(device, troubles=troubles, health=_HEALTH[worst], message=message)


def count_unsaid(
    devices: Iterable[Device], answered: Iterable[str], said: Iterable[Finding], before: Mapping[Key, int]
) -> dict[Key, int]:
    """For each trouble that lasts: in how many surveys in a row the device answered and its library did not say it."""
    heard, present = set(answered), {(each.device_id, each.kind, each.code) for each in said if each.lasting}
    counts: dict[Key, int] = {}
    for device in devices:
        for trouble in device.troubles:
            key = (device.id, trouble.kind, trouble.code)
            if trouble.lasting and key not in present:
                counts[key] = before.get(key, 0) + (device.id in heard)
    return counts


def severity_of(device: Device) -> Severity:
    """That of the worst of its troubles."""
    return device.troubles[0].severity if device.troubles else Severity.INFO


def _stays(device_id: str, trouble: Trouble, failure: Failure | None, now: Circumstances) -> bool:
    """Whether a trouble that was known is still there, before this survey's findings are looked at."""
    if not trouble.lasting:
        return trouble.at > now.cleared.get(device_id, -1)
    if failure is not None:
        return not _is_failure(trouble)
    return trouble.severity is not Severity.FATAL and now.unsaid.get((device_id, trouble.kind, trouble.code), 0) < CALM_SURVEYS


def _is_failure(trouble: Trouble) -> bool:
    return trouble.kind in (SILENT, FAULT, BUS) and trouble.code == 0


def _identity(trouble: Trouble) -> tuple[str, int, bool]:
    return trouble.kind, trouble.code, trouble.lasting


def _dated(trouble: Trouble, known: Mapping[tuple[str, int, bool], Trouble], at: int) -> Trouble:
    """What lasts dates from when it was first said, what happens from when it happened last."""
    earlier = known.get(_identity(trouble)) if trouble.lasting else None
    return replace(trouble, at=earlier.at if earlier is not None else at)
