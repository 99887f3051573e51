"""Stands in for ``qaic-util``: what the simulated node's Qualcomm devices are, have free and run, as the tool prints it.

Invariant: only ``-q`` is answered, with or without ``-d``; ``-t`` is the tool's terminal interface, and the open tool has no
``-j``. Firmware and frequencies are made up; memory, NSPs, networks, status and temperature are the engine's.
"""

import getopt
import sys
import time
from typing import Any, Final

from mica.standins._engine import Engine
from mica.standins._qaic import QaicDevice, qaic_devices

MIB: Final = 1 << 20
VCS: Final = 16
MCIDS: Final = 3072
SEMAPHORES: Final = 32
IDLE_C: Final = 40
SKUS: Final = {"AI100-Std": "PCIe", "AI100-Pro": "PCIe Pro", "AI100-Ultra": "PCIe Ultra"}
USAGE: Final = """Usage: qaic-util [options]
  -d, --aic-device-id <id>                   AIC device ID. -d option can be used multiple times
  -q, --query [-d QID]                       Query command to get device information, default All
  -t, --table <refresh-rate-sec> [-d QID]    Display device information in tabular format. Data is refreshed
                                             after every <refresh-rate-sec>. Ctrl+C to exit
  -h, --help                                 help"""


def main() -> int:
    """Print the devices asked for; the exit code."""
    try:
        options, _ = getopt.gnu_getopt(sys.argv[1:], "d:qh", ["aic-device-id=", "query", "help"])
        asked = [int(value) for name, value in options if name in {"-d", "--aic-device-id"}]
    except (getopt.GetoptError, ValueError):
        print(USAGE)
        return 255
    if any(name in {"-h", "--help"} for name, _ in options):
        print(USAGE)
        return 255
    engine = Engine()
    devices, books = qaic_devices(engine)
    known = {device.qid for device in devices}
    for qid in asked:
        if qid not in known:
            print(f"Device {qid} invalid", file=sys.stderr)
            return 255
    for device in devices:
        if not asked or device.qid in asked:
            time.sleep(device.native["hang_ms"] / 1000)
            print("\n".join(_lines(device, books)), flush=True)
    return 0


def _lines(device: QaicDevice, books: dict[str, Any]) -> list[str]:
    native = device.native
    derived = device.partition is not None
    ready = not native["lost"]
    domain, bus, place = native["pci"].lower().rsplit(":", 2)
    address = "0000:00:00.0" if derived else f"{domain[-4:]}:{bus}:{place}"
    described = "  " if derived else "Processing accelerators Qualcomm Device a100"
    lines = [
        f"Status:{'Ready' if ready else 'Error'}",
        f"PCI Address:{address}",
        f"PCI Info:{described}",
        f"Dev Link:{device.node} ",
    ]
    if ready:
        lines += [*_identity(native), *_resources(device, books), *_versions(native), *_telemetry(device)]
    return [f"QID {device.qid}", *(f"\t{line}" for line in lines), *([] if ready else [""])]


def _identity(native: dict[str, Any]) -> list[str]:
    return [
        "HW Version:0.2.0.0",
        f"HW Serial:0x{native['uuid'][:8]}",
        "FW Version:1.19.8",
        "FW QC_IMAGE_VERSION:QSM.AIC.1.19.8",
        "FW OEM_IMAGE_VERSION:",
        "FW IMAGE_VARIANT:AIC100.REL",
        "NSP Version:1.19.4",
        "NSP QC_IMAGE_VERSION:NSP.AIC.1.19.4",
        "NSP OEM_IMAGE_VERSION:",
        "NSP IMAGE_VARIANT:aic100.nsp.prodQ",
    ]


def _accounts(device: QaicDevice, books: dict[str, Any]) -> int:
    """How many processes have something loaded there."""
    return sum(
        account["contexts"] > 0 and account["uuid"] in device.uuids
        for process in books["processes"]
        if process["live"]
        for account in process["accounts"]
    )


def _resources(device: QaicDevice, books: dict[str, Any]) -> list[str]:
    native, partition = device.native, device.partition
    networks = _accounts(device, books)
    if partition is None:
        nsps = native["multiprocessors"]
        dram = native["vram_bytes"] - native["reserve_bytes"]
        reserved = sum(each["size"] for each in native["instances"])
        spent = native["spent_bytes"] + sum(each["memory_bytes"] for each in native["instances"])
    else:
        nsps, dram, reserved, spent = partition["size"], partition["memory_bytes"], 0, partition["spent_bytes"]
    free = 0 if networks else nsps - reserved
    groups = len(native["instances"]) if partition is None else 0
    return [
        f"Dram Total:{dram // MIB} MB",
        f"Dram Free:{max(dram - spent, 0) // MIB} MB",
        "Dram Fragmentation:0.00%",
        f"Vc Total:{VCS}",
        f"Vc Free:{VCS - groups - networks}",
        f"Nsp Total:{nsps}",
        f"Nsp Free:{free}",
        "Last 100ms Average Dram Bw:0 KBps",
        f"MCID Total:{MCIDS}",
        f"MCID Free:{MCIDS}",
        f"Semaphore Total:{SEMAPHORES}",
        f"Semaphore Free:{SEMAPHORES}",
        "Constants Loaded:0",
        "Constants In-Use:0",
        f"Networks Loaded:{networks}",
        f"Networks Active:{networks}",
        "NSP Frequency(Mhz):825.00",
        "DDR Frequency(Mhz):2133.00",
    ]


def _versions(native: dict[str, Any]) -> list[str]:
    return [
        "Metadata Version:0.10",
        "NNC Command Protocol Version:8.1",
        "SBL Image:SBL.AIC.1.19.2",
        "PVS Image Version:24",
        "NSP Defective PG Mask: 0x0",
        f"Sku Type:{SKUS.get(native['key'], 'Invalid')}",
    ]


def _telemetry(device: QaicDevice) -> list[str]:
    native = device.native
    if device.partition is not None:
        return []
    return [
        f"Board serial:{native['group'] or native['serial']}",
        f"SoC temperature(degree C):{native['temperature_c'] or IDLE_C:.2f}",
    ]
