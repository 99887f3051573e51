"""Reads and divides Qualcomm devices. Invariant: what the tools do not say is left at its honest default, never made up."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mica.events import Device, Partition, Runtime, Severity, Vendor
from mica.hardware import Catalogue
from mica.vendors._port import Access, DeviceReading, Finding, VendorAbsentError, VendorDriver, VendorError
from mica.vendors._tools import SIMULATION, find_tool
from mica.vendors.qualcomm._groups import Groups, derived_devices, device_id, parent_of
from mica.vendors.qualcomm._holders import PARTITION_TOOL, Holders, Slot, users_of
from mica.vendors.qualcomm._inquiry import Inquiry, Snapshot
from mica.vendors.qualcomm._profiles import MIB, model_of, profile_name, profiles_of, warnings_of
from mica.vendors.qualcomm._report import FIRST_DERIVED, READY, Fields, Report, pci_address, read_report

RUNTIMES: Final = (Runtime.QAIC,)
PLACES: Final = (Path("/opt/qti-aic/tools"),)
DEADLINE_S: Final = 5.0
START_S: Final = 15.0
FRESH_S: Final = 0.25


class QualcommDriver(VendorDriver):
    """The Qualcomm devices of this machine, or of the simulated node.

    Args:
        deadline_s: how long a run of qaic-util may take.
        start_s: how long a derived device may take to come or to go.
        fresh_s: how long one run answers for all devices.

    Raises:
        VendorAbsentError: no qaic-util here, or no device that it knows.
        VendorError: it is here and fails.
    """

    name = "qualcomm"

    def __init__(self, *, deadline_s: float = DEADLINE_S, start_s: float = START_S, fresh_s: float = FRESH_S) -> None:
        self._inquiry = Inquiry(find_tool("qaic-util", PLACES), deadline_s, fresh_s)
        self._addresses: dict[int, str] = {}
        if not self._inquiry.all().qids:
            raise VendorAbsentError("qaic-util: no device")
        try:
            tool, self._refusal = find_tool(PARTITION_TOOL, PLACES), ""
        except VendorAbsentError as error:
            tool, self._refusal = PLACES[0] / PARTITION_TOOL, str(error)
        self._holders = Holders(tool, _place())
        self._groups = Groups(self._inquiry, self._holders, start_s)
        self._told: set[tuple[int, int]] = set()

    def keys(self) -> tuple[str, ...]:
        """QIDs of the native devices."""
        snapshot = self._inquiry.all()
        return tuple(str(qid) for qid in snapshot.qids if qid < FIRST_DERIVED)

    def describe(self, key: str) -> Device:
        """The device of that QID."""
        qid = int(key)
        snapshot = self._inquiry.all()
        report = read_report(qid, self._fields(qid, snapshot))
        model = model_of(report, Catalogue.load())
        refusal = self._refusal or self._holders.refusal() or _closed(report)
        return Device(
            id=device_id(report.pci),
            index=qid,
            vendor=Vendor.QUALCOMM,
            model=model.name if model is not None else f"Qualcomm Cloud AI 100 {report.sku}".strip(),
            vram_bytes=report.dram_total_mib * MIB,
            multiprocessors=report.nsp_total,
            partitioned=_divided(report, snapshot),
            profiles=profiles_of(report, model),
            compute_slices=report.nsp_total,
            runtimes=RUNTIMES,
            pci_bus_id=report.pci,
            numa_node=_numa_node(report.pci),
            simulated=bool(os.environ.get(SIMULATION)),
            switchable=not refusal,
            hardware_refusal=refusal,
            group=report.board,
            warnings=warnings_of(report, model),
        )

    def sample(self, device_id: str) -> DeviceReading:
        """Memory, power and temperature; of a partition, memory. What is reserved counts as used; nobody says how busy it is."""
        report = self._find(device_id)
        return DeviceReading(
            vram_used_bytes=(report.dram_total_mib - report.dram_free_mib) * MIB,
            vram_total_bytes=report.dram_total_mib * MIB,
            power_mw=report.power_mw,
            temperature_c=report.temperature_c,
        )

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        """The processes that have the device node open, with 0 bytes: the tool tells of programs, not of processes."""
        report = self._find(device_id)
        holders = {each.pid for each in self._holders.living()} if report.qid < FIRST_DERIVED else set()
        return [(pid, 0) for pid in sorted(users_of(report.link) - holders)]

    def findings(self, device_id: str) -> tuple[Finding, ...]:
        """A status other than Ready, and holders that ended by themselves."""
        snapshot = self._inquiry.all()
        qid, pci = self._locate(device_id, snapshot)
        found = []
        status = self._fields(qid, snapshot).get("Status", "missing")
        if status != READY:
            severity = Severity.WARNING if status == "Initializing" else Severity.FATAL
            found.append(Finding(device_id=device_id, kind="fault", severity=severity, message=f"Status {status}", lasting=True))
        alive = {(each.pid, each.ticks) for each in self._holders.living()}
        for record in self._holders.records():
            who = (record.pid, record.ticks)
            if record.slot.pci == pci and who not in alive and who not in self._told:
                self._told.add(who)
                message = f"{profile_name(record.slot.size)} at NSP {record.slot.start} is gone: its holder {record.pid} ended"
                found.append(Finding(device_id=device_id, kind="fault", severity=Severity.WARNING, message=message))
        return tuple(found)

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The groups of NSPs, those that somebody else made included, and devices given away whole."""
        found: dict[str, tuple[Partition, ...]] = {}
        for group in self._groups.survey().groups:
            key = device_id(group.slot.pci)
            found[key] = (*found.get(key, ()), group.partition)
        return found

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Start a holder for a group of NSPs; a group of all of them is the device itself."""
        if self._refusal:
            raise VendorError(f"device {device_id}: {self._refusal}")
        return self._groups.create(self._slot(device_id, partition)).partition

    def destroy(self, device_id: str, partition: Partition) -> None:
        """End the holder, and see that the derived device goes."""
        self._groups.destroy(self._slot(device_id, partition))

    def make_whole(self, device_id: str) -> None:
        """End all holders on the device."""
        self._groups.clear(self._locate(device_id, self._inquiry.all())[1])

    def access(self, device_id: str, partition: Partition | None) -> Access:
        """Its device node, and its QID of now: derived devices are numbered anew as others come and go."""
        report = self._find(partition.uuid if partition is not None else device_id)
        return Access(
            visible={"QAIC_VISIBLE_DEVICES": str(report.qid)},
            devices=(report.link,) if report.link else (),
            cdi=f"qualcomm.com/qaic={Path(report.link).name}" if report.link else "",
        )

    def close(self) -> None:
        """Nothing is kept open; holders stay."""

    def _fields(self, qid: int, snapshot: Snapshot) -> Fields:
        found = snapshot.fields.get(qid)
        return self._inquiry.one(qid) if found is None else found

    def _locate(self, wanted: str, snapshot: Snapshot) -> tuple[int, str]:
        """QID and PCI address of a native device."""
        for qid, fields in snapshot.fields.items():
            if qid < FIRST_DERIVED and "PCI Address" in fields:
                self._addresses[qid] = pci_address(qid, fields)
        for qid, pci in self._addresses.items():
            if device_id(pci) == wanted and qid in snapshot.qids:
                return qid, pci
        raise VendorError(f"device {wanted}: qaic-util lists no such device")

    def _slot(self, wanted: str, partition: Partition) -> Slot:
        return Slot(self._locate(wanted, self._inquiry.all())[1], partition.size, partition.start)

    def _find(self, wanted: str) -> Report:
        """What a device, or a partition by its UUID, says of itself."""
        if wanted.startswith("QAIC-accel"):
            return self._groups.report(wanted)
        snapshot = self._inquiry.all()
        qid, _ = self._locate(wanted, snapshot)
        return read_report(qid, self._fields(qid, snapshot))


def _divided(native: Report, snapshot: Snapshot) -> bool:
    """Whether anything is derived from the device."""
    natives = {native.pci: native}
    return any(parent_of(each, natives) for each in derived_devices(snapshot).values())


def _place() -> Path:
    """Where what concerns holders lies: beside the simulated node, or where the node's other files are."""
    simulated = os.environ.get(SIMULATION)
    if simulated:
        return Path(simulated).resolve() / "qaic"
    return Path(os.environ.get("MICA_RUNTIME_DIR") or "/run/mica").resolve() / "qaic"


def _closed(report: Report) -> str:
    """Why this process may not divide the device."""
    if os.environ.get(SIMULATION) or not report.link or os.access(report.link, os.R_OK | os.W_OK):
        return ""
    return f"{report.link}: not allowed to open it"


def _numa_node(pci: str, sys: Path = Path("/sys/bus/pci/devices")) -> int:
    """The host's NUMA node next to the device; -1 where the host does not say, and in a simulation."""
    if os.environ.get(SIMULATION):
        return -1
    try:
        return int((sys / pci / "numa_node").read_text())
    except (OSError, ValueError):
        return -1
