"""Stands in for ``xpu-smi``: discovery, topology, stats, health, ps and vgpu on the simulated node, printed as the tool prints.

JSON has the keys of version 1; ``vgpu`` takes the options of versions 1 and 2. Invariant: memory, processes, errors and virtual
functions are the engine's; names and limits are the catalogue's. A virtual function has the memory that the catalogue gives it at
that number of functions: less may be asked for, more is refused.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from mica.standins import _xpu as xpu
from mica.standins._engine import Engine
from mica.standins._xpu import MIB, XpuDevice, XpuError

IDLE_C: Final = 32
THROTTLE_C: Final = 105
SHUTDOWN_C: Final = 130
LANES_OF_A_PORT: Final = 4
VERSION: Final = "1.3.1"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{message}\nRun with --help for more information.")
        raise SystemExit(xpu.BAD_ARGUMENT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; the exit code."""
    options = _parser().parse_args(arguments)
    if options.version or options.command is None:
        print(f"CLI:\n    Version: {VERSION}.00000000\nService:\n    Level Zero Version: 1.16.0")
        return xpu.OK
    engine = Engine()
    run: Callable[[Engine, argparse.Namespace], int] = options.run
    try:
        return run(engine, options)
    except XpuError as error:
        if options.json:
            xpu.print_json({"errno": error.code, "error": str(error)})
        else:
            print(f"Error: {error}")
        return error.code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="xpu-smi", description="Intel XPU System Management Interface")
    parser.add_argument("-v", "--version", action="store_true")
    commands = parser.add_subparsers(dest="command")
    runs = {"discovery": _discovery, "topology": _topology, "stats": _stats, "health": _health, "ps": _ps, "vgpu": _vgpu}
    for name, run in runs.items():
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("-j", "--json", action="store_true")
        command.add_argument("-d", "--device", "--id")
        if name == "topology":
            command.add_argument("-m", "--matrix", action="store_true")
        if name == "health":
            command.add_argument("-l", "--list", action="store_true")
        if name == "vgpu":
            _add_vgpu_options(command)
    return parser


def _add_vgpu_options(command: argparse.ArgumentParser) -> None:
    for short, long in (("-c", "--create"), ("-r", "--remove"), ("-l", "--list"), ("-y", "--assumeyes")):
        command.add_argument(short, long, action="store_true")
    command.add_argument("--precheck", action="store_true")
    command.add_argument("-n", "--number", type=int)
    command.add_argument("--lmem", type=lambda word: int(word.removesuffix("M")))


# --- what there is --------------------------------------------------------------------------------------------------------------


def _entry(device: XpuDevice, function: int) -> dict[str, Any]:
    uuid = device.native["uuid"]
    return {
        "device_function_type": "virtual" if function else "physical",
        "device_id": device.index,
        "device_name": device.native["name"],
        "device_type": "GPU",
        "drm_device": f"/dev/dri/card{device.index}",
        "pci_bdf_address": device.address(function),
        "pci_device_id": f"0x{device.model().pci_device_id:x}",
        "uuid": uuid,
        "vendor_name": "Intel(R) Corporation",
    }


def _discovery(engine: Engine, options: argparse.Namespace) -> int:
    devices = xpu.xpu_devices(engine)
    if options.device is not None:
        device = xpu.find(devices, options.device)
        model = device.model()
        tiles = [each for each in model.profiles if each.layout == "tiles"]
        details = _entry(device, 0) | {
            "core_clock_rate_mhz": model.clock_khz // 1000,
            "memory_physical_size_byte": str(device.native["vram_bytes"]),
            "number_of_eus": device.native["multiprocessors"] * 8,
            "number_of_fabric_ports": sum(each["lanes"] for each in _links(engine, device)),
            "number_of_tiles": str(tiles[0].max_instances if tiles else 1),
            "serial_number": device.native["serial"],
        }
        if options.json:
            xpu.print_json(details)
        else:
            lines = [f"{key.replace('_', ' ').title()}: {value}" for key, value in details.items() if key != "device_id"]
            xpu.print_table([(str(device.index), lines)], ("Device ID", "Device Information"))
        return xpu.OK
    entries = [_entry(device, 0) for device in devices]
    if options.json:
        xpu.print_json({"device_list": entries})
        return xpu.OK
    if not entries:
        print("No device discovered")
        return xpu.OK
    names = {
        "Device Name": "device_name",
        "Vendor Name": "vendor_name",
        "SOC UUID": "uuid",
        "PCI BDF Address": "pci_bdf_address",
        "DRM Device": "drm_device",
        "Function Type": "device_function_type",
    }
    rows = [(str(each["device_id"]), [f"{name}: {each[key]}" for name, key in names.items()]) for each in entries]
    xpu.print_table(rows, ("Device ID", "Device Information"))
    return xpu.OK


def _links(engine: Engine, device: XpuDevice) -> list[dict[str, Any]]:
    index = device.native["index"]
    return [each for each in engine.books()["links"] if index in (each["a"], each["b"])]


def _topology(engine: Engine, options: argparse.Namespace) -> int:
    devices = xpu.xpu_devices(engine)
    if options.matrix:
        return _matrix(engine, devices, as_json=options.json)
    if options.device is None:
        raise XpuError("Wrong argument or unknown operation, run with --help for more information.", xpu.BAD_ARGUMENT)
    device = xpu.find(devices, options.device)
    switches = [f"switch {device.native['pci_switch']}"] if device.native["pci_switch"] else []
    if options.json:
        xpu.print_json(
            {
                "affinity_localcpulist": "",
                "affinity_localcpus": "",
                "device_id": device.index,
                "switch_count": len(switches),
                "switch_list": switches,
            }
        )
    else:
        lines = ["Local CPU List: ", "Local CPUs: ", f"PCIe Switch Count: {len(switches)}"]
        xpu.print_table(
            [(str(device.index), lines + [f"PCIe Switch: {each}" for each in switches])], ("Device ID", "Topology Information")
        )
    return xpu.OK


def _relation(links: list[dict[str, Any]], one: XpuDevice, other: XpuDevice) -> str:
    if one is other:
        return "S"
    ends = {one.native["index"], other.native["index"]}
    lanes = sum(each["lanes"] for each in links if {each["a"], each["b"]} == ends)
    if lanes:
        return f"XL{lanes * LANES_OF_A_PORT}"
    return "NODE" if one.native["numa_node"] == other.native["numa_node"] else "SYS"


def _matrix(engine: Engine, devices: list[XpuDevice], *, as_json: bool) -> int:
    links = engine.books()["links"]
    if as_json:
        pairs = [
            {
                "link_type": _relation(links, one, other),
                "local_device_id": one.index,
                "local_numa_index": one.native["numa_node"],
                "remote_device_id": other.index,
            }
            for one in devices
            for other in devices
        ]
        xpu.print_json({"topo_list": pairs})
        return xpu.OK
    print("".join(["         ", *(f"GPU {each.index}/0|" for each in devices), "CPU Affinity"]))
    for one in devices:
        print("".join([f"GPU {one.index}/0 |", *(f"{_relation(links, one, other):<7}|" for other in devices)]))
    return xpu.OK


# --- how it is ------------------------------------------------------------------------------------------------------------------


def _temperature(device: XpuDevice) -> int:
    return int(device.native["temperature_c"]) or IDLE_C


def _stats(engine: Engine, options: argparse.Namespace) -> int:
    devices = xpu.xpu_devices(engine)
    for device in [xpu.find(devices, options.device)] if options.device is not None else devices:
        native = device.native
        metrics = {
            "XPUM_STATS_GPU_UTILIZATION": ("GPU Utilization (%)", 0.0),
            "XPUM_STATS_RAS_ERROR_CAT_CACHE_ERRORS_CORRECTABLE": ("Cache Errors Correctable", native["ecc_corrected"]),
            "XPUM_STATS_RAS_ERROR_CAT_CACHE_ERRORS_UNCORRECTABLE": ("Cache Errors Uncorrectable", native["ecc_uncorrected"]),
            "XPUM_STATS_POWER": ("GPU Power (W)", device.model().power_limit_mw / 5000),
            "XPUM_STATS_GPU_CORE_TEMPERATURE": ("GPU Core Temperature (C)", float(_temperature(device))),
            "XPUM_STATS_MEMORY_USED": ("GPU Memory Used (MiB)", native["spent_bytes"] / MIB),
            "XPUM_STATS_MEMORY_UTILIZATION": ("GPU Memory Util (%)", 100 * native["spent_bytes"] / native["vram_bytes"]),
        }
        if options.json:
            level = [{"metrics_type": key, "value": value} for key, (_, value) in metrics.items()]
            xpu.print_json({"device_id": device.index, "device_level": level})
        else:
            rows = [(name, [f"{value:.0f}"]) for name, value in metrics.values()]
            xpu.print_table([("", [f"{name}: {lines[0]}" for name, lines in rows])], ("Device ID", str(device.index)))
    return xpu.OK


def _health(engine: Engine, options: argparse.Namespace) -> int:
    devices = xpu.xpu_devices(engine)
    if options.device is None and not options.list:
        raise XpuError("Wrong argument or unknown operation, run with --help for more information.", xpu.BAD_ARGUMENT)
    chosen = [xpu.find(devices, options.device)] if options.device is not None else devices
    documents = [_health_of(device) for device in chosen]
    if options.json:
        xpu.print_json(documents[0] if options.device is not None else {"device_list": documents})
        return xpu.OK
    for document in documents:
        rows = [f"{key}: Status: {each['status']}" for key, each in document.items() if isinstance(each, dict)]
        xpu.print_table([("", rows)], ("Device ID", str(document["device_id"])))
    return xpu.OK


def _health_of(device: XpuDevice) -> dict[str, Any]:
    hot = _temperature(device) >= THROTTLE_C
    broken = device.native["ecc_uncorrected"] > 0
    return {
        "device_id": device.index,
        "core_temperature": {
            "status": "Warning" if hot else "OK",
            "description": "Find a temperature sensor that is too hot." if hot else "All temperature sensors are healthy.",
            "custom_threshold": -1,
            "throttle_threshold": THROTTLE_C,
            "shutdown_threshold": SHUTDOWN_C,
        },
        "memory": {
            "status": "Critical" if broken else "OK",
            "description": "Find memory errors that were not corrected." if broken else "All memory channels are healthy.",
        },
        "xe_link_port": {"status": "OK", "description": "All ports are healthy."},
    }


def _ps(engine: Engine, options: argparse.Namespace) -> int:
    devices = xpu.xpu_devices(engine)
    chosen = [xpu.find(devices, options.device)] if options.device is not None else devices
    by_index = {device.native["index"]: device.index for device in chosen}
    found = [
        {
            "device_id": by_index[account["device"]],
            "mem_size": (account["granule_bytes"] + account["context_bytes"]) // 1000,
            "process_id": process["pid"],
            "process_name": process["command"],
            "shared_mem_size": 0,
        }
        for process in engine.books()["processes"]
        if process["live"] and process["pid"]
        for account in process["accounts"]
        if account["contexts"] and account["device"] in by_index
    ]
    if options.json:
        xpu.print_json({"device_util_by_proc_list": found})
        return xpu.OK
    print(f"{'PID':<10}{'Command':<20}{'DeviceID':<15}{'SHR':<15}{'MEM':<15}")
    for each in found:
        print(f"{each['process_id']:<10}{each['process_name']:<20}{each['device_id']:<15}{0:<15}{each['mem_size']:<15}")
    return xpu.OK


# --- virtual functions ----------------------------------------------------------------------------------------------------------


def _vgpu(engine: Engine, options: argparse.Namespace) -> int:
    devices = xpu.xpu_devices(engine)
    if options.precheck:
        return _precheck(devices, as_json=options.json)
    if not (options.create or options.list or options.remove):
        raise XpuError("Wrong argument or unknown operation, run with --help for more information.", xpu.BAD_ARGUMENT)
    if options.device is None:
        raise XpuError("--device is required", xpu.BAD_ARGUMENT)
    device = xpu.find(devices, options.device)
    if not xpu.has_iommu():
        return _precheck(devices, as_json=options.json)
    if not _numbers(device):
        raise XpuError("Unsupported device model", xpu.UNSUPPORTED_MODEL)
    if options.create:
        _create(engine, device, options.number, options.lmem)
    if options.remove:
        return _remove(engine, device, options)
    return _list(xpu.find(xpu.xpu_devices(engine), options.device), as_json=options.json)


def _numbers(device: XpuDevice) -> list[int]:
    """How many functions it can have."""
    return [each.max_instances for each in device.model().profiles if each.layout.startswith("vf")]


def _precheck(devices: list[XpuDevice], *, as_json: bool) -> int:
    iommu, sriov = xpu.has_iommu(), any(_numbers(device) for device in devices)
    off = "Please set the related BIOS settings and kernel command line parameters."
    answer = {
        "iommu_message": "" if iommu else f"IOMMU is disabled. {off}",
        "iommu_status": "Pass" if iommu else "Fail",
        "sriov_message": "" if sriov else f"SR-IOV is disabled. {off}",
        "sriov_status": "Pass" if sriov else "Fail",
        "vmx_flag": "Pass",
        "vmx_message": "",
    }
    code = xpu.OK if iommu and sriov else xpu.NO_SRIOV if iommu else xpu.NO_IOMMU
    if as_json:
        xpu.print_json(answer | ({"errno": code} if code else {}))
        return code
    rows = [
        (name, [f"{word}: {answer[f'{key}_{ending}']}", f"Message: {answer[f'{key}_message']}"])
        for name, word, key, ending in (
            ("VMX Flag", "Result", "vmx", "flag"),
            ("SR-IOV", "Status", "sriov", "status"),
            ("IOMMU", "Status", "iommu", "status"),
        )
    ]
    xpu.print_table(rows)
    return code


def _create(engine: Engine, device: XpuDevice, number: int | None, lmem_mib: int | None) -> None:
    if device.functions:
        raise XpuError("Please clear virtual GPUs first", xpu.DIRTY_PF)
    if number not in _numbers(device):
        raise XpuError("Invalid number of virtual GPUs", xpu.INVALID_NUMVFS)
    memory = next(each.memory_bytes for each in device.model().profiles if each.layout == f"vf{number}")
    if lmem_mib is not None and not 0 < lmem_mib * MIB <= memory:
        raise XpuError("Invalid virtual GPU local memory", xpu.INVALID_LMEM)
    refused, _ = engine.control(f"layout {device.native['index']} vf{number}")
    if refused:
        raise XpuError("Fail to create virtual GPUs", xpu.CREATE_FAILED)


def _remove(engine: Engine, device: XpuDevice, options: argparse.Namespace) -> int:
    if not options.json and not options.assumeyes:
        print("Do you want to remove all virtual GPUs? (y/n)", end="")
        if sys.stdin.readline().strip() not in {"y", "Y"}:
            print("Remove virtual GPUs aborted")
            return xpu.OK
    if device.functions and engine.control(f"layout {device.native['index']} -")[0]:
        raise XpuError("Fail to remove all virtual GPUs", xpu.REMOVE_FAILED)
    if options.json:
        xpu.print_json({"status": "OK"})
    else:
        print(f"All virtual GPUs on the device {options.device} are removed.")
    return xpu.OK


def _list(device: XpuDevice, *, as_json: bool) -> int:
    functions = device.functions
    left = device.native["vram_bytes"] - device.native["reserve_bytes"] - sum(each["memory_bytes"] for each in functions)
    sizes = [("physical", left), *(("virtual", each["memory_bytes"]) for each in functions)]
    if as_json:
        entries = [
            {
                "bdf_address": device.address(number),
                "device_id": "" if number else str(device.index),
                "function_type": kind,
                "lmem_size": size,
            }
            for number, (kind, size) in enumerate(sizes)
        ]
        xpu.print_json({"vf_list": entries})
        return xpu.OK
    xpu.print_list(
        [
            f"PCI BDF Address: {device.address(number)}",
            f"Function Type: {kind}",
            f"Memory Physical Size: {size / MIB:.2f} MiB",
        ]
        for number, (kind, size) in enumerate(sizes)
    )
    return xpu.OK
