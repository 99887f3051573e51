"""What attach.json says about processors: those of the devices' NUMA nodes, as the kernel lists them."""

import json
from pathlib import Path

from msgspec.structs import replace

from mica.enforcer.locality import cpus_of
from mica.enforcer.tenancy import Libraries, Seat, attach_document
from mica.events import LedgerEntry, Mode, Tier
from mica.region import RuntimeDir

ENTRY = LedgerEntry(id="s1", tenant="t", generation=1, tier=Tier.GUARANTEED, mode=Mode.FCSP, vram_bytes=1 << 30, share_ppm=1)


def test_processors_are_those_that_the_kernel_lists(tmp_path: Path) -> None:
    """A NUMA node that this machine does not have, as a simulated one may be, has none that are known."""
    (tmp_path / "node1").mkdir()
    (tmp_path / "node1" / "cpulist").write_text("4-7,12\n")
    assert cpus_of(1, tmp_path) == "4-7,12"
    assert cpus_of(0, tmp_path) == ""
    assert cpus_of(-1, tmp_path) == ""


def test_a_gang_is_near_the_processors_of_all_its_devices(tmp_path: Path) -> None:
    """Each list once; a device whose node is not known adds none."""
    seats = {
        "GPU-0": Seat(entry=ENTRY, visible="GPU-0", numa_node=0, cpus="0-3"),
        "GPU-1": Seat(entry=ENTRY, visible="GPU-1", numa_node=1, cpus="4-7"),
        "GPU-2": Seat(entry=ENTRY, visible="GPU-2", numa_node=1, cpus="4-7"),
        "GPU-3": Seat(entry=ENTRY, visible="GPU-3"),
    }
    document = json.loads(attach_document("n1", "s1", seats, RuntimeDir(tmp_path), Libraries(shims=())))
    assert (document["numa_nodes"], document["cpus"]) == ([0, 1], "0-3,4-7")


def test_what_a_slice_has_of_its_node_is_summed_over_its_devices_here(tmp_path: Path) -> None:
    """Each member of a gang has what the request says; a container that is started in the slice gets all of it."""
    entry = replace(ENTRY, cpu_milli=1500, host_memory_bytes=1 << 30)
    seats = {device: Seat(entry=entry, visible=device) for device in ("GPU-0", "GPU-1")}
    document = json.loads(attach_document("n1", "s1", seats, RuntimeDir(tmp_path), Libraries(shims=())))
    assert (document["cpu_milli"], document["host_memory_bytes"]) == (3000, 2 << 30)
