"""I1 to I4, I7 and I8 on documents alone: what the ledgers promise and the enforcers report, against devices, quotas and nodes.

Pure functions, shared by the audit and the planner's tests. Invariant: a violation names the device or tenant, the sum and the
limit. Documents read one after another may disagree while a change is in flight; whoever reads live documents reads again before
believing it.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Final

from msgspec import Struct

from mica.audit._world import Documents
from mica.events import Device, Ledger, LedgerEntry, Mode, ObservedSlice, Partition, Phase, TenantQuota, Window

PPM: Final = 1_000_000
DEFAULT_TENANT: Final = "_default"
ENDED: Final = frozenset({Phase.LOST, Phase.FAILED, Phase.RELEASED, Phase.EVICTED})

Part = LedgerEntry | ObservedSlice


class Violation(Struct, frozen=True, order=True):
    """An invariant that does not hold: which, of what, and the numbers."""

    invariant: str
    subject: str
    message: str


class _Share(Struct, frozen=True):
    """What one slice has of a device: from the ledger, from what was taken and is not confirmed, and as observed."""

    slice_id: str
    parts: tuple[Part, ...]

    @property
    def vram_bytes(self) -> int:
        used = (part.vram_used_bytes for part in self.parts if isinstance(part, ObservedSlice))
        return max(*(part.vram_bytes for part in self.parts), *used, 0)

    @property
    def share_ppm(self) -> int:
        return max(part.share_ppm for part in self.parts)

    @property
    def modes(self) -> set[Mode]:
        return {part.mode for part in self.parts}

    @property
    def partitions(self) -> list[Partition]:
        return [part.partition for part in self.parts if part.partition is not None]

    @property
    def windows(self) -> list[Window]:
        return [part.window for part in self.parts if part.window is not None]


def check_invariants(documents: Documents) -> list[Violation]:
    """Every violation of I1, I2, I3, I4, I7 and I8."""
    found: list[Violation] = []
    for node, device, shares in devices(documents):
        subject = f"device {device.id} of node {node}"
        found += [Violation(name, subject, message) for name, message in _check_device(device, shares)]
    found += check_quotas(documents)
    for node in documents.inventories:
        found += [Violation(name, f"node {node}", message) for name, message in check_host(documents, node)]
    return found


def devices(documents: Documents) -> Iterator[tuple[str, Device, list[_Share]]]:
    """Every device with what each slice has of it, from all sides."""
    for node, inventory in documents.inventories.items():
        ledger, observed = documents.ledgers.get(node), documents.observed.get(node)
        for device in inventory.devices:
            parts: dict[str, list[Part]] = {}
            if ledger is not None:
                for id_, entry in ledger.devices.get(device.id, {}).items():
                    parts.setdefault(id_, []).append(entry)
                for id_, held in ledger.held.get(device.id, {}).items():
                    parts.setdefault(id_, []).append(held.entry)
            if observed is not None:
                for id_, seen in observed.devices.get(device.id, {}).items():
                    parts.setdefault(id_, []).append(seen)
            yield node, device, [_Share(id_, tuple(each)) for id_, each in parts.items()]


def _check_device(device: Device, shares: list[_Share]) -> Iterator[tuple[str, str]]:
    yield from check_vram(device, shares)
    yield from check_compute(shares)
    yield from check_slots(device, shares)
    yield from check_mode(device, shares)


def check_vram(device: Device, shares: list[_Share]) -> Iterator[tuple[str, str]]:
    """I1. A partition's own reserve is part of the device's geometry, so the driver's counts in software modes only."""
    total = sum(share.vram_bytes for share in shares)
    hardware = device.partitioned or any(Mode.HARDWARE in share.modes for share in shares)
    reserve = 0 if hardware else device.reserve_bytes
    if total + reserve > device.vram_bytes:
        yield "I1", f"slices have {total} bytes and {reserve} are reserved, allowed: {device.vram_bytes}"


def check_compute(shares: list[_Share]) -> Iterator[tuple[str, str]]:
    """I2, and that windows of a time-sliced device never overlap."""
    total = sum(share.share_ppm for share in shares)
    if total > PPM:
        yield "I2", f"slices have {total} ppm of compute, allowed: {PPM}"
    for one, other in combinations(shares, 2):
        for first in one.windows:
            for second in other.windows:
                if _overlap(first.offset_ns, first.length_ns, second.offset_ns, second.length_ns):
                    yield "I2", f"the windows of slices {one.slice_id} and {other.slice_id} overlap"


def check_slots(device: Device, shares: list[_Share]) -> Iterator[tuple[str, str]]:
    """I3, and that the profiles' compute slices sum up to what the device has.

    Of a slice that is to have another partition of the device only one is there at a time, so that the larger counts.
    """
    for one, other in combinations(shares, 2):
        for first in one.partitions:
            for second in other.partitions:
                if first.layout != second.layout:
                    yield "I3", f"slices {one.slice_id} and {other.slice_id} have layouts {first.layout!r} and {second.layout!r}"
                elif _overlap(first.start, first.size, second.start, second.size):
                    yield "I3", f"the slots of slices {one.slice_id} and {other.slice_id} overlap"
    by_id = {profile.profile_id: profile for profile in device.profiles if not profile.layout}
    here = [[by_id[each.profile_id] for each in share.partitions if each.profile_id in by_id] for share in shares]
    total = sum(max((profile.compute_slices for profile in own), default=0) for own in here)
    if device.compute_slices and total > device.compute_slices:
        yield "I3", f"partitions have {total} compute slices, allowed: {device.compute_slices}"
    for name, budget in device.budgets.items():
        needed = sum(max((profile.needs.get(name, 0) for profile in own), default=0) for own in here)
        if needed > budget:
            yield "I3", f"partitions need {needed} {name}, allowed: {budget}"


def check_mode(device: Device, shares: list[_Share]) -> Iterator[tuple[str, str]]:
    """I4."""
    modes = set().union(*(share.modes for share in shares))
    if len(modes) > 1:
        yield "I4", f"is carved as {', '.join(sorted(modes))} at a time, allowed: one mode"
    if not device.switchable and any((mode is Mode.HARDWARE) is not device.partitioned for mode in modes):
        yield "I4", f"is carved as {', '.join(sorted(modes))}, but is {'' if device.partitioned else 'not '}partitioned"


class _Given(Struct):
    """What a slice has, and what it had before changes that are not confirmed, by generation: it uses one of these.

    For it changes its place only while it holds nothing there. One that is suspended is its tenant's in full.
    """

    now: list[LedgerEntry] = []
    before: dict[int, list[LedgerEntry]] = {}

    @property
    def vram_bytes(self) -> int:
        return max(sum(each.vram_bytes or each.away_vram_bytes for each in part) for part in (self.now, *self.before.values()))

    @property
    def share_ppm(self) -> int:
        return max(sum(each.share_ppm or each.away_share_ppm for each in part) for part in (self.now, *self.before.values()))


def host_given(ledger: Ledger) -> tuple[int, int]:
    """Thousandths of a processor and bytes of a node's own memory that its slices have.

    A slice has what the larger of its generations there has: its programs are in one place at a time.
    """
    given: dict[str, dict[tuple[bool, int], list[LedgerEntry]]] = {}
    now = [(False, entry) for on_device in ledger.devices.values() for entry in on_device.values()]
    before = [(True, held.entry) for on_device in ledger.held.values() for held in on_device.values()]
    for held, entry in now + before:
        given.setdefault(entry.id, {}).setdefault((held, entry.generation), []).append(entry)
    cpu_milli = sum(max(sum(each.cpu_milli for each in part) for part in parts.values()) for parts in given.values())
    memory_bytes = sum(max(sum(each.host_memory_bytes for each in part) for part in parts.values()) for parts in given.values())
    return cpu_milli, memory_bytes


def check_host(documents: Documents, node: str) -> Iterator[tuple[str, str]]:
    """I8: a node's slices never have more of its own processors and memory, as ledgers count them, than it has."""
    inventory, ledger = documents.inventories[node], documents.ledgers.get(node)
    cpu_milli, memory_bytes = host_given(ledger) if ledger is not None else (0, 0)
    if 0 < inventory.cpu_milli < cpu_milli:
        yield "I8", f"slices have {cpu_milli} thousandths of a processor, allowed: {inventory.cpu_milli}"
    if 0 < inventory.host_memory_bytes < memory_bytes:
        yield "I8", f"slices have {memory_bytes} bytes of its own memory, allowed: {inventory.host_memory_bytes}"


def check_quotas(documents: Documents) -> Iterator[Violation]:
    """I7: by what tenants are charged, and by what the ledgers really give them, or still leave to them.

    What is still held for a slice that has ended is nobody's. It is not sold, which is I1. But its tenant may ask elsewhere: the
    planner took it away, lost or failed, or every enforcer has confirmed that nothing of it is left.
    """
    ended = {id_ for id_, record in documents.records.items() if record.phase in ENDED}
    given: dict[str, dict[str, _Given]] = {}
    for ledger in documents.ledgers.values():
        now = [entry for on_device in ledger.devices.values() for entry in on_device.values()]
        held = [each.entry for on_device in ledger.held.values() for each in on_device.values()]
        before = [each for each in held if each.id not in ended]
        for entry in now:
            given.setdefault(entry.tenant, {}).setdefault(entry.id, _Given()).now.append(entry)
        for entry in before:
            given.setdefault(entry.tenant, {}).setdefault(entry.id, _Given()).before.setdefault(entry.generation, []).append(
                entry
            )
    for tenant in sorted(set(given) | set(documents.tenants)):
        quota = _quota(documents, tenant)
        slices = given.get(tenant, {}).values()
        sums = (len(slices), sum(each.vram_bytes for each in slices), sum(each.share_ppm for each in slices))
        yield from _over(tenant, "ledgers give", sums, quota)
        holdings = documents.tenants.get(tenant)
        if holdings is not None:
            charged = holdings.holdings.values()
            sums = (len(charged), sum(each.vram_bytes for each in charged), sum(each.share_ppm for each in charged))
            yield from _over(tenant, "is charged for", sums, quota)


def _quota(documents: Documents, tenant: str) -> TenantQuota:
    policy = documents.policies.get(tenant) or documents.policies.get(DEFAULT_TENANT)
    return policy.quota if policy is not None else TenantQuota()


def _over(tenant: str, who: str, sums: tuple[int, int, int], quota: TenantQuota) -> Iterator[Violation]:
    for amount, limit, unit in zip(
        sums, (quota.slices, quota.vram_bytes, quota.share_ppm), ("slices", "bytes", "ppm"), strict=True
    ):
        if limit is not None and amount > limit:
            yield Violation("I7", f"tenant {tenant}", f"{who} {amount} {unit}, allowed: {limit}")


def _overlap(start: int, length: int, other_start: int, other_length: int) -> bool:
    return start < other_start + other_length and other_start < start + length


__all__ = [
    "Violation",
    "check_compute",
    "check_host",
    "check_invariants",
    "check_mode",
    "check_quotas",
    "check_slots",
    "check_vram",
    "devices",
    "host_given",
]
