"""When a device is too sick to hold slices, and in which order and how it loses those that it has. Pure.

Invariant: what a device's health does to placing and to draining is one rule (``is_sick``).
"""

from collections.abc import Iterable
from typing import Final

from mica.events import Device, Health, LedgerEntry, NodeLoss, PoolPolicy, Severity, Tier

GRACE_S: Final = {Tier.SPOT: 5.0, Tier.BURST: 30.0, Tier.GUARANTEED: 120.0}
"""How long the programs of a slice may take to end by themselves when it is taken off a device that still works."""

_OF_HEALTH: Final = {Health.FAILED: Severity.FATAL, Health.DEGRADED: Severity.WARNING}
_PLACED_AGAIN: Final = {
    NodeLoss.LOST: frozenset[Tier](),
    NodeLoss.GUARANTEED: frozenset({Tier.GUARANTEED}),
    NodeLoss.BURST: frozenset({Tier.GUARANTEED, Tier.BURST}),
}
_RANK: Final = {Severity.INFO: 1, Severity.WARNING: 2, Severity.FATAL: 3}
_ORDER: Final = {Tier.SPOT: 0, Tier.BURST: 1, Tier.GUARANTEED: 2}


def is_sick(device: Device, drain_at: Severity) -> bool:
    """Whether the device is as sick as ``drain_at``, or worse. One that has failed always is."""
    severities = [trouble.severity for trouble in device.troubles]
    if device.health in _OF_HEALTH:
        severities.append(_OF_HEALTH[device.health])
    return any(_RANK[severity] >= _RANK[drain_at] for severity in severities)


def is_over(device: Device) -> bool:
    """Whether something has happened to the device that it does not recover from by itself."""
    return any(trouble.severity is Severity.FATAL and not trouble.lasting for trouble in device.troubles)


def health_text(device: Device) -> str:
    """``health failed: XID 79``: its health, and what is wrong with it."""
    said = device.message or "; ".join(trouble.message for trouble in device.troubles)
    return f"health {device.health}: {said}" if said else f"health {device.health}"


def is_placed_again(tier: Tier, policy: PoolPolicy) -> bool:
    """Whether a slice of a lost node is placed elsewhere, by its tier and the policy of the node's pool."""
    return tier in _PLACED_AGAIN[policy.on_node_loss]


def in_order(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """The slices of a device, those with the least promised first."""
    return sorted(entries, key=lambda entry: (_ORDER[entry.tier], entry.priority, entry.id))
