"""Groups of NSPs: derived devices, and who holds them. Invariant: whoever starts or ends a holder has the lock.

A derived device has the serial number of its SoC; which NSPs it has nobody says, because they are interchangeable. mica numbers
them all the same, as the planner did. One that somebody else made lies in the first gap that is left.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.events import Partition
from mica.vendors._port import PartitionInUseError, VendorError
from mica.vendors.qualcomm._holders import Holder, Holders, Slot, users_of
from mica.vendors.qualcomm._inquiry import Inquiry, Snapshot
from mica.vendors.qualcomm._profiles import memory_mib, profile_name
from mica.vendors.qualcomm._report import FIRST_DERIVED, READY, Report, pci_address, read_report

POLL_S: Final = 0.01
DEVICE_VCS: Final = 16
DEVICE_MCIDS: Final = 3072
DEVICE_SEMAPHORES: Final = 32
L2_REGION: Final = 100
"""Of a whole device, as the tool shows it; the L2 region is that of the vendor's example."""


class Group(Struct, frozen=True, kw_only=True):
    """A partition that is there. ``link`` is missing while it is half made, ``report`` while it does not answer."""

    slot: Slot
    partition: Partition
    link: str = ""
    report: Report | None = None
    holder: Holder | None = None


class Survey(Struct, frozen=True):
    """What is there now: native devices by PCI address, derived ones by device node."""

    natives: Mapping[str, Report]
    derived: Mapping[str, Report]
    groups: tuple[Group, ...]

    def of(self, pci: str) -> tuple[Group, ...]:
        """The groups of one device."""
        return tuple(each for each in self.groups if each.slot.pci == pci)


def device_id(pci: str) -> str:
    """What mica calls the device there: the tool has no name of a device that it says at all times but its address."""
    return f"QAIC-{pci.replace(':', '-').replace('.', '-')}"


def parent_of(derived: Report, natives: Mapping[str, Report], sys: Path = Path("/sys/class/accel")) -> str:
    """The PCI address of the device it is derived from; empty when that can not be told."""
    same = [pci for pci, native in natives.items() if native.serial and native.serial == derived.serial]
    if len(same) == 1:
        return same[0]
    above = (sys / Path(derived.link).name).resolve().parts if derived.link else ()
    return next((part for part in reversed(above) if part in natives), "")


class Groups:
    """Makes, finds and destroys them."""

    def __init__(self, inquiry: Inquiry, holders: Holders, start_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``start_s``: how long a holder has to make its device, and a device to go."""
        self._inquiry = inquiry
        self._holders = holders
        self._start_s = start_s
        self._clock = clock

    def survey(self) -> Survey:
        """What is there now. Raises VendorError."""
        with self._holders.locked():
            return self._survey()

    def report(self, uuid: str) -> Report:
        """What the derived device of that partition says of itself.

        Raises:
            VendorError: no such partition, or it does not answer.
        """
        _, name, *ticks = uuid.split("-")
        for link, report in derived_devices(self._inquiry.all()).items():
            if Path(link).name == name and (not ticks or self._held_since(link, ticks[0])):
                return report
        raise VendorError(f"partition {uuid}: qaic-util lists no such device")

    def _held_since(self, link: str, ticks: str) -> bool:
        return any(each.link == link and f"{each.ticks:x}" == ticks for each in self._holders.records())

    def create(self, slot: Slot) -> Group:
        """Make the group, or name the one that is there.

        Raises:
            PartitionInUseError: the device is used whole.
            VendorError: the device refuses.
        """
        what = f"device {device_id(slot.pci)}: make {profile_name(slot.size)} at NSP {slot.start}"
        with self._holders.locked():
            survey = self._survey()
            native = survey.natives.get(slot.pci)
            if native is None:
                raise VendorError(f"{what}: it does not answer")
            for group in survey.of(slot.pci):
                if group.slot == slot and group.partition.uuid:
                    return group
                if group.slot == slot and group.holder is not None:
                    self._end(group)
                elif _overlap(group.slot, slot):
                    raise VendorError(f"{what}: {group.partition.profile} is at NSP {group.slot.start}")
            if slot.size == native.nsp_total and not survey.of(slot.pci):
                return self._claim(slot, native, what)
            return self._start(slot, native, survey.derived, what)

    def destroy(self, slot: Slot) -> None:
        """Destroy the group there; none there is no error. Raises PartitionInUseError, VendorError."""
        with self._holders.locked():
            for group in self._survey().of(slot.pci):
                if group.slot == slot:
                    self._destroy(group)

    def clear(self, pci: str) -> None:
        """Destroy all groups of a device, or none if one is in use. Raises PartitionInUseError, VendorError."""
        with self._holders.locked():
            groups = self._survey().of(pci)
            for group in groups:
                self._see_unused(group)
            for group in groups:
                self._destroy(group)
            for record in self._holders.records():
                if record.slot.pci == pci:
                    self._holders.forget(record.slot)

    def _claim(self, slot: Slot, native: Report, what: str) -> Group:
        if native.networks or native.nsp_free < native.nsp_total:
            raise PartitionInUseError(what, users_of(native.link))
        self._holders.claim(slot)
        return _whole(slot, native)

    def _start(self, slot: Slot, native: Report, before: Mapping[str, Report], what: str) -> Group:
        for record in self._holders.records():
            if record.slot.pci == slot.pci and _overlap(record.slot, slot):
                self._holders.forget(record.slot)
        holder = self._holders.start(slot, native.qid, _config(native, slot.size))
        try:
            made = self._await_device(holder, before, slot, what)
        except BaseException:
            self._holders.end(holder)
            self._holders.forget(slot)
            raise
        if made is None:
            said = self._holders.said(slot)
            self._holders.forget(slot)
            if native.networks:
                raise PartitionInUseError(what, users_of(native.link))
            raise VendorError(f"{what}: the holder ended{said and ': ' + said}")
        self._holders.record(holder, made.link)
        return _held(holder, made.link, made)

    def _await_device(self, holder: Holder, before: Mapping[str, Report], slot: Slot, what: str) -> Report | None:
        """The device that the holder made; None if it ended."""
        until_s = self._clock() + self._start_s
        while self._holders.alive(holder):
            if self._holders.said(slot):
                snapshot = self._inquiry.all(fresh=True)
                natives = _natives(snapshot)
                found = [
                    each
                    for link, each in derived_devices(snapshot).items()
                    if link not in before and each.nsp_total == slot.size and parent_of(each, natives) in {"", slot.pci}
                ]
                if len(found) == 1:
                    return found[0]
            if self._clock() >= until_s:
                raise VendorError(f"{what}: no derived device of its own within {self._start_s:g} s")
            time.sleep(POLL_S)
        return None

    def _see_unused(self, group: Group) -> None:
        users = users_of(group.link)
        if users or (group.report is not None and group.report.networks):
            what = f"device {device_id(group.slot.pci)}: {group.partition.profile} at NSP {group.slot.start}"
            raise PartitionInUseError(what, users)

    def _destroy(self, group: Group) -> None:
        self._see_unused(group)
        if group.holder is not None:
            self._end(group)
        elif group.report is not None and group.report.qid >= FIRST_DERIVED:
            raise VendorError(f"{group.link}: no process is known that holds it")
        self._holders.forget(group.slot)
        until_s = self._clock() + self._start_s
        while group.holder is not None and group.link and group.link in derived_devices(self._inquiry.all(fresh=True)):
            if self._clock() >= until_s:
                raise VendorError(f"{group.link}: still there {self._start_s:g} s after its holder ended")
            time.sleep(POLL_S)

    def _end(self, group: Group) -> None:
        if group.holder is not None:
            if group.holder.slot is not None:
                self._holders.forget(group.slot)  # first: what is noted of a dead holder is a fault
            self._holders.end(group.holder)

    def _survey(self) -> Survey:
        snapshot = self._inquiry.all(fresh=True)
        natives, derived = _natives(snapshot), derived_devices(snapshot)
        unclaimed = dict(derived)
        complete = not snapshot.silent
        listed = {fields.get("Dev Link", "") for fields in snapshot.fields.values()}
        holders = self._holders.living()
        links = {(record.pid, record.ticks): record.link for record in self._holders.records()}
        groups: list[Group] = []
        orphans: list[Holder] = []
        for holder in holders:
            link = links.get((holder.pid, holder.ticks), "")
            if holder.slot is None:
                continue
            if not link:
                orphans.append(holder)
            elif link in listed or not complete or holder.slot.pci not in natives:
                groups.append(_held(holder, link, unclaimed.pop(link, None)))
            else:
                self._holders.end(holder)  # the device was reset: it holds nothing any more
        for orphan in orphans:
            groups += self._adopt(orphan, unclaimed, natives, complete=complete)
        groups += _foreign(unclaimed, natives, [each for each in holders if each.slot is None], groups)
        for slot in self._holders.claims():
            if slot.pci in natives and not any(each.slot.pci == slot.pci for each in groups):
                groups.append(_whole(slot, natives[slot.pci]))
        return Survey(natives, derived, tuple(groups))

    def _adopt(
        self, holder: Holder, unclaimed: dict[str, Report], natives: Mapping[str, Report], *, complete: bool
    ) -> list[Group]:
        """A holder whose starter died before it noted what it made."""
        assert holder.slot is not None
        found = [
            each
            for each in unclaimed.values()
            if each.nsp_total == holder.slot.size and parent_of(each, natives) in {"", holder.slot.pci}
        ]
        if len(found) == 1:
            self._holders.record(holder, found[0].link)
            return [_held(holder, found[0].link, unclaimed.pop(found[0].link))]
        if found or not complete:
            return [Group(slot=holder.slot, partition=_partition(holder.slot, ""), holder=holder)]
        self._holders.end(holder)
        return []


def _natives(snapshot: Snapshot) -> dict[str, Report]:
    """Those that are ready and make sense, by PCI address."""
    found = {}
    for qid, fields in snapshot.fields.items():
        if qid < FIRST_DERIVED and fields.get("Status") == READY:
            try:
                found[pci_address(qid, fields)] = read_report(qid, fields)
            except VendorError:
                continue
    return found


def derived_devices(snapshot: Snapshot) -> dict[str, Report]:
    """Those that are ready and make sense, by device node."""
    found = {}
    for qid, fields in snapshot.fields.items():
        if qid >= FIRST_DERIVED:
            try:
                report = read_report(qid, fields)
            except VendorError:
                continue
            found[report.link] = report
    return found


def _config(native: Report, size: int) -> dict[str, int]:
    """What to ask of the tool: the group's part of everything."""
    return {
        "ddrSize": memory_mib(native, size),
        "numNsp": size,
        "numMcid": DEVICE_MCIDS * size // native.nsp_total,
        "numSem": DEVICE_SEMAPHORES * size // native.nsp_total,
        "numVc": max(1, DEVICE_VCS * size // native.nsp_total),
        "l2Region": L2_REGION,
    }


def _partition(slot: Slot, uuid: str) -> Partition:
    return Partition(profile=profile_name(slot.size), profile_id=slot.size, start=slot.start, size=slot.size, uuid=uuid)


def _held(holder: Holder, link: str, report: Report | None) -> Group:
    assert holder.slot is not None
    uuid = f"QAIC-{Path(link).name}-{holder.ticks:x}"
    return Group(slot=holder.slot, partition=_partition(holder.slot, uuid), link=link, report=report, holder=holder)


def _whole(slot: Slot, native: Report) -> Group:
    return Group(slot=slot, partition=_partition(slot, device_id(slot.pci)), link=native.link, report=native)


def _overlap(one: Slot, other: Slot) -> bool:
    return one.start < other.start + other.size and other.start < one.start + one.size


def _foreign(
    unclaimed: Mapping[str, Report], natives: Mapping[str, Report], holders: list[Holder], ours: list[Group]
) -> list[Group]:
    """What somebody else made, with the process that holds it where only one can."""
    found: list[Group] = []
    by_qid = {native.qid: pci for pci, native in natives.items()}
    for link, report in sorted(unclaimed.items()):
        fitting = [each for each in holders if each.nsps in {None, report.nsp_total}]
        pci = parent_of(report, natives) or next((by_qid[each.qid] for each in fitting if each.qid in by_qid), "")
        if not pci:
            continue
        fitting = [each for each in fitting if each.qid is None or by_qid.get(each.qid) == pci]
        start = _gap([each.slot for each in (*ours, *found) if each.slot.pci == pci], report.nsp_total, natives[pci].nsp_total)
        slot = Slot(pci, report.nsp_total, start)
        uuid = f"QAIC-{Path(link).name}"
        holder = fitting[0] if len(fitting) == 1 else None
        found.append(Group(slot=slot, partition=_partition(slot, uuid), link=link, report=report, holder=holder))
    return found


def _gap(taken: list[Slot], size: int, total: int) -> int:
    """The first run of free slots that is long enough; the end where there is none."""
    for start in range(total - size + 1):
        if not any(_overlap(Slot("", size, start), each) for each in taken):
            return start
    return max(total - size, 0)
