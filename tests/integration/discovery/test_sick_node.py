"""Faults of a simulated node, through its vendor's library, become health in the inventory and events."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import Struct, json

from mica.events import Device, Health, NodeHealthChanged
from mica.hardware import NodeFile, write_node_desc
from mica.native import LIB_DIR
from mica.vendors import VendorDriver
from mica.vendors.nvidia import NvidiaDriver

PROGRAM = Path(__file__).with_name("sick_node.py")
NODE = b'name = "sick"\n[[device]]\nmodel = "L4"\ncount = 3\n'

pytestmark = pytest.mark.skipif(not (LIB_DIR / "sim" / "libnvidia-ml.so.1").exists(), reason="run `make native` first")


class Row(Struct):
    """What the program prints about a survey."""

    devices: tuple[Device, ...]
    events: tuple[NodeHealthChanged, ...]
    warnings: tuple[str, ...]

    @property
    def health(self) -> list[Health]:
        """By device."""
        return [device.health for device in self.devices]


def survey(tmp_path: Path, *steps: str) -> list[Row]:
    """The surveys after each step."""
    write_node_desc(NodeFile.parse(NODE), tmp_path / "sim")
    environment = os.environ | {"MICA_SIM_DIR": str(tmp_path / "sim"), "MICA_OPENCL": "off"}
    done = subprocess.run([sys.executable, PROGRAM, *steps], env=environment, capture_output=True, check=True, timeout=60)
    return json.decode(done.stdout, type=list[Row])


WELL, SICK = [Health.HEALTHY] * 3, [Health.FAILED, Health.HEALTHY, Health.HEALTHY]


def test_a_lost_device_fails_and_recovers(tmp_path: Path) -> None:
    """It stays listed as it was, in the library's words; the others are as before, and each change is one event."""
    before, lost, still, back = survey(tmp_path, "", "set 0 lost 1", "", "set 0 lost 0")
    assert (before.health, lost.health, still.health, back.health) == (WELL, SICK, SICK, WELL)
    assert "lost" in lost.devices[0].message.lower()
    assert lost.devices[0].model == before.devices[0].model
    assert lost.devices[1:] == before.devices[1:]
    assert [len(row.events) for row in (before, lost, still, back)] == [0, 1, 0, 1]
    (event,) = lost.events
    assert (event.device_id, event.severity, event.health) == (before.devices[0].id, "fatal", Health.FAILED)


def test_a_device_that_hangs_in_its_library_stalls_no_other(tmp_path: Path) -> None:
    """The survey has the others while it still hangs; when the call is back, the next one finds it well."""
    before, hanging, back = survey(tmp_path, "", "set 0 hang_ms 1500", "back")
    assert (before.health, hanging.health, back.health) == (WELL, SICK, WELL)
    assert hanging.devices[0].message == "no answer within 2 s"
    assert [event.kind for event in hanging.events] == ["silent"]
    assert [event.health for event in back.events] == [Health.HEALTHY]


@pytest.mark.skipif(NvidiaDriver.findings is VendorDriver.findings, reason="the adapter tells of no findings")
def test_a_fatal_xid_stays_after_the_library_has_told_of_it(tmp_path: Path) -> None:
    """With its severity and its number."""
    _, fallen, later = survey(tmp_path, "", "event 0 xid 79", "")
    assert (fallen.health, later.health) == (SICK, SICK)
    assert [(event.severity, event.kind, event.code) for event in fallen.events] == [("fatal", "xid", 79)]
    assert later.events == ()
